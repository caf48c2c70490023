"""The entries by which spire-server gives a machine its names.

    spiffe://TD/evident/NAME/machine/NUMBER        node entry: an agent whose attestation found all that is expected of this machine
    spiffe://TD/evident/NAME/machine/NUMBER/key    below it, FetchKey alone: its user, its interpreter's path, and that file byte by byte
    spiffe://TD/evident/NAME/unit/UNIT             below it, every unit that has an SVID of its own, by its user: the same on every machine

NUMBER.LIFE from the second life of the deployment on.
They are called ``evident-DISK-node``, ``evident-DISK-key`` and ``evident-DISK-unit-UNIT``, so that a call after a crash finds what the one
before it made: repeating any of these changes nothing.

Source: SPIRE 1.13.3, `spire-server entry create|show|delete`, `agent list|ban` (`evident.identity.spire_cli`), and
pkg/server/datastore/sqlstore: an entry's ID is of letters, digits and ``- . _``; of entries with one SPIFFE ID, parent and selectors there
is one at most; a banned agent has no serial number there, and gets no other SVID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from evident.errors import EvidentError, PolicyRefused
from evident.identity import spiffe_id
from evident.identity.spiffe_id import SpiffeId
from evident.identity.spire_cli import Ask, unusable

T = TypeVar("T")

ATTESTOR: Final = "evident"
"""Our node attestor's name, and the type of its selectors."""
FETCH_KEY_USER: Final = 900
INTERPRETER: Final = "/usr/bin/python3.13"
KEY_SECONDS: Final = 300
"""For how long an SVID of FetchKey's is good: it is needed once, at boot, and must not outlive by much what its machine is allowed."""
_SERVER: Final = "/spire/server"
_OK, _NOT_FOUND = 0, 5
"""gRPC status codes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says, as far as it is of interest here."""

    id: str
    spiffe_id: SpiffeId
    parent: SpiffeId
    selectors: frozenset[str]
    """``type:value`` each."""
    seconds: int = 0
    """How long an X.509-SVID of it is good; 0: as long as the server's usually are."""


def node_id(trust_domain: str, deployment: str, number: int, life: int = 1) -> SpiffeId:
    """The machine's own name. A deployment's next `life` has others: an SVID of the one before may not have ended yet."""
    return SpiffeId(trust_domain, f"/evident/{deployment}/machine/{number}" + (f".{life}" if life > 1 else ""))


def key_id(node: SpiffeId) -> SpiffeId:
    """The name of what fetches the disk key on the machine `node`."""
    return SpiffeId(node.trust_domain, f"{node.path}/key")


def entries(node: SpiffeId, disk: str, expected: Iterable[str], interpreter: bytes) -> tuple[Entry, Entry]:
    """Those of the machine `node` that asks for `disk`: `expected` values of our node attestor, SHA-256 of its initrd's interpreter."""
    found = frozenset(f"{ATTESTOR}:{value}" for value in expected)
    process = frozenset({f"unix:uid:{FETCH_KEY_USER}", f"unix:path:{INTERPRETER}", f"unix:sha256:{interpreter.hex()}"})
    return (
        Entry(_name(disk, "node"), node, SpiffeId(node.trust_domain, _SERVER), found),
        Entry(_name(disk, "key"), key_id(node), node, process, KEY_SECONDS),
    )


def unit_entries(node: SpiffeId, disk: str, units: Mapping[str, int]) -> tuple[Entry, ...]:
    """Those of `units` on the machine `node` that asks for `disk`: name and number of its user each."""
    return tuple(
        Entry(_name(disk, f"unit-{name}"), SpiffeId(node.trust_domain, f"{_units(node)}{name}"), node, frozenset({f"unix:uid:{user}"}))
        for name, user in units.items()
    )


def register(ask: Ask, wanted: Sequence[Entry]) -> None:
    """Have these entries, and no other, for their SPIFFE IDs. Raises `PolicyRefused` ``spire.entry.other`` where there is one that was not
    made for this machine: whoever matches that would be given its name.
    """
    there = {entry.id: entry for each in wanted for entry in _shown(ask, each.spiffe_id) if not _on_another_machine(entry, each)}
    check_alone(there, wanted)
    for entry in wanted:
        if there.get(entry.id) != entry:
            _delete(ask, entry.id)
            _create(ask, entry)


