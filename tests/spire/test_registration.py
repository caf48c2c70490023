"""The entries of a machine at a real spire-server: made once, given to the machine that they mean, and gone with its agents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.spire.real import Spire

from evident.errors import Indeterminate, PolicyRefused
from evident.identity import registration, selectors, spire_cli
from evident.identity.registration import Entry, entries, key_id, node_id, register, remove, unit_entries
from evident.identity.spire_cli import Ask
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

NODE = node_id("example.org", "inn", 1)
DISK = "33333333-2222-4333-8444-555555555555"


@pytest.fixture
def ask(spire: Spire) -> Iterator[Ask]:
    told = spire_cli.client(spire.server_socket)
    yield told
    remove(told, NODE, DISK)


@pytest.fixture
def wanted(simulator_pki: SimulatorPki) -> tuple[Entry, Entry]:
    """Those of the stand-in's machine, where this very process takes FetchKey's part: its user is the one thing that it can have."""
    node, key = entries(NODE, DISK, selectors.expected(scenario.good(simulator_pki).reference), b"\xee" * 32)
    return node, replace(key, selectors=frozenset({f"unix:uid:{os.getuid()}"}))


def there(spire: Spire) -> set[str]:
    return {each["id"] for each in json.loads(spire.cli("entry", "show", "-output", "json"))["entries"] if DISK in each["id"]}


def test_as_asked_for_and_once(spire: Spire, ask: Ask, simulator_pki: SimulatorPki) -> None:
    made = entries(NODE, DISK, selectors.expected(scenario.good(simulator_pki).reference), b"\xee" * 32)
    for left in (None, 0, 1):
        if left is not None:
            spire.cli("entry", "delete", "-entryID", made[left].id)
        register(ask, made)
        assert there(spire) == {each.id for each in made}
        assert [registration._shown(ask, each.spiffe_id) for each in made] == [(each,) for each in made], "as the server says it back"
    other = entries(NODE, DISK, ("measurement:00",), b"\xee" * 32)
    register(ask, other)
    assert registration._shown(ask, NODE) == (other[0],), "an entry of ours that said something else was replaced"
    for _ in range(2):
        remove(ask, NODE, DISK)
        assert there(spire) == set()


def test_another_entry_for_its_name(spire: Spire, ask: Ask, wanted: tuple[Entry, Entry]) -> None:
    other = spire.entry(str(key_id(NODE)), ["unix:uid:0"], parent="/any")
    try:
        with pytest.raises(PolicyRefused, match=r"spire\.entry\.other"):
            register(ask, wanted)
        assert there(spire) == set()
    finally:
        spire.cli("entry", "delete", "-entryID", other)


def test_what_it_refuses_is_said(ask: Ask) -> None:
    with pytest.raises(Indeterminate, match=r"spire\.server.*not a member of trust domain"):
        register(ask, entries(node_id("example.net", "inn", 1), DISK, ("measurement:00",), bytes(32)))
    with pytest.raises(Indeterminate, match=r"spire\.server.*invalid characters"):
        register(ask, entries(NODE, "a/b", ("measurement:00",), bytes(32)))


def test_the_machine_gets_its_name_and_loses_it(spire: Spire, ask: Ask, wanted: tuple[Entry, Entry]) -> None:
    """What `revoke` and `down` do at spire-server, by the machine's own measurement; a machine of another measurement goes on."""
    register(ask, wanted)
    name = str(key_id(NODE))
    machine, other = spire.machine().answers(), spire.machine("swap-kernel").answers()
    assert name in machine.identities(name)
    remove(ask, NODE, DISK)
    assert machine.says("banned")
    machine.process.wait(30)
    assert other.process.poll() is None
    assert "banned" not in other.log


def test_two_machines_of_a_unit(spire: Spire, ask: Ask) -> None:
    """Each has an entry for the same name, and goes without taking the other's along."""
    units, other, disk = {"web": 1000, "a.b-c": 1000}, node_id("example.org", "inn", 2), f"4{DISK[1:]}"
    for _ in range(2):
        for node, asked_for in ((NODE, DISK), (other, disk)):
            made = (*entries(node, asked_for, ("measurement:00",), bytes(32)), *unit_entries(node, asked_for, units))
            register(ask, made)
    assert there(spire) == {f"evident-{DISK}-{what}" for what in ("node", "key", "unit-web", "unit-a.b-c")}
    remove(ask, NODE, DISK, units)
    assert there(spire) == set()
    assert len(registration._shown(ask, made[2].spiffe_id)) == 1
    remove(ask, other, disk, units)
    assert registration._shown(ask, made[2].spiffe_id) == ()
