"""A disk that its machine opens again by itself: enrolled, tried first, given up for the key server, and whole though power fails.

cryptsetup is the real one, on the copy of the header in memory; that the kernel opens the volume is shown by real boots (tests/boot).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.unit.guest.test_sources import deriver
from tests.unit.image.test_seal import opens, sealed

from evident.errors import Malformed, NotAuthentic
from evident.guest import init, luks_header, sealing
from evident.guest.config import CommandLine, Configuration, parse_command_line
from evident.guest.console import Console
from evident.guest.steps import disk, reopen
from evident.image import seal
from evident.keys.messages import Volume
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario

pytestmark = pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="not installed: cryptsetup (Debian: cryptsetup-bin)")
LINE = CommandLine("encrypted", "hardware", data="the disk", reopened="launch")
KEY = bytes(range(64))


@dataclass
class Machine:
    """One disk, and a launch that changes."""

    device: Path
    folder: Path
    launched: Scenario
    said: list[str]

    @property
    def console(self) -> Console:
        return Console(self.said.append)

    def way(self) -> reopen.Way:
        derive = partial(sealing.launch_key, deriver(self.launched, self.folder), reopen.LABEL)
        return reopen.Way(derive, derive, "")

    def opened(self) -> bool:
        return reopen.opened(self.console, LINE, "evident-data")

    def enrol(self) -> None:
        reopen.enrol(self.console, LINE, self.device, bytes(bytearray(KEY)))


@pytest.fixture
def machine(tmp_path: Path, simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "disk", tmp_path, scenario.good(simulator_pki), [])
    made.device.write_bytes(sealed(key=KEY)[: seal.DATA_OFFSET])
    run = disk.run_tool

    def without_device_mapper(command: tuple[str, ...], *words: str, **named: Any) -> None:
        if command[1] == "open":
            command = (*command[: command.index("--header")], "--test-passphrase", str(disk.HEADER))
        run(command, *words, **named)

    monkeypatch.setattr(disk, "run_tool", without_device_mapper)
    monkeypatch.setattr(disk, "CRYPTSETUP", str(shutil.which("cryptsetup")))
    monkeypatch.setattr(disk, "HEADER", tmp_path / "header")
    monkeypatch.setattr(disk, "partition", lambda _identifier: made.device)
    monkeypatch.setattr(reopen, "way", lambda _line: made.way())
    return made


def another_kernel(launched: Scenario) -> Scenario:
    return scenario.ATTACKS["swap-kernel"].on(launched)


def another_chip(launched: Scenario) -> Scenario:
    return replace(launched, chip=replace(launched.chip, chip_id=b"\7" * 64))


def debugged(launched: Scenario) -> Scenario:
    """The same, under a guest policy that lets the host read its memory."""
    return replace(launched, launched=replace(launched.launched, policy=launched.launched.policy | 1 << 19))


OTHERS = {"another kernel": another_kernel, "another chip": another_chip, "debugging allowed": debugged}


def test_a_disk_that_was_released_once_opens_by_its_launch(machine: Machine) -> None:
    """RV-09, BW-25: first the key server, then the launch; and the released key opens it as before."""
    assert not machine.opened()
    assert "guest.reopen.nothing" in machine.said[-1]
    machine.enrol()
    assert "enrolled: later boots of this launch reopen by launch" in machine.said[-1]
    assert machine.opened()
    assert "reopened by launch, without the key server" in machine.said[-1]
    assert opens(machine.device, KEY)
    assert set(luks_header.check(machine.device.read_bytes()).slots) == {"0", "1"}
    assert not disk.HEADER.exists()


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.attack("RV-09", "A machine of another launch, or on another chip, tries the disk.", "guest.luks.key", "refused")
def test_another_launch_asks_the_key_server_and_enrols_anew(machine: Machine, other: str) -> None:
    first = machine.launched
    machine.enrol()
    machine.launched = OTHERS[other](first)
    assert not machine.opened()
    assert "so the key server is asked: guest.luks.key" in machine.said[-1]
    machine.enrol()
    assert machine.opened()
    machine.launched = first
    assert not machine.opened(), "there is one such slot, the last launch's"


@pytest.mark.attack("RV-09", "Another kernel asks the chip for the key.", "guest.luks.key", "succeeds")
def test_a_key_that_the_measurement_is_not_in_opens_for_any_kernel(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "FIELDS", sealing.POLICY)
    machine.enrol()
    machine.launched = another_kernel(machine.launched)
    assert machine.opened()


def test_a_released_boot_goes_on_where_nothing_can_be_enrolled(machine: Machine) -> None:
    before = machine.device.read_bytes()
    reopen.enrol(machine.console, LINE, machine.device, b"a key of another disk" * 3)
    assert "not enrolled, so the next boot asks the key server again: guest.reopen.slot" in machine.said[-1]
    assert machine.device.read_bytes() == before


@pytest.mark.attack("AT-10", "A machine reopens by its launch though that does not measure what it boots.", "plan.reopened-by", "succeeds")
def test_a_launch_that_does_not_measure_the_kernel_opens_for_any(machine: Machine) -> None:
    """So a document that has firmware boot the disk is refused (`tests/unit/lifecycle/test_plan.py`)."""

    def booting_its_disk(scene: Scenario) -> Scenario:
        return replace(scene, launched=replace(scene.launched, kernel_hashes=False))

    machine.launched = booting_its_disk(machine.launched)
    machine.enrol()
    machine.launched = booting_its_disk(another_kernel(machine.launched))
    assert machine.opened()


GOOD = (
    f"evident.mode=encrypted evident.data={'1' * 8}-2222-3333-4444-{'5' * 12} evident.hashoffset=4096 evident.verifier=10.0.2.2:8443 "
    f"evident.key={'ab' * 32} roothash={'cd' * 32} evident.tee=hardware"
)


def test_the_measured_command_line_says_whether_and_how() -> None:
    assert [parse_command_line(GOOD + more).reopened for more in ("", " evident.reopened=launch", " evident.reopened=tpm")] == [
        None,
        "launch",
        "tpm",
    ]
    for line in (f"{GOOD} evident.reopened=key-server", f"{GOOD} evident.reopened=", "evident.mode=microcvm evident.reopened=launch"):
        with pytest.raises(Malformed, match=r"guest\.config\.reopened"):
            parse_command_line(line)


@pytest.mark.parametrize("opens", [True, False], ids=["reopened", "asked for"])
@pytest.mark.parametrize("way", ["", " evident.reopened=tpm"], ids=["by default", "where the line says so"])
def test_a_boot_asks_the_key_server_unless_the_line_says_otherwise_and_the_disk_opens(
    monkeypatch: pytest.MonkeyPatch, way: str, opens: bool
) -> None:
    done: list[str] = []

    def doing(what: str, result: object) -> Callable[..., object]:
        def do(*_: object) -> object:
            done.append(what)
            return result

        return do

    monkeypatch.setattr(disk, "partition", Path)
    monkeypatch.setattr(disk, "open_luks", lambda *_, mend: done.append(f"luks, mended: {mend}"))
    monkeypatch.setattr(reopen, "opened", doing("tried", opens))
    monkeypatch.setattr(reopen, "enrol", doing("enrolled", None))
    monkeypatch.setattr(init, "attest", doing("released", Volume(1, "disk", KEY)))
    init._released(Console(lambda _: None), init.Machine(parse_command_line(GOOD + way), Configuration(())))
    if not way:
        assert done == ["released", "luks, mended: False"]
    else:
        assert done == (["tried"] if opens else ["tried", "released", "enrolled", "luks, mended: True"])


def snapshots(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The disk before it is written, and each time that it was told to keep what it has."""
    seen = [machine.device.read_bytes()]
    with monkeypatch.context() as watched:
        watched.setattr(os, "fsync", lambda _descriptor: seen.append(machine.device.read_bytes()))
        machine.enrol()
    return seen


