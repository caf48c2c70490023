"""The entries of a machine: the very command lines (SP-14), what a repeated call changes, and whom nobody else's entry lets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.spire_server import FakeSpireServer, split

from evident.errors import Indeterminate, PolicyRefused, UsageError
from evident.identity import registration, spire_cli
from evident.identity.registration import entries, key_id, node_id, register, remove, unit_entries

DISK = "11111111-2222-4333-8444-555555555555"
NODE = node_id("example.org", "shop", 1)
EXPECTED = ("measurement:" + "ab" * 48, "chip_id:" + "cd" * 64)
WANTED = entries(NODE, DISK, EXPECTED, b"\xee" * 32)
ID = "spiffe://example.org/evident/shop/machine/1"
CREATED = [
    (
        *("entry", "create", "-entryID", f"evident-{DISK}-node", "-spiffeID", ID, "-node"),
        *("-selector", "evident:chip_id:" + "cd" * 64, "-selector", "evident:measurement:" + "ab" * 48),
    ),
    (
        *("entry", "create", "-entryID", f"evident-{DISK}-key", "-spiffeID", f"{ID}/key", "-parentID", ID, "-x509SVIDTTL", "300"),
        *("-selector", "unix:path:/usr/bin/python3.13", "-selector", "unix:sha256:" + "ee" * 32, "-selector", "unix:uid:900"),
    ),
]
"""As printed in Fig. 2 of [003], with our values; BW-05 and BW-06."""
LISTED = (
    *("agent", "list", "-attestationType", "evident", "-banned", "false", "-matchSelectorsOn", "superset"),
    *("-selector", "evident:chip_id:" + "cd" * 64, "-selector", "evident:measurement:" + "ab" * 48),
)
AGENT = "spiffe://example.org/spire/agent/evident/00112233445566778899aabbccddeeff"


@pytest.fixture
def server() -> FakeSpireServer:
    return FakeSpireServer()


def test_the_command_lines(server: FakeSpireServer) -> None:
    register(server.ask, WANTED)
    assert [words for words in server.asked if words[:2] == ("entry", "create")] == CREATED
    server.asked.clear()
    server.agents[AGENT] = frozenset(CREATED[0][8::2]) | {"evident:level:nominal:1"}
    remove(server.ask, NODE, DISK)
    assert server.asked == [
        ("entry", "delete", "-entryID", f"evident-{DISK}-key"),
        ("entry", "show", "-spiffeID", ID),
        LISTED,
        ("agent", "ban", "-spiffeID", AGENT),
        ("entry", "delete", "-entryID", f"evident-{DISK}-node"),
    ]


def test_done_again_it_finds_all_done(server: FakeSpireServer) -> None:
    register(server.ask, WANTED)
    server.asked.clear()
    register(server.ask, WANTED)
    assert {words[:2] for words in server.asked} == {("entry", "show")}
    for _ in range(2):
        remove(server.ask, NODE, DISK)
        assert server.entries == {}


@pytest.mark.parametrize("left", [0, 1])
def test_what_a_crash_left_is_carried_on_with(server: FakeSpireServer, left: int) -> None:
    register(server.ask, WANTED)
    del server.entries[WANTED[left].id]
    register(server.ask, WANTED)
    assert server.entries.keys() == {each.id for each in WANTED}


def test_an_entry_of_ours_that_says_something_else_is_replaced(server: FakeSpireServer) -> None:
    register(server.ask, entries(NODE, DISK, ("measurement:00",), b"\xee" * 32))
    register(server.ask, WANTED)
    assert {f"{each['type']}:{each['value']}" for each in server.entries[WANTED[0].id]["selectors"]} == WANTED[0].selectors


def foreign(server: FakeSpireServer) -> None:
    """Somebody's entry for the name of this machine's FetchKey, which any process of any machine of theirs would match."""
    server.ask(
        "entry", "create", "-entryID", "mine", "-spiffeID", f"{ID}/key", "-parentID", "spiffe://example.org/x", "-selector", "unix:uid:0"
    )


@pytest.mark.attack("AT-53", "An entry of somebody else's gives this machine's name to another process.", "spire.entry.other", "refused")
def test_another_entry_for_its_name_is_refused(server: FakeSpireServer) -> None:
    foreign(server)
    with pytest.raises(PolicyRefused, match=r"spire\.entry\.other.*'mine'"):
        register(server.ask, WANTED)
    assert server.entries.keys() == {"mine"}


@pytest.mark.attack("AT-53", "An entry of somebody else's gives this machine's name to another process.", "spire.entry.other", "succeeds")
def test_with_that_check_off_two_match_one_name(server: FakeSpireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(server)
    monkeypatch.setattr(registration, "check_alone", lambda *_: None)
    register(server.ask, WANTED)
    named = [each for each in server.entries.values() if each["spiffe_id"] == split(f"{ID}/key")]
    assert len(named) == 2, "whoever has either gets the SVID that the disk key goes to"


def test_only_agents_of_this_machine_are_banned(server: FakeSpireServer) -> None:
    register(server.ask, WANTED)
    server.agents = {AGENT: WANTED[0].selectors, AGENT[:-1] + "0": frozenset(list(WANTED[0].selectors)[:1])}
    remove(server.ask, NODE, DISK)
    assert server.banned == [AGENT]


ANSWERS: dict[str, Any] = {
    "no members": {},
    "another member": {"entries": {}},
    "an entry without an ID": {"entries": [{"selectors": []}]},
    "an ID that is none": {"entries": [{"id": "x", "selectors": [], "spiffe_id": {"trust_domain": "A", "path": "/"}}]},
    "no object": [],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_of_another_form(answer: Any) -> None:
    with pytest.raises(Indeterminate, match=r"spire\.server"):
        register(lambda *_: answer, WANTED)


def test_what_the_server_refuses(server: FakeSpireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"results": [{"status": {"code": 3, "message": "not a member of trust domain"}}]}
    monkeypatch.setattr(server, "entry_create", lambda _: refusal)
    monkeypatch.setattr(server, "entry_delete", lambda _: {"results": [{"status": {"code": 5, "message": ""}}]})
    with pytest.raises(Indeterminate, match="not a member of trust domain"):
        register(server.ask, WANTED)
    monkeypatch.setattr(server, "entry_delete", lambda _: refusal)
    with pytest.raises(Indeterminate, match=r"deleted.*not a member"):
        remove(server.ask, NODE, DISK)


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `spire-server` of this text, alone in PATH."""
    path = folder / spire_cli.PROGRAM
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_words_reach_the_program_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, 'printf \'["%s","%s","%s","%s","%s","%s","%s","%s"]\' "$@"', monkeypatch)
    told = spire_cli.client(Path("/run/a b.sock"))("entry", "show", "-spiffeID", "$(x);y")
    assert told == ["entry", "show", "-socketPath", "/run/a b.sock", "-output", "json", "-spiffeID", "$(x);y"]