def check_alone(there: Mapping[str, Entry], wanted: Sequence[Entry]) -> None:
    """Of the entries that are `there` for the names of those `wanted`, by ID, none is another's."""
    for name in sorted(there.keys() - {each.id for each in wanted}):
        raise PolicyRefused.of(
            "spire.entry.other",
            expected=f"no entry for {there[name].spiffe_id} but that of this machine",
            found=f"entry {name!r}",
            remedy="Whoever matches it gets this machine's name. Delete it (`spire-server entry delete`) if no other deployment needs it; "
            "else choose another name for this one.",
            layer="identity",
        )


def remove(ask: Ask, node: SpiffeId, disk: str, units: Iterable[str] = ()) -> None:
    """Nobody is given the names of the machine `node` for `disk`, and of its `units`, any more, and the agents that were are banned."""
    for what in (*(f"unit-{name}" for name in units), "key"):
        _delete(ask, _name(disk, what))
    for entry in _shown(ask, node):
        if entry.id == _name(disk, "node"):
            ban(ask, entry)
    _delete(ask, _name(disk, "node"))


def ban(ask: Ask, node: Entry) -> tuple[SpiffeId, ...]:
    """Ban every agent of our attestor that the entry `node` matches; those that were not before."""
    attestor = ("-attestationType", ATTESTOR, "-banned", "false", "-matchSelectorsOn", "superset")
    answer = ask("agent", "list", *attestor, *_selectors(node))
    agents = _read(lambda: tuple(_id(each["id"]) for each in answer["agents"]))
    for agent in agents:
        ask("agent", "ban", "-spiffeID", str(agent))
    return agents


def _units(node: SpiffeId) -> str:
    """Where the names of the units are that the machine `node` has with every other of its deployment."""
    return node.path.rpartition("/machine/")[0] + "/unit/"


def _on_another_machine(found: Entry, wanted: Entry) -> bool:
    """Whether `found` is for the same unit as `wanted`, on another machine of the same deployment."""
    same = found.parent.path.startswith(wanted.parent.path.rpartition("/")[0] + "/")
    return same and found.parent != wanted.parent and wanted.spiffe_id.path.startswith(_units(wanted.parent))


def _name(disk: str, what: str) -> str:
    return f"evident-{disk}-{what}"


def _selectors(entry: Entry) -> tuple[str, ...]:
    return tuple(word for each in sorted(entry.selectors) for word in ("-selector", each))


def _create(ask: Ask, entry: Entry) -> None:
    whose = ("-node",) if entry.parent.path == _SERVER else ("-parentID", str(entry.parent))
    lasting = ("-x509SVIDTTL", str(entry.seconds)) if entry.seconds else ()
    answer = ask("entry", "create", "-entryID", entry.id, "-spiffeID", str(entry.spiffe_id), *whose, *lasting, *_selectors(entry))
    code, message = _read(lambda: _status(answer))
    if code != _OK:
        raise unusable(f"entry {entry.id} made", message)


def _delete(ask: Ask, name: str) -> None:
    answer = ask("entry", "delete", "-entryID", name)
    code, message = _read(lambda: _status(answer))
    if code not in (_OK, _NOT_FOUND):
        raise unusable(f"entry {name} deleted", message)


def _shown(ask: Ask, of: SpiffeId) -> tuple[Entry, ...]:
    answer = ask("entry", "show", "-spiffeID", str(of))
    return _read(lambda: tuple(map(_entry, answer["entries"])))


def _status(answer: Any) -> tuple[int, str]:
    status = answer["results"][0]["status"]
    return int(status["code"]), str(status["message"])[:300]


def _entry(said: Any) -> Entry:
    selectors = frozenset(f"{each['type']}:{each['value']}" for each in said["selectors"])
    return Entry(str(said["id"]), _id(said["spiffe_id"]), _id(said["parent_id"]), selectors, int(said["x509_svid_ttl"]))


def _id(said: Any) -> SpiffeId:
    return spiffe_id.parse(f"{spiffe_id.SCHEME}{said['trust_domain']}{said['path']}")


def _read(look: Callable[[], T]) -> T:
    """What `look` finds in an answer, which is of another program, and perhaps of another release than this was written for."""
    try:
        return look()
    except (LookupError, TypeError, ValueError, EvidentError) as error:
        raise unusable("an answer of the form that SPIRE 1.13 gives", f"another one ({type(error).__name__})") from None
