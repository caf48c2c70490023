"""Nitro documents and their COSE envelope: real ones parse and serialise back; loose CBOR is refused."""

from __future__ import annotations

import cbor2
import pytest

from evident.errors import Malformed, Unsupported
from evident.evidence import cose, nitro

CASES = (
    ("aws/reclaim-nitrotpm-doc", "nitrotpm.cose"),
    ("aws/evervault-enclave-2022", "doc.cose"),
    ("aws/evervault-enclave-debug", "doc.cose"),
    ("aws/dstack-enclave-2025", "doc.cose"),
    ("aws/dstack-enclave-app", "doc.cose"),
)


@pytest.mark.parametrize(("case", "name"), CASES)
def test_real_documents_say_what_the_manifest_says(vectors, case, name):
    facts = vectors.facts(case)
    raw = vectors.read(case, name)
    document = nitro.parse(raw)
    assert cose.serialize_sign1(document.sign1) == raw
    assert nitro.serialize_payload(document) == document.sign1.payload
    assert document.kind == {"NitroTPM": "nitrotpm", "Nitro Enclave": "nitro-enclave"}[facts["kind"]]
    assert (document.module_id, document.timestamp, document.digest) == (facts["module_id"], facts["timestamp_ms"], facts["digest"])
    assert {str(index): value.hex() for index, value in document.pcrs.items()} == facts["pcrs"]
    for member in ("user_data", "nonce", "public_key"):
        assert (getattr(document, member) or b"").hex() == facts[member]
    assert document.sign1.algorithm == facts["cose_algorithm"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x18\x01",  # 1, not in its shortest form
        b"\x01\x01",  # trailing byte
        b"\x9f\x01\xff",  # indefinite array
        b"\xa2\x01\x01\x01\x02",  # duplicate key
        b"\xc0\x60",  # tag
        b"\xf9\x3c\x00",  # float
        b"\xbf\x01\x9f\xff\xff",  # an indefinite array inside the one map that may be indefinite
        b"\x81" * 40 + b"\x01",  # nested too deeply
        b"\xc2\x49\x01" + bytes(8),  # big number
        b"\xbf\x01\x01",  # no end
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",  # gigantic declared size
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_loose_cbor_is_refused(raw):
    with pytest.raises(Malformed) as refused:
        cose.decode(raw, "x", indefinite_map=True)
    assert refused.value.code == "x.cbor"


def test_an_indefinite_map_is_read_only_where_the_issuer_writes_one():
    assert cose.decode(b"\xbf\x01\x02\xff", "x", indefinite_map=True) == {1: 2}
    with pytest.raises(Malformed):
        cose.decode(b"\xbf\x01\x02\xff", "x")


def _document(protected: bytes = b"\xa1\x01\x38\x22", unprotected: object = None, **changes: object) -> bytes:
    payload: dict[str, object] = {
        "module_id": "i-0-tpm0",
        "digest": "SHA384",
        "timestamp": 1700000000000,
        "nitrotpm_pcrs": {0: bytes(48)},
        "certificate": b"c",
        "cabundle": [b"r"],
    }
    payload = {key: value for key, value in (payload | changes).items() if value != "absent"}
    return cbor2.dumps([protected, {} if unprotected is None else unprotected, cbor2.dumps(payload), bytes(96)])


def test_optional_members_may_be_absent():
    assert nitro.parse(_document()).nonce is None
    assert nitro.parse(b"\xd2" + _document()).sign1.tagged


@pytest.mark.parametrize(
    ("raw", "kind", "code"),
    [
        (_document(protected=b"\xa1\x01\x26"), Unsupported, "nitro.document.algorithm"),
        (_document(protected=b"\xa0"), Malformed, "nitro.document.cbor"),
        (_document(unprotected={4: b"kid"}), Malformed, "nitro.document.cbor"),
        (_document(digest="MD5"), Unsupported, "nitro.document.digest"),
        (_document(digest=5), Unsupported, "nitro.document.digest"),
        (_document(digest=["SHA384"]), Unsupported, "nitro.document.digest"),
        (_document(digest={}), Unsupported, "nitro.document.digest"),
        (_document(timestamp=-1), Malformed, "nitro.document.timestamp"),
        (_document(timestamp=1 << 62), Malformed, "nitro.document.timestamp"),
        (_document(module_id=""), Malformed, "nitro.document.module-id"),
        (_document(nitrotpm_pcrs={0: bytes(32)}), Malformed, "nitro.document.pcrs"),
        (_document(nitrotpm_pcrs={99: bytes(48)}), Malformed, "nitro.document.pcrs"),
        (_document(nitrotpm_pcrs="absent"), Malformed, "nitro.document.members"),
        (_document(pcrs={0: bytes(48)}), Malformed, "nitro.document.members"),
        (_document(surprise=1), Malformed, "nitro.document.members"),
        (_document(cabundle=[]), Malformed, "nitro.document.cabundle"),
        (_document(certificate=b""), Malformed, "nitro.document.certificate"),
        (_document(nonce=bytes(1025)), Malformed, "nitro.document.nonce"),
        (_document(nonce="text"), Malformed, "nitro.document.nonce"),
    ],
)
def test_damaged_documents_are_refused_by_name(raw, kind, code):
    with pytest.raises(kind) as refused:
        nitro.parse(raw)
    assert refused.value.code == code
