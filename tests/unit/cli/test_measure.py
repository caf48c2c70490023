"""`evident measure`: equal to the published digests, files that verify reads, and refusals that say what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evident.cli import main as entry
from evident.reference_values import documents
from evident.reference_values.snp_launch import LaunchTemplate

OVMF = "launch/sev-snp-measure-ovmf"


def run(*arguments: str) -> int:
    return entry.main(["measure", "snp", *arguments])


@pytest.fixture
def firmware(vectors: Any) -> str:
    return str(vectors.root / OVMF / "ovmf_AmdSev_suffix.bin")


@pytest.fixture
def blob(tmp_path: Path) -> str:
    path = tmp_path / "blob"
    path.write_bytes(b"blob")
    return str(path)


def expected(vectors: Any, case: str) -> str:
    digests = {item["case"]: item.get("expected_launch_digest") for item in vectors.facts(OVMF)["cases"]}
    digest: str = digests[case]
    return digest


def test_text(vectors: Any, firmware: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", firmware) == 0
    output = capsys.readouterr().out
    assert expected(vectors, "test_snp_without_kernel_feature_snp_only") in output
    assert "the same whatever the host boots" in output


def test_text_names_every_component(firmware: str, blob: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", firmware, "--kernel", blob, "--initrd", blob, "--append", "roothash=" + "ab" * 32) == 0
    output = capsys.readouterr().out
    for word in ("kernel (SHA-256)", "initrd (SHA-256)", "command line (SHA-256)", "root file system (dm-verity)", "ab" * 32):
        assert word in output
    assert run("--firmware", firmware, "--kernel", blob) == 0
    assert "names no dm-verity root hash" in capsys.readouterr().out


def test_json_and_every_revision_of_ec2(vectors: Any, firmware: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", firmware, "--vmm", "ec2", "--vcpus", "1,2", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    values = document["reference"]["values"]
    templates = [LaunchTemplate.parse(bytes.fromhex(value["template"])) for value in values]
    assert [(template.vmm, template.vcpus) for template in templates] == [("ec2", 1), ("ec2", 2), ("ec2-old", 1), ("ec2-old", 2)]
    assert document["measurements"] == [value["value"] for value in values]


def test_reference_file(firmware: str, blob: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "reference.json"
    assert run("--firmware", firmware, "--kernel", blob, "--guest-features", "0x21", "--reference-out", str(target)) == 0
    values = documents.load(target.read_bytes()).values
    assert values[0].value.hex() in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"blob", "reference.json"}


def test_svsm(vectors: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = vectors.root / "launch/sev-snp-measure-svsm"
    arguments = ["--firmware", str(folder / "svsm_ovmf.fd"), "--svsm", str(folder / "svsm.bin"), "--vcpus", "4"]
    assert run(*arguments, "--variable-store-size", "540672") == 0
    assert vectors.facts("launch/sev-snp-measure-svsm")["cases"][0]["expected_launch_digest"] in capsys.readouterr().out
    assert run(*arguments) == 2
    assert "--variable-store-size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--append", "quiet"], 2, "--kernel"),
        (["--vcpu-type", "EPYCMilan"], 2, "Did you mean EPYC-Milan?"),
        (["--vcpu-type", "8086"], 2, "Known: EPYC"),
        (["--vcpu-type", "0xgg"], 2, "CPUID"),
        (["--vcpus", "two"], 2, "count"),
        (["--vcpus", "0"], 2, "1 to 4096"),
        (["--guest-features", "debug"], 2, "0x21"),
        (["--kernel", "/nonexistent"], 2, "Check the path"),
        (["--reference-out", "/nonexistent/reference.json"], 2, "Check the folder"),
    ],
)
def test_refusals(firmware: str, arguments: list[str], code: int, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", firmware, *arguments) == code
    captured = capsys.readouterr()
    assert hint in captured.err
    assert captured.out == ""


def test_firmware_without_a_hash_table(vectors: Any, blob: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", str(vectors.root / OVMF / "ovmf_OvmfX64_suffix.bin"), "--kernel", blob) == 2
    assert "would start any kernel" in capsys.readouterr().err


def test_not_a_firmware(blob: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--firmware", blob) == 30
    assert "OVMF" in capsys.readouterr().err
