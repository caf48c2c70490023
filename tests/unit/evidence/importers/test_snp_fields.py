"""Field JSON of other tools gives back the exact bytes that the hardware signed, or nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from evident.errors import Malformed
from evident.evidence import snp_report
from evident.evidence.importers import snp_fields
from evident.evidence.snp_report import Tcb

SNPGUARD = "snp/snpguard-milan-json-v2"


def newer_form(raw: bytes, *, hexadecimal: bool = False) -> dict[str, Any]:
    """`raw` as the `sev` crate of 2026 writes it, built from offsets alone."""

    def string(offset: int, size: int) -> Any:
        content = raw[offset : offset + size]
        return content.hex() if hexadecimal else list(content)

    def tcb(offset: int) -> dict[str, Any]:
        turin = raw[0x188] == 0x1A
        return {"fmc": None, **Tcb.parse(raw[offset : offset + 8], turin_layout=turin).components()}

    def integer(offset: int, size: int) -> int:
        return int.from_bytes(raw[offset : offset + size], "little")

    version = integer(0, 4)
    return {
        "version": version,
        "guest_svn": integer(4, 4),
        "policy": integer(8, 8),
        "family_id": string(0x10, 16),
        "image_id": string(0x20, 16),
        "vmpl": integer(0x30, 4),
        "sig_algo": integer(0x34, 4),
        "current_tcb": tcb(0x38),
        "plat_info": integer(0x40, 8),
        "key_info": integer(0x48, 4),
        "report_data": string(0x50, 64),
        "measurement": string(0x90, 48),
        "host_data": string(0xC0, 32),
        "id_key_digest": string(0xE0, 48),
        "author_key_digest": string(0x110, 48),
        "report_id": string(0x140, 32),
        "report_id_ma": string(0x160, 32),
        "reported_tcb": tcb(0x180),
        "cpuid_fam_id": raw[0x188] if version > 2 else None,
        "cpuid_mod_id": raw[0x189] if version > 2 else None,
        "cpuid_step": raw[0x18A] if version > 2 else None,
        "chip_id": string(0x1A0, 64),
        "committed_tcb": tcb(0x1E0),
        "current": {"major": raw[0x1EA], "minor": raw[0x1E9], "build": raw[0x1E8]},
        "committed": {"major": raw[0x1EE], "minor": raw[0x1ED], "build": raw[0x1EC]},
        "launch_tcb": tcb(0x1F0),
        "launch_mit_vector": integer(0x1F8, 8) if version > 4 else None,
        "current_mit_vector": integer(0x200, 8) if version > 4 else None,
        "signature": {"r": string(0x2A0, 72), "s": string(0x2E8, 72)},
    }


def test_snpguards_older_names(vectors: Any) -> None:
    data = vectors.read(SNPGUARD, "report.json")
    raw = snp_fields.report_from_json(data)
    assert hashlib.sha256(raw).hexdigest() == vectors.facts(SNPGUARD)["rebuilt_report_sha256"]
    assert snp_report.serialize(snp_report.parse(raw)) == raw
    assert snp_fields.looks_like(json.loads(data))


@pytest.mark.parametrize("case", ["snp/attestation-rs-genoa-v5", "snp/microsoft-milan", "snp/virtee-milan-v2", "aws/reclaim-vlek-v5"])
@pytest.mark.parametrize("hexadecimal", [False, True])
def test_virtees_newer_names(vectors: Any, case: str, hexadecimal: bool) -> None:
    raw = vectors.read(case, "report.bin")
    assert snp_fields.report_from_fields(newer_form(raw, hexadecimal=hexadecimal)) == raw


def test_turin_layout_follows_fmc(vectors: Any) -> None:
    fields = newer_form(vectors.read("snp/attestation-rs-genoa-v5", "report.bin"))
    fields["reported_tcb"] = {"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 5}
    assert snp_fields.report_from_fields(fields)[0x180:0x188] == bytes((1, 2, 3, 4, 0, 0, 0, 5))


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("vmpl", None, "snp-fields.value"),
        ("vmpl", True, "snp-fields.value"),
        ("vmpl", -1, "snp-fields.value"),
        ("policy", 1 << 64, "snp-fields.value"),
        ("measurement", [0] * 47, "snp-fields.value"),
        ("measurement", [0] * 47 + [256], "snp-fields.value"),
        ("measurement", "zz" * 48, "snp-fields.value"),
        ("measurement", {"a": 1}, "snp-fields.value"),
        ("current", {"major": 1, "minor": 2}, "snp-fields.value"),
        ("reported_tcb", [1, 2, 3, 4], "snp-fields.value"),
        ("reported_tcb", {"bootloader": 1, "tee": 0, "snp": 0, "microcode": 0, "_reserved": [0, 0, 0, 1]}, "snp-fields.value"),
        ("signature", {"r": [0] * 72}, "snp-fields.value"),
        ("cpuid_step", 256, "snp-fields.value"),
        ("surprise", 1, "snp-fields.fields"),
    ],
)
def test_refused(vectors: Any, member: str, value: Any, code: str) -> None:
    fields = {**newer_form(vectors.read("snp/attestation-rs-genoa-v5", "report.bin")), member: value}
    with pytest.raises(Malformed) as refusal:
        snp_fields.report_from_fields(fields)
    assert refusal.value.code == code


def test_missing_field_and_no_object(vectors: Any) -> None:
    fields = newer_form(vectors.read("snp/attestation-rs-genoa-v5", "report.bin"))
    del fields["chip_id"]
    for value, code in ((fields, "snp-fields.fields"), ([], "snp-fields.type")):
        with pytest.raises(Malformed) as refusal:
            snp_fields.report_from_fields(value)
        assert refusal.value.code == code
