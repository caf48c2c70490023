"""`show` decodes every form it knows, tells them apart by content, and judges none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evident.cli.main import main
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def pieces(simulator_pki: SimulatorPki) -> dict[str, bytes]:
    collected = scenario.good(simulator_pki).collect(NONCE)
    return {role: contents[0] for role, contents in collected.items()}


def shown(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, Any]:
    assert main(["show", str(path), "-o", "json"]) == 0
    form: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert form["decoded_only"] is True
    return form


def test_a_report_in_every_spelling(pieces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    contents = []
    for data in (pieces["report"], pieces["report"].hex().encode() + b"\n"):
        path.write_bytes(data)
        form = shown(capsys, path)
        assert form["format"] == "SEV-SNP attestation report"
        contents.append(form["content"])
    assert contents[0] == contents[1]
    assert len(contents[0]["measurement"]) == 96


def test_a_certificate_table_and_its_certificates(pieces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table").write_bytes(pieces["auxblob"])
    form = shown(capsys, tmp_path / "table")
    assert form["format"] == "SNP certificate table"
    roles = {entry["role"]: entry for entry in form["content"]}
    assert "endorsement_key" in roles["vcek"]["certificates"][0]
    assert roles["ark"]["certificates"][0]["subject"] == "TEST-ARK-Milan"


def test_a_wrapped_collection(pieces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from evident.evidence import cmw

    wrapped = cmw.encode(cmw.of_pieces("snp", {role: (data,) for role, data in pieces.items()}))
    (tmp_path / "cmw").write_text(json.dumps(wrapped))
    form = shown(capsys, tmp_path / "cmw")
    assert form["format"] == "wrapped collection (CMW)"
    assert form["content"]["members"]["report.0"]["says"] == ["evidence"]


@pytest.mark.parametrize(
    ("data", "code"), [(b"what is this", 20), (b"\x30\x82\x01", 20), (b"-----BEGIN CERTIFICATE-----\n", 30), (b"", 30)]
)
def test_what_it_does_not_know_is_said_so(data: bytes, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(data)
    assert main(["show", str(tmp_path / "file")]) == code
    assert "next" in capsys.readouterr().err


def test_text_says_that_nothing_was_checked(pieces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report").write_bytes(pieces["report"])
    assert main(["show", str(tmp_path / "report")]) == 0
    out, err = capsys.readouterr()
    assert "decoded only, nothing was checked" in out
    assert "evident verify" in err


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("tdx/go-tdx-guest-v5/quote.bin", "TDX quote"),
        ("tdx/dcap-qvl-uptodate/quote.bin", "TDX quote"),
        ("snp/cmc-milan-v2/report.bin", "SEV-SNP attestation report"),
        ("snp/cmc-milan-v2/vcek.pem", "X.509 certificates"),
        ("tpm/keylime-swtpm-quote/quote.bin", "TPM quote"),
        ("azure/trustee-snp-milan-v2-raw/quote.msg", "TPM quote"),
        ("azure/trustee-tdx-v1/hcl-report.bin", "Azure HCL report"),
        ("aws/reclaim-nitrotpm-doc/nitrotpm.cose", "Nitro attestation document"),
        ("aws/evervault-enclave-2022/doc.cose", "Nitro attestation document"),
        ("snp/snpguard-milan-json-v2/report.json", "SEV-SNP attestation report"),
        ("snp/veraison-genoa-v3-tsm/tsm-report.cbor", "SEV-SNP attestation report"),
        ("snp/veraison-genoa-v3-tsm/auxblob.bin", "SNP certificate table"),
    ],
)
def test_real_evidence(vectors: Any, path: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, vectors.root / path)["format"] == form


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("eventlog/trustee-ccel-data-grub/ccel.bin", "firmware event log"),
        ("eventlog/go-tpm-tools-debian-10/binary_bios_measurements", "firmware event log"),
        ("ima/keylime-ima-sig/ascii_runtime_measurements", "IMA measurement list"),
    ],
)
def test_logs_and_lists_are_told_by_content(capsys: pytest.CaptureFixture[str], vectors: Any, path: str, form: str) -> None:
    case = path.rsplit("/", 1)[0]
    told = shown(capsys, vectors.root / path)
    assert told["format"] == form
    facts = vectors.facts(case)
    listed = told["content"].get("event_list", told["content"].get("entries"))
    assert len(listed) == facts.get("events", facts.get("entries"))
