"""Named secrets beside a disk's key, or without one: for the attested machine that its owner means, and for no other.

Agent and key server over loopback, and the guest's own first process up to the workload; every check off, where the secret is had, and on.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.test_release import DISK, KEY, OTHER_DISK, OTHER_KEY, Desk, attack, boot, expected
from tests.spire.stand_in import StandIn

from evident.appraisal import rules
from evident.errors import EvidentError, Malformed, NotAuthentic
from evident.guest import init
from evident.guest.config import Unit
from evident.guest.console import Console
from evident.guest.http import Server
from evident.guest.steps import secrets as step
from evident.keys import messages, release
from evident.keys.messages import Volume
from evident.keys.store import Held, RootVolume
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

VALUE, OTHER_VALUE = b"the password of the database", b"another machine's password"
NAME = "22222222-2222-3333-4444-555555555555"
"""Under which a machine without a disk to open asks for its secrets."""


def terms(disk: str, chip: str, key: bytes, value: bytes) -> tuple[RootVolume, Held]:
    volume = RootVolume(1, disk, "image", nominal=4, trustworthy=4, identities={"chip_id": (chip,)}, secrets=("db",))
    return volume, Held(key, {"db": value})


@pytest.fixture
def desk(tmp_path: Path, simulator_pki: SimulatorPki) -> Desk:
    """Two machines' disks with a secret each, and a machine that has no disk to open; one chip may have the first and the last."""
    machine = scenario.good(simulator_pki)
    made = Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))
    chip = machine.chip.chip_id.hex()
    for volume, held in (
        terms(DISK, chip, KEY, VALUE),
        terms(OTHER_DISK, "ab" * 64, OTHER_KEY, OTHER_VALUE),
        terms(NAME, chip, b"", VALUE),
    ):
        made.volumes.put(volume)
        made.secrets.put(volume, held)
    return made


def test_they_come_with_the_disk_s_key_and_are_logged_by_name(desk: Desk) -> None:
    with desk.serving() as server:
        volume = boot(desk, server)
    assert (volume.key, volume.secrets) == (KEY, {"db": VALUE})
    assert [(entry.event, entry.secrets) for entry in desk.log.entries()] == [("challenged", ()), ("released", ("db",)), ("confirmed", ())]


def test_they_come_to_a_machine_without_a_disk_too(desk: Desk) -> None:
    with desk.serving() as server:
        volume = boot(desk, server, disk=NAME)
    assert (volume.key, volume.secrets) == (b"", {"db": VALUE})


def test_as_much_as_there_may_be_arrives(desk: Desk) -> None:
    many = {f"secret-{number:02}": os.urandom(1024) for number in range(64)}
    volume = replace(desk.volumes.get(DISK), secrets=tuple(many))
    desk.volumes.put(volume)
    desk.secrets.put(volume, Held(KEY, many))
    with desk.serving() as server:
        assert boot(desk, server).secrets == many


def test_no_value_is_in_any_file_or_log(desk: Desk) -> None:
    with desk.serving() as server:
        assert boot(desk, server).secrets == {"db": VALUE}
    forms = (VALUE, VALUE.hex().encode(), base64.b64encode(VALUE), repr(VALUE).encode())
    for path in (path for path in desk.root.rglob("*") if path.is_file()):
        assert not any(form in path.read_bytes() for form in forms), path
    assert not any(form.decode() in line for form in forms for line in desk.events)
    assert VALUE.decode() not in repr(Held(KEY, {"db": VALUE})) + repr(Volume(1, DISK, KEY, secrets={"db": VALUE}))


