"""A machine that boots its own disk: what is on it, and what its boot is predicted to measure."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from tests.unit.image.test_disk import a_stub
from tests.unit.lifecycle import test_from_image as images

from evident.errors import UsageError
from evident.evidence import disk as partitions
from evident.evidence import uki as reader
from evident.guest.config import parse_command_line
from evident.image import build, names, uki
from evident.image.prediction import Registers
from evident.lifecycle import from_image
from evident.lifecycle.from_image import Prepared
from evident.platforms.driver import Surroundings
from evident.platforms.order import Order
from evident.platforms.qemu import launch
from evident.reference_values import tdx_reference
from evident.reference_values.model import Strength, by_tpm
from evident.reference_values.uki import predict_uki

SECTIONS = {".osrel": b"ID=evident\n", ".cmdline": b"ro evident.mode=encrypted", ".initrd": b"initrd", ".linux": a_stub()}


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> images.Owner:
    monkeypatch.setitem(images.FILES, names.UKI, uki.write(a_stub(), SECTIONS))
    return images.Owner(tmp_path)


def machine(owner: images.Owner, name: str = "one", machine: Order | None = None, registers: Registers = "pcr") -> Prepared:
    around = Surroundings(owner.home / "state", lambda: images.AT, os.urandom, lambda _: None)
    return from_image.prepare(
        owner.image,
        owner.home / name,
        around,
        trusted=[owner._key.public],
        parameters=images.PARAMETERS,
        machine=machine or Order(),
        boot="uki",
        registers=registers,
    )


def booted(prepared: Prepared) -> bytes:
    return partitions.open_system_partition(Path(prepared.order.disks[0].path).read_bytes()).read(build.BOOT_PATH)


def test_the_disk_is_all_that_the_machine_needs(owner: images.Owner) -> None:
    made = machine(owner)
    assert (made.order.kernel, made.order.initrd, made.order.command_line) == (None, None, None)
    parsed = reader.parse(booted(made))
    assert made.key is not None
    line = parse_command_line(parsed.command_line or "")
    assert (line.data, line.tee, line.mode) == (made.key.disk, "simulated", "encrypted")
    assert {name: parsed.sections[name] for name in (".linux", ".initrd", ".osrel")} == {
        name: SECTIONS[name] for name in (".linux", ".initrd", ".osrel")
    }
    assert booted(made) == uki.write(a_stub(), {**SECTIONS, ".cmdline": (parsed.command_line or "").encode()})


def test_reference_values_are_of_the_bytes_on_the_disk(owner: images.Owner) -> None:
    made, other = machine(owner), machine(owner, "other")
    assert made.order.references is not None
    assert other.order.references is not None
    predicted = predict_uki(booted(made), banks=("sha256",)).values("sha256")
    values = {value.register: value for value in made.order.references.values if value.algorithm == "sha256"}
    assert {register: value.value for register, value in values.items()} == {f"pcr{index}": value for index, value in predicted.items()}
    assert {value.strength for value in values.values()} == {Strength.RECOMPUTED}
    assert by_tpm(values.values())
    others = {value.register: value.value for value in other.order.references.values if value.algorithm == "sha256"}
    assert {register for register in others if others[register] != values[register].value} == {"pcr4", "pcr9", "pcr11"}


def test_a_td_is_held_against_the_very_disk_that_was_made(owner: images.Owner) -> None:
    """RTMR1 has the partition table of this machine's own disk, RTMR2 its own command line; a TPM is asked for nothing."""
    made, other = machine(owner, registers="rtmr"), machine(owner, "other", registers="rtmr")
    assert made.order.references is not None
    assert other.order.references is not None
    raw = Path(made.order.disks[0].path).read_bytes()
    predicted = tdx_reference.references(tdx_reference.unified_image(booted(made), booted_from=raw), origin="x")
    assert [value.value for value in made.order.references.values] == [value.value for value in predicted]
    assert {value.register for value in made.order.references.values} == {"rtmr1", "rtmr2"}
    assert not by_tpm(made.order.references.values)
    assert not {value.value for value in made.order.references.values} & {value.value for value in other.order.references.values}


@pytest.mark.parametrize(
    ("platform", "technology", "registers"),
    [
        ("gcp", "tdx", "rtmr"),
        ("gcp", "snp", "pcr"),
        ("azure", "tdx", "pcr"),
        ("azure", "snp", "pcr"),
        ("aws", "snp", "pcr"),
        ("qemu", "snp", "pcr"),
    ],
)
def test_which_registers_measure_a_boot(platform: str, technology: Literal["snp", "tdx"], registers: str) -> None:
    """Those of a TD on Azure stay zero: there the paravisor's TPM measures."""
    assert from_image._registers(platform, Order(technology=technology), images.AT) == registers


def test_qemu_reads_what_it_needs_to_know_from_the_disk(owner: images.Owner, tmp_path: Path) -> None:
    made = machine(owner)
    assert launch.disk_command_line(made.order.disks) == reader.parse(booted(made)).command_line
    for content in (b"", b"data", bytes(4096)):
        (tmp_path / "raw").write_bytes(content)
        assert launch.disk_command_line((replace(made.order.disks[0], path=str(tmp_path / "raw")),)) == ""


def test_secure_boot_is_predicted_for_the_distributions_firmware_alone(owner: images.Owner) -> None:
    made = machine(owner).order
    assert made.references is not None
    assert [value.register for value in launch._measured(made)[len(made.references.values) :]] == ["pcr7"]
    assert launch._measured(replace(made, firmware=b"another")) == made.references.values
    direct = replace(made, kernel=b"kernel", references=replace(made.references, values=()))
    assert launch._measured(direct) == ()


def test_a_disk_that_names_another_key_server_is_refused_at_once(owner: images.Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    launch._check(machine(owner).order)
    monkeypatch.setitem(images.PARAMETERS, "evident.verifier", "10.0.2.2:1")
    with pytest.raises(UsageError, match=r"qemu\.verifier"):
        launch._check(machine(owner).order)
