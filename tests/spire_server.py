"""spire-server in memory, behind the words of its command-line client: what entries and agents do that Evident asks for, as SPIRE 1.13.3
answers (``-output json``). `tests/spire` asks the real one the same.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from evident.errors import EvidentError
from evident.identity import spire_cli
from evident.identity.spire_cli import unusable

_NODE_PARENT = "spiffe://example.org/spire/server"


class FakeSpireServer:
    """`entries` and `agents` as the server would print them; `asked` is every command that it was given."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.agents: dict[str, frozenset[str]] = {}
        """ID to selectors."""
        self.banned: list[str] = []
        self.asked: list[tuple[str, ...]] = []
        self.down = False
        """Out of reach."""

    def client(self, _: Path) -> spire_cli.Ask:
        """In the place of `spire_cli.client`."""
        return self.ask

    def ask(self, *words: str) -> Any:
        self.asked.append(words)
        if self.down:
            raise _unreachable()
        given: dict[str, list[str]] = {}
        rest = [word for word in words[2:] if word != "-node"]
        for name, value in zip(rest[::2], rest[1::2], strict=True):
            given.setdefault(name, []).append(value)
        answer = getattr(self, "_".join(words[:2]))(given)
        return copy.deepcopy(answer)

    def entry_create(self, given: dict[str, list[str]]) -> Any:
        made = {
            "id": given["-entryID"][0],
            "spiffe_id": split(given["-spiffeID"][0]),
            "parent_id": split(given.get("-parentID", [_NODE_PARENT])[0]),
            "selectors": [dict(zip(("type", "value"), each.split(":", 1), strict=True)) for each in given["-selector"]],
            "x509_svid_ttl": int(given.get("-x509SVIDTTL", ["0"])[0]),
        }
        alike = ("spiffe_id", "parent_id", "selectors")
        if any(all(each[name] == made[name] for name in alike) for each in self.entries.values()):
            return {"results": [{"entry": made, "status": {"code": 6, "message": "similar entry already exists"}}]}
        if made["id"] in self.entries:
            return {"results": [{"entry": made, "status": {"code": 6, "message": "UNIQUE constraint failed: registered_entries.entry_id"}}]}
        self.entries[made["id"]] = made
        return {"results": [{"entry": made, "status": {"code": 0, "message": "OK"}}]}

    def entry_show(self, given: dict[str, list[str]]) -> Any:
        found = [each for each in self.entries.values() if each["spiffe_id"] == split(given["-spiffeID"][0])]
        return {"entries": found, "next_page_token": ""}

    def entry_delete(self, given: dict[str, list[str]]) -> Any:
        name = given["-entryID"][0]
        status = {"code": 0, "message": "OK"} if self.entries.pop(name, None) else {"code": 5, "message": "entry not found"}
        return {"results": [{"id": name, "status": status}]}

    def agent_list(self, given: dict[str, list[str]]) -> Any:
        assert given["-attestationType"] == ["evident"]
        assert (given["-banned"], given["-matchSelectorsOn"]) == (["false"], ["superset"])
        wanted = set(given["-selector"])
        found = [name for name, selectors in self.agents.items() if wanted <= selectors and name not in self.banned]
        return {"agents": [{"id": split(name)} for name in found], "next_page_token": ""}

    def agent_ban(self, given: dict[str, list[str]]) -> Any:
        self.banned.append(given["-spiffeID"][0])
        return {}


def split(text: str) -> dict[str, str]:
    domain, _, path = text.removeprefix("spiffe://").partition("/")
    return {"trust_domain": domain, "path": f"/{path}"}


def _unreachable() -> EvidentError:
    return unusable("`entry show` done", "rpc error: code = Unavailable")
