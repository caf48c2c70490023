"""HCL reports: real ones parse, say what the manifest says, and serialise back; damaged ones are refused by name."""

from __future__ import annotations

import pytest

from evident.errors import Malformed, Unsupported
from evident.evidence import azure_hcl

CASES = (
    "azure/kinvolk-snp-hcl-2023",
    "azure/kinvolk-tdx-hcl",
    "azure/trustee-snp-milan-v2-raw",
    "azure/trustee-tdx-v1",
)


@pytest.mark.parametrize("case", CASES)
def test_real_reports_say_what_the_manifest_says(vectors, case):
    facts = vectors.facts(case)
    raw = vectors.read(case, "hcl-report.bin")
    report = azure_hcl.parse(raw)
    assert azure_hcl.serialize(report) == raw
    assert (report.version, report.report_size, report.technology) == (facts["hcl_version"], facts["hcl_report_size"], facts["report_type"])
    assert (report.hash_type, len(report.claims_raw)) == (facts["hash_type"], facts["claims_len"])
    assert report.claims_digest.hex() == facts["claims_sha256"]
    assert list(report.claims.keys) == facts["key_ids"]
    assert report.claims.vm_configuration == facts["claims_other"]["vm-configuration"]
    user_data = facts["claims_other"].get("user-data")
    assert report.claims.user_data == (bytes.fromhex(user_data) if user_data else None)
    offset = 0x50 if report.technology == "SNP" else 128
    assert report.hardware_report[offset : offset + 64] == report.expected_report_data


def _report(claims: bytes = b'{"keys":[]}', **changes: int) -> bytes:
    fields = {"version": 1, "report_type": 2, "hash_type": 1, "data_size": 20 + len(claims), "claims_size": len(claims)} | changes
    words = b"".join(fields[name].to_bytes(4, "little") for name in ("report_type", "hash_type", "claims_size"))
    header = b"HCLA" + fields["version"].to_bytes(4, "little") + bytes(24)
    return header + bytes(1184) + fields["data_size"].to_bytes(4, "little") + (1).to_bytes(4, "little") + words + claims


@pytest.mark.parametrize(
    ("raw", "kind", "code"),
    [
        (b"", Malformed, "azure.hcl.truncated"),
        (b"XXXX" + _report()[4:], Malformed, "azure.hcl.magic"),
        (_report(version=3), Unsupported, "azure.hcl.version"),
        (_report(report_type=1), Unsupported, "azure.hcl.report-type"),
        (_report(hash_type=9), Unsupported, "azure.hcl.hash-type"),
        (_report(data_size=1), Malformed, "azure.hcl.data-size"),
        (_report(claims_size=0xFFFFFFF0, data_size=4), Malformed, "azure.hcl.data-size"),
        (_report()[:-1], Malformed, "azure.hcl.truncated"),
        (_report() + b"\1", Malformed, "azure.hcl.reserved"),
        (_report() + bytes(8192), Malformed, "azure.hcl.size"),
        (_report(b"[]"), Malformed, "azure.hcl.claims"),
        (_report(b'{"keys":[{"kty":"EC","kid":"x"}]}'), Malformed, "azure.hcl.claims"),
        (_report(b'{"keys":[{"kty":"RSA","kid":"x","n":"AQAB","e":"A!AB"}]}'), Malformed, "azure.hcl.claims"),
        (_report(b'{"user-data":"00"}'), Malformed, "azure.hcl.claims"),
        (_report(b'{"a":1,"a":2}'), Malformed, "azure.hcl.claims.duplicate-key"),
    ],
)
def test_damaged_reports_are_refused_by_name(raw, kind, code):
    with pytest.raises(kind) as refused:
        azure_hcl.parse(raw)
    assert refused.value.code == code


def test_claims_that_are_not_known_yet_are_kept():
    assert azure_hcl.parse(_report(b'{"keys":[],"hardware-sealing-policy":"none"}')).claims.other == {"hardware-sealing-policy": "none"}
