"""`evident measure pcr|uki` and `image inspect`: equal to the library, files that are read back, refusals that say what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.evidence.test_disk import a_disk, a_fat12
from tests.unit.evidence.test_pe import a_pe
from tests.unit.evidence.test_uki import a_uki
from tests.unit.image.test_manifest import BUILDER, COMPONENTS, MANIFEST

from evident.cli import main as entry
from evident.image import manifest
from evident.reference_values import documents
from evident.reference_values.model import Strength
from evident.reference_values.pcr import from_pcrlock, values
from evident.reference_values.uki import predict_uki

IMAGE = a_uki(255, cmdline=b"quiet", initrd=b"i", osrel=b"ID=test\n", uname=b"6.1")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "image.efi").write_bytes(IMAGE)
    (tmp_path / "disk.raw").write_bytes(a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": IMAGE})))
    (tmp_path / "kernel").write_bytes(a_pe({".text": b"kernel"}))
    (tmp_path / "initrd").write_bytes(b"initrd")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, object]:
    assert entry.main([*words, "-o", "json"]) == code
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_a_uki_and_the_disk_that_holds_it_measure_the_same(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {"sha256": {str(index): value.hex() for index, value in predict_uki(IMAGE).values("sha256").items()}}
    for option, name in (("--uki", "image.efi"), ("--disk", "disk.raw")):
        assert said(capsys, "measure", "pcr", option, str(files / name))["pcrs"] == expected


def test_files_written_are_read_back(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock, reference = files / "out.pcrlock", files / "out.json"
    options = ["--bank", "sha256", "--bank", "sha384", "--phase", "enter-initrd", "--secure-boot", "off"]
    words = ["measure", "pcr", "--uki", str(files / "image.efi"), *options, "--pcrlock-out", str(lock), "--reference-out", str(reference)]
    first = said(capsys, *words)
    assert {value.algorithm for value in documents.load(reference.read_bytes()).values} == {"sha256", "sha384"}
    assert {4, 7, 9, 11} == set(values(from_pcrlock(lock.read_bytes()), "sha256"))
    again = said(capsys, "measure", "pcr", "--pcrlock", str(lock))
    pcrs = first["pcrs"]
    assert isinstance(pcrs, dict)
    assert again["pcrs"] == {"sha256": {index: value for index, value in pcrs["sha256"].items() if index not in ("12", "13")}}


def test_secure_boot_variables_come_from_plain_or_efivarfs_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, kernel = files / "plain", files / "efivars"
    for directory in (plain, kernel):
        directory.mkdir()
    (plain / "dbx").write_bytes(b"x" * 40)
    (kernel / "dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f").write_bytes(b"\x27\0\0\0" + b"x" * 40)
    outputs = [
        said(capsys, "measure", "pcr", "--uki", str(files / "image.efi"), "--secure-boot", "off", "--variables", str(directory))["pcrs"]
        for directory in (plain, kernel)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0] != said(capsys, "measure", "pcr", "--uki", str(files / "image.efi"), "--secure-boot", "off")["pcrs"]


def test_direct_boot(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["measure", "pcr", "--kernel", str(files / "kernel"), "--initrd", str(files / "initrd"), "--append", "quiet"]
    assert entry.main(words) == 0
    assert "PCR 4 is left out" in capsys.readouterr().out
    pcrs = said(capsys, *words, "--kernel-as-is")["pcrs"]
    assert isinstance(pcrs, dict)
    assert "4" in pcrs["sha256"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--uki", "image.efi", "--initrd", "initrd"), "usage.kernel"),
        (("--uki", "image.efi", "--variables", "."), "usage.secure-boot"),
        (("--uki", "missing"), "input.unreadable"),
        (("--disk", "."), "input.unreadable"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: str
) -> None:
    monkeypatch.chdir(files)
    assert said(capsys, "measure", "pcr", *words, code=2)["code"] == code


def test_measure_uki_prints_one_value_per_phase(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = said(capsys, "measure", "uki", str(files / "image.efi"), "--phase", "enter-initrd:leave-initrd")["measurements"]
    whole = predict_uki(IMAGE, phases=("enter-initrd", "leave-initrd"))
    assert rows == [{"phase": "enter-initrd:leave-initrd", "pcr": 11, "bank": "sha256", "hash": whole.values("sha256")[11].hex()}]
    assert entry.main(["measure", "uki", str(files / "image.efi")]) == 0
    assert capsys.readouterr().out.count("11:sha256=") == 4


def test_inspect_shows_what_an_image_holds_and_measures(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = said(capsys, "image", "inspect", str(files / "image.efi"))
    assert (image["kind"], image["command_line"], image["kernel_release"]) == ("unified kernel image", "quiet", "6.1")
    disk = said(capsys, "image", "inspect", str(files / "disk.raw"))
    assert disk["applications"] == {"EFI/BOOT/BOOTX64.EFI": image}
    assert said(capsys, "image", "inspect", str(files / "kernel"))["kind"] == "EFI application"
    assert entry.main(["image", "inspect", str(files / "disk.raw")]) == 0
    assert "command line: quiet" in capsys.readouterr().out
    assert said(capsys, "image", "inspect", str(files / "initrd"), code=30)["code"] == "disk.gpt"


def test_inspect_says_why_registers_are_unknown(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "other.efi").write_bytes(a_uki(None))
    image = said(capsys, "image", "inspect", str(files / "other.efi"))
    assert image["pcrs"] is None
    assert "uki.stub" in str(image["pcrs_unknown_because"])


def test_inspect_tells_what_was_made_here_from_what_is_the_distributions(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One binary among its parts, and the image is of that degree."""
    own = replace(COMPONENTS[1], strength=Strength.REBUILT)
    for parts, degree, others in (((COMPONENTS[0], own), 3, 1), ((own,), 4, 0)):
        (files / "manifest.json").write_bytes(manifest.sign(replace(MANIFEST, components=parts), BUILDER))
        image = said(capsys, "image", "inspect", str(files / "manifest.json"))
        assert (image["degree"], image["made_from_source"]) == (degree, ["initrd /usr"])
        assert image["other_components"] == others
    (files / "uki.efi").write_bytes(IMAGE)
    sizes = said(capsys, "image", "inspect", str(files / "manifest.json"))["bytes"]
    assert isinstance(sizes, dict)
    assert sizes["uki.efi"] == len(IMAGE)
