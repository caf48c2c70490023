"""`evident measure tdx`: every known variant, a reference file that verify reads, and refusals that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.evidence.test_disk import a_disk, a_fat12
from tests.unit.evidence.test_pe import a_pe
from tests.unit.evidence.test_uki import a_uki

from evident.cli import main as entry
from evident.reference_values import documents, tdx_mrtd
from evident.simulator.tdvf import firmware_image


def run(*arguments: str) -> int:
    return entry.main(["measure", "tdx", *arguments])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    image = a_uki(257, cmdline=b"quiet", initrd=b"initrd")
    contents = {
        "firmware": firmware_image(),
        "kernel": a_pe({".text": b"kernel"}),
        "initrd": b"initrd",
        "uki": image,
        "disk": a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": image})),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in contents}


def test_text_names_every_variant_and_what_is_assumed(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", files["firmware"], "--kernel", files["kernel"], "--initrd", files["initrd"], "--append", "quiet") == 0
    out = capsys.readouterr().out
    registers = [line.split()[0] for line in out.splitlines() if line.startswith(("mrtd", "rtmr"))]
    assert registers == ["mrtd"] * 3 + ["rtmr1"] * 4 + ["rtmr2"] * 2
    assert "RTMR0 is not predicted" in out
    assert out.count("\n  if EDK2 puts initrd=initrd before the command line\n") == 1, "each value with what it alone assumes"
    for order in tdx_mrtd.Order:
        assert tdx_mrtd.predict(firmware_image(), order).hex() in out


def test_json_and_the_reference_file_agree(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "reference.json"
    machine = ("--separator", "rtmr1", "--tpm", "with")
    arguments = ("--firmware", files["firmware"], "--order", "gce", "--uki", files["uki"], "--disk", files["disk"], *machine)
    assert run(*arguments, "--reference-out", str(target), "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [item["register"] for item in found["measurements"]] == ["launch", "rtmr1", "rtmr1", "rtmr2"]
    assert [value.value.hex() for value in documents.load(target.read_bytes()).values] == [item["value"] for item in found["measurements"]]
    assert run("--uki", files["uki"]) == 0


@pytest.mark.parametrize("arguments", [(), ("--initrd", "x"), ("--firmware", "x", "--append", "quiet"), ("--kernel", "x", "--disk", "y")])
def test_what_does_not_belong_together(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert "usage.measure-tdx" in capsys.readouterr().err


def test_a_firmware_without_tdx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none"
    path.write_bytes(bytes(8192))
    assert run("--firmware", str(path)) == 30
    assert "ovmf.footer" in capsys.readouterr().err