def enrolled_by_another(machine: Machine) -> None:
    machine.enrol()
    machine.launched = another_chip(machine.launched)


def cut_short(copy: int) -> Callable[[Machine], None]:
    def stop(machine: Machine) -> None:
        enrolled_by_another(machine)
        raw = bytearray(machine.device.read_bytes())
        at = copy * seal.HEADER_BYTES + 4096
        raw[at : at + 512] = bytes(512)
        machine.device.write_bytes(bytes(raw))

    return stop


BEFORE: dict[str, tuple[Callable[[Machine], None], int]] = {
    "nothing": (lambda _: None, 3),
    "another launch's": (enrolled_by_another, 3),
    "half a first copy": (cut_short(0), 4),
    "half a second copy": (cut_short(1), 4),
}


@pytest.mark.parametrize("before", BEFORE)
def test_power_may_fail_at_any_moment(machine: Machine, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Whatever of a write is on the disk, its front or its back: the released key opens it, and the next boot enrols."""
    prepare, writes = BEFORE[before]
    prepare(machine)
    states = snapshots(machine, monkeypatch)
    assert len(states) == 1 + writes
    slot = luks_header.check(states[-1]).slots["0"]
    assert len({state[slice(*slot)] for state in states}) == 1, "the released key's slot is never written"
    for earlier, later in pairwise(states):
        changed = [at for at in range(0, len(later), 512) if earlier[at : at + 512] != later[at : at + 512]]
        cut = changed[len(changed) // 2]
        for torn in (later[:cut] + earlier[cut:], earlier[:cut] + later[cut:]):
            luks_header.check(luks_header.mended(torn))
    machine.device.write_bytes(torn)
    disk.open_luks(machine.device, "evident-data", bytes(bytearray(KEY)), mend=True)
    machine.enrol()
    assert machine.opened()


def test_half_a_header_is_mended_only_where_the_machine_writes_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the usual boot's strictness is given up: two copies that differ are refused there as ever."""
    half = snapshots(machine, monkeypatch)[2]
    machine.device.write_bytes(half)
    with pytest.raises(NotAuthentic, match=r"luks\.copies"):
        disk.check_header(machine.device)
    assert set(disk.check_header(machine.device, mend=True).slots) == {"0", "1"}
    assert disk.HEADER.read_bytes()[:4096] != half[:4096], "the tools read two equal copies"
    luks_header.check(disk.HEADER.read_bytes())
