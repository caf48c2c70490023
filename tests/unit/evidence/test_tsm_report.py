"""configfs-tsm documents in both forms, and telling them from everything else by content."""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
import pytest

from evident.errors import EvidentError
from evident.evidence import content, tsm_report

CASE = "snp/veraison-genoa-v3-tsm"


def document(**members: Any) -> bytes:
    return json.dumps({"outblob": "AAAA", "provider": "sev_guest\n", **members}).encode()


@pytest.mark.parametrize("name", ["tsm-report.json", "tsm-report.cbor"])
def test_real_documents_read_and_serialize_back(vectors: Any, name: str) -> None:
    raw = vectors.read(CASE, name)
    report = tsm_report.parse(raw)
    assert report.outblob == vectors.read(CASE, "report.bin")
    assert report.auxblob == vectors.read(CASE, "auxblob.bin")
    assert report.provider + "\n" == vectors.facts(CASE)["provider"]
    assert tsm_report.serialize(report) == raw
    assert content.snp_report(raw) == (report.outblob, report.auxblob)


def test_auxblob_may_be_missing() -> None:
    assert tsm_report.parse(document()).auxblob == b""
    assert content.snp_report(document()) == (bytes(3), None)


def test_padding_of_base64_is_tolerated() -> None:
    padded = base64.urlsafe_b64encode(b"\xff\xfe\xfd\xfc").decode()
    assert padded.endswith("=")
    assert tsm_report.parse(document(outblob=padded)).outblob == b"\xff\xfe\xfd\xfc"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "tsm-report.json"),
        (b'{"outblob": "AA", "outblob": "AA", "provider": "sev_guest"}', "tsm-report.duplicate-key"),
        (document(extra=1), "tsm-report.members"),
        (b'{"outblob": "AAAA"}', "tsm-report.members"),
        (document(provider=3), "tsm-report.type"),
        (document(provider="arm_cca_guest\n"), "tsm-report.provider"),
        (document(outblob=7), "tsm-report.type"),
        (document(outblob="A"), "tsm-report.base64"),
        (document(outblob="AB"), "tsm-report.base64"),
        (document(outblob="A+/A"), "tsm-report.base64"),
        (document(outblob="Aé"), "tsm-report.base64"),
        (cbor2.dumps(["outblob"]), "tsm-report.type"),
        (cbor2.dumps({"outblob": b"", "provider": "sev_guest"})[:-1], "tsm-report.cbor"),
        (cbor2.dumps({"outblob": b"", "provider": "sev_guest"}) + b"\0", "tsm-report.trailing"),
        (b"\xa2\x67outblob\x40\x67outblob\x40", "tsm-report.cbor"),
        (b"\xbf\x67outblob\x40\xff", "tsm-report.cbor"),
        (b"\xff", "tsm-report.cbor"),
        (b"", "tsm-report.cbor"),
        (bytes(tsm_report.MAX_BYTES + 1), "tsm-report.oversized"),
    ],
)
def test_refused(raw: bytes, code: str) -> None:
    with pytest.raises(EvidentError) as refusal:
        tsm_report.parse(raw)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("text", "raw"), [(b"00ff", b"\x00\xff"), (b" 00 Ff\n", b"\x00\xff"), (b"00f", b"00f"), (b"0g", b"0g"), (b"", b"")]
)
def test_hex_is_told_by_content(text: bytes, raw: bytes) -> None:
    assert content.unhex(text) == raw


def test_the_head_of_a_firmware_response_is_named(vectors: Any) -> None:
    with pytest.raises(EvidentError) as refusal:
        content.snp_report(vectors.read("snp/cmc-milan-v2-malformed", "report.bin"))
    assert refusal.value.code == "snp.report.header"
    assert "32" in refusal.value.findings[0].remedy