@attack("BW-21", "A machine asks for the secrets of another one.", "policy.identity")
def test_another_machine_s_secrets(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(rules, "_identity", lambda *_: ())
    with expected(desk, "policy.identity", checked=checked), desk.serving() as server:
        assert boot(desk, server, disk=OTHER_DISK).secrets == {"db": OTHER_VALUE}


@attack("BW-19", "A machine that was revoked asks for its secrets again.", "keys.revoked")
def test_a_revoked_machine(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(release, "check_revoked", lambda *_: None)
    with desk.serving() as server:
        assert boot(desk, server, disk=NAME).secrets
        desk.service.revoke("disk", NAME, "stolen")
        with expected(desk, "keys.revoked", checked=checked, before=1):
            assert boot(desk, server, disk=NAME).secrets == {"db": VALUE}


@attack("BW-19", "The terms of a secret are changed in the store, or its file replaced by another machine's.", "keys.store.altered")
@pytest.mark.parametrize("change", ["terms", "file"])
def test_an_altered_store(desk: Desk, monkeypatch: pytest.MonkeyPatch, change: str, checked: bool) -> None:
    """By whoever can write there and cannot unwrap."""
    if not checked:
        monkeypatch.setattr("evident.keys.store.terms_digest", lambda _volume: b"any")
        desk.secrets.put(*terms(OTHER_DISK, "ab" * 64, OTHER_KEY, OTHER_VALUE))
    if change == "terms":
        desk.volumes.put(replace(desk.volumes.get(OTHER_DISK), identities={}))
        asked = OTHER_DISK
    else:
        folder = desk.root / "keys" / "secrets"
        shutil.copy(folder / f"{OTHER_DISK}.json", folder / f"{NAME}.json")
        asked = NAME
    with expected(desk, "keys.store.altered", checked=checked), desk.serving() as server:
        assert boot(desk, server, disk=asked).secrets == {"db": OTHER_VALUE}


@pytest.mark.parametrize("named", [(), ("db", "more")])
def test_what_the_terms_do_not_name_is_not_released(desk: Desk, named: tuple[str, ...]) -> None:
    volume = replace(desk.volumes.get(DISK), secrets=named)
    desk.volumes.put(volume)
    desk.secrets.put(volume, Held(KEY, {"db": VALUE}))
    with pytest.raises(EvidentError, match=r"keys\.store\.altered"), desk.serving() as server:
        boot(desk, server)
    assert desk.released() == 0


@attack("BW-09", "A key server sends a secret whose name leads out of the place for secrets.", "secrets.name")
def test_a_name_that_leads_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    sent = b'{"version": 1, "disk": "x", "key": "", "secrets": {"../../../loaded-at-start": "61"}}'
    if not checked:
        monkeypatch.setattr(messages.secrets, "check_names", lambda _names: None)
        unit = Unit("shop", ("/usr/bin/true",), os.getuid(), secrets=("../../../loaded-at-start",))
        step.write((unit,), messages.loads(Volume, sent).secrets, tmp_path / "run" / "secrets")
        assert (tmp_path / "loaded-at-start").exists()
        return
    with pytest.raises(Malformed, match=r"secrets\.name"):
        messages.loads(Volume, sent)


class Machine:
    """The guest's first process, on a host that shows it a network and a secure processor, up to where the workload would start."""

    def __init__(
        self,
        desk: Desk,
        server: Server,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        machine: scenario.Scenario,
        *,
        asks: str = NAME,
        secrets: tuple[str, ...] = ("db",),
    ) -> None:
        self.said: list[str] = []
        self.started: list[str] = []
        self.place = folder / "run" / "secrets"
        line = f"evident.machine={asks} evident.key={desk.pin.hex()} evident.verifier=127.0.0.1:{server.port}" if asks else ""
        (folder / "cmdline").write_text(f"evident.mode=microcvm {line}")
        unit = {"name": "shop", "command": ["/usr/bin/true"], "owner": os.getuid(), "secrets": secrets}
        (folder / "guest.json").write_text(json.dumps({"units": [unit]}))
        self.off = False
        nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
        write = step.write
        for where, name, instead in (
            (init, "COMMAND_LINE", folder / "cmdline"),
            (init, "CONFIGURATION", folder / "guest.json"),
            (init, "_console", lambda: Console(self.said.append)),
            (init.devices, "mount_kernel_file_systems", nothing),
            (init.devices, "load_modules", lambda: (0, ())),
            (init.devices, "mount_optional", nothing),
            (init, "_network", nothing),
            (init.apart, "run", lambda work: work()),  # here, where it can be looked at
            (init.collectors, "answer", lambda _sources, question: (StandIn(machine).collect(question),)),
            (step, "write", lambda units, released: write(units, released, self.place)),
            (init.Supervisor, "run", self._run),
            (init.libc, "power_off", self._power_off),
        ):
            monkeypatch.setattr(where, name, instead)

    def _run(self, units: Sequence[Unit], _elsewhere: Mapping[str, int]) -> None:
        self.started += [unit.name for unit in units]

    def _power_off(self) -> None:
        self.off = True


def test_the_workload_finds_its_secrets(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.serving() as server:
        machine = Machine(desk, server, tmp_path, monkeypatch, desk.machine)
        init.main()
    assert machine.started == ["shop"]
    assert (machine.place / "shop" / "db").read_bytes() == VALUE
    steps = [line.split()[3] for line in machine.said if " done " in line]
    assert steps == ["devices", "key", "challenge", "evidence", "release", "secrets"]
    assert VALUE.decode() not in "".join(machine.said)


@attack("BW-19", "A guest that is denied its secrets starts its workload all the same.", "guest.denied")
def test_a_machine_that_is_denied_starts_nothing(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    cheating = scenario.ATTACKS["swap-command-line"].on(desk.machine)
    with desk.serving() as server:
        machine = Machine(desk, server, tmp_path, monkeypatch, cheating)
        init.main()
    assert machine.off
    assert bool(machine.started) is machine.place.exists() is not checked
    assert any("guest.denied" in line for line in machine.said) is checked


EMPTY = "33333333-2222-3333-4444-555555555555"
"""Under which a machine asks that has nothing to get."""


def register_nothing(desk: Desk) -> None:
    volume = replace(desk.volumes.get(NAME), disk=EMPTY, secrets=())
    desk.volumes.put(volume)
    desk.secrets.put(volume, Held(b""))


@attack("EI-03", "A machine that has nothing to get starts its units though nobody accepted it.", "guest.denied")
def test_a_machine_that_attests_first_starts_nothing_when_it_is_denied(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """Its command line has it ask; without that it asks nobody."""
    register_nothing(desk)
    cheating = scenario.ATTACKS["swap-command-line"].on(desk.machine)
    with desk.serving() as server:
        machine = Machine(desk, server, tmp_path, monkeypatch, cheating, asks=EMPTY if checked else "", secrets=())
        init.main()
    assert machine.off
    assert machine.started == ([] if checked else ["shop"])
    assert any("guest.denied" in line for line in machine.said) is checked


def test_a_machine_that_attests_first_starts_once_it_is_accepted(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_nothing(desk)
    with desk.serving() as server:
        machine = Machine(desk, server, tmp_path, monkeypatch, desk.machine, asks=EMPTY, secrets=())
        init.main()
    assert machine.started == ["shop"]
    assert not machine.place.exists()
    assert [entry.event for entry in desk.log.entries()] == ["challenged", "released", "confirmed"]


def test_a_unit_whose_secret_nobody_asks_for_is_not_started(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.serving() as server:
        machine = Machine(desk, server, tmp_path, monkeypatch, desk.machine, asks="")
        init.main()
    assert (machine.started, machine.off) == ([], True)
    assert any("failed guest.secret" in line for line in machine.said)


def test_a_machine_whose_secrets_cannot_be_placed_starts_nothing(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with desk.serving() as server:
        machine = Machine(desk, server, tmp_path, monkeypatch, desk.machine)
        machine.place.mkdir(parents=True)  # somebody was there before
        init.main()
    assert (machine.started, machine.off) == ([], True)
    assert any("step 8 secrets failed" in line for line in machine.said)


def test_what_comes_under_another_name_is_not_taken(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        desk.service._volumes, "get", lambda _disk: replace(desk.volumes.__class__.get(desk.volumes, OTHER_DISK), identities={})
    )
    monkeypatch.setattr(desk.secrets, "get", lambda _volume: Held(OTHER_KEY, {"db": OTHER_VALUE}))
    with pytest.raises(NotAuthentic, match=r"guest\.other-disk"), desk.serving() as server:
        boot(desk, server)