def test_a_program_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = spire_cli.client(tmp_path / "api.sock")
    program(tmp_path, "echo no such socket >&2; exit 1", monkeypatch)
    with pytest.raises(Indeterminate, match=r"spire\.server.*no such socket"):
        ask("entry", "show")
    program(tmp_path, "exec sleep 9", monkeypatch)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(spire_cli, "TIMEOUT", 0.05)
    with pytest.raises(Indeterminate, match=r"spire\.server.*TimeoutExpired"):
        ask("entry", "show")
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"spire\.missing"):
        ask("entry", "show")


def test_names() -> None:
    assert (str(NODE), str(key_id(NODE))) == (ID, f"{ID}/key")
    assert str(node_id("example.org", "shop", 3, 2)) == "spiffe://example.org/evident/shop/machine/3.2"


UNITS = {"web": 1000, "exporter": 1001}
WEB = "spiffe://example.org/evident/shop/unit/web"


def test_a_unit_is_who_its_machine_and_its_user_are(server: FakeSpireServer) -> None:
    """BW-18, SP-23."""
    register(server.ask, (*WANTED, *unit_entries(NODE, DISK, UNITS)))
    web = server.entries[f"evident-{DISK}-unit-web"]
    assert (web["spiffe_id"], web["parent_id"], web["selectors"]) == (split(WEB), split(ID), [{"type": "unix", "value": "uid:1000"}])
    assert len(server.entries) == 4
    server.asked.clear()
    register(server.ask, (*WANTED, *unit_entries(NODE, DISK, UNITS)))
    assert {words[:2] for words in server.asked} == {("entry", "show")}
    remove(server.ask, NODE, DISK, UNITS)
    assert server.entries == {}


def test_a_unit_has_one_name_on_every_machine(server: FakeSpireServer) -> None:
    other, disk = node_id("example.org", "shop", 2, 3), f"2{DISK[1:]}"
    for node, asked_for in ((NODE, DISK), (other, disk)):
        register(server.ask, (*entries(node, asked_for, EXPECTED, b"\xee" * 32), *unit_entries(node, asked_for, UNITS)))
    remove(server.ask, NODE, DISK, UNITS)
    assert server.entries.keys() == {f"evident-{disk}-{what}" for what in ("node", "key", "unit-web", "unit-exporter")}


@pytest.mark.parametrize(
    ("spiffe_id", "parent"),
    [
        (WEB, "spiffe://example.org/evident/shop-of-others/machine/1"),
        (WEB, ID),
        (f"{ID}/key", "spiffe://example.org/evident/shop/machine/2"),
        (ID, "spiffe://example.org/evident/shop/machine/2"),
    ],
)
def test_no_other_entry_for_a_unit_or_by_a_neighbour_for_the_machine(server: FakeSpireServer, spiffe_id: str, parent: str) -> None:
    server.ask("entry", "create", "-entryID", "mine", "-spiffeID", spiffe_id, "-parentID", parent, "-selector", "unix:uid:0")
    with pytest.raises(PolicyRefused, match=r"spire\.entry\.other.*'mine'"):
        register(server.ask, (*WANTED, *unit_entries(NODE, DISK, UNITS)))
