"""Whatever the bytes: parsers of TPM, Azure, Google and AWS evidence raise known errors only, and what parses serialises back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed, Unsupported
from evident.evidence import azure_hcl, cose, gce_endorsement, nitro, protobuf, svsm_manifest, tpm, tpm_public
from evident.evidence.importers import azure_cvm, containers, evident_zero, go_attestation, go_tpm_tools, pcr_values, tpm2_tools
from evident.reference_values import documents

_INFO = tpm.serialize_quote_info(tpm.QuoteInfo((tpm.PcrSelection.of("sha256", (0, 7)),), bytes(32)))
_ATTEST = tpm.serialize_attest(tpm.Attest(tpm.GENERATED, tpm.ST_ATTEST_QUOTE, bytes(34), b"nonce", 1, 2, 3, True, 4, _INFO, b""))
_RSA_PUBLIC = bytes.fromhex("0001000b00050072000000100014000b0800000000000100") + b"\xc1" * 256
_ECC_PUBLIC = bytes.fromhex("0023000b00050072000000100018000b00030010") + (b"\0\x20" + b"\x11" * 32) * 2
_HCL = (
    b"HCLA\1\0\0\0" + bytes(24) + bytes(1184) + (31).to_bytes(4, "little") + b"\1\0\0\0\2\0\0\0\1\0\0\0"
    + (11).to_bytes(4, "little") + b'{"keys":[]}' + bytes(20)
)  # fmt: skip
_DOCUMENT = cbor2.dumps(
    [
        b"\xa1\x01\x38\x22",
        {},
        cbor2.dumps(
            {"module_id": "i", "digest": "SHA384", "timestamp": 1, "pcrs": {0: bytes(48)}, "certificate": b"c", "cabundle": [b"r"]}
        ),
        bytes(96),
    ]
)
_ENDORSEMENT = protobuf.encode(
    ((1, protobuf.encode(((5, bytes(48)), (7, protobuf.encode(((2, protobuf.encode(((1, 2), (2, bytes(48))))),)))))), (2, b"s"))
)
_PCR_FILE = (
    (1).to_bytes(4, "little") + b"\x0b\0\3\x80\0\0\0\0" + bytes(120) + (1).to_bytes(4, "little")
    + (1).to_bytes(4, "little") + b"\x20\0" + bytes(64) + bytes(66 * 7)
)  # fmt: skip
_QUOTE = protobuf.encode(((1, _ATTEST), (2, b"s"), (3, protobuf.encode(((1, 11), (2, protobuf.encode(((1, 7), (2, bytes(32))))))))))
_ATTESTATION = protobuf.encode(((1, _RSA_PUBLIC), (2, _QUOTE)))
_SELECTIONS = (tpm.PcrSelection.of("sha256", (0, 7)),)
_MANIFEST = svsm_manifest.serialize((svsm_manifest.Service(svsm_manifest.VTPM_GUID, _ECC_PUBLIC),))
_AZURE_JSON = (
    b'{"version":1,"hcl_report":"SENM","tpm_quote":{"message":"ff54","signature":"00","pcrs":["' + b"00" * 32 + b'"]},"vcek":"AAAA"}'
)
_AZURE_BINCODE = (256).to_bytes(8, "little") + bytes(256) + (2).to_bytes(8, "little") + b"ab" + (1).to_bytes(8, "little") + bytes(32)
_GO_ATTESTATION = (
    b'{"AK":{"Public":"AAEA"},"Quote":{"Alg":11,"Quote":"/1RD","Signature":"ABQA"},'
    b'"Log":{"PCRs":[{"Index":0,"Digest":"AAAA","DigestAlg":5}],"Raw":"AAAA"}}'
)
_EVIDENT_ZERO = protobuf.encode(
    (
        (1, 2),
        (2, protobuf.encode(((1, bytes(672)), (2, bytes(512)), (3, protobuf.encode(((1, 1), (6, protobuf.encode(((3, b"c"),))))))))),
        (3, protobuf.encode(((1, b"quote"), (2, b"\x30\x06\x02\x01\x01\x02\x01\x01")))),
    )
)

TARGETS: dict[str, tuple[Callable[[bytes], object], Callable[[object], bytes] | None, bytes]] = {
    "attest": (tpm.parse_attest, tpm.serialize_attest, _ATTEST),
    "signature": (tpm.parse_signature, tpm.serialize_signature, bytes.fromhex("0018000b0002aabb0002ccdd")),
    "rsa public": (tpm_public.parse, None, _RSA_PUBLIC),
    "ecc public": (tpm_public.parse, None, _ECC_PUBLIC),
    "hcl": (azure_hcl.parse, azure_hcl.serialize, _HCL),
    "claims": (
        azure_hcl.parse_claims,
        None,
        b'{"keys":[{"kty":"RSA","kid":"HCLAkPub","n":"AQAB","e":"AQAB"}],"user-data":"' + b"0" * 128 + b'"}',
    ),
    "cose": (lambda raw: cose.parse_sign1(raw, "x"), cose.serialize_sign1, _DOCUMENT),
    "nitro": (nitro.parse, lambda document: cose.serialize_sign1(document.sign1), _DOCUMENT),
    "endorsement": (gce_endorsement.parse, None, _ENDORSEMENT),
    "pcr file": (tpm2_tools.parse, None, _PCR_FILE),
    "go-tpm-tools": (go_tpm_tools.parse, None, _ATTESTATION),
    "manifest": (svsm_manifest.parse, lambda manifest: svsm_manifest.serialize(manifest.services), _MANIFEST),
    "azure json": (azure_cvm.from_json, None, _AZURE_JSON),
    "azure bincode": (azure_cvm.from_bincode, None, _AZURE_BINCODE),
    "go-attestation": (go_attestation.parse, None, _GO_ATTESTATION),
    "evident zero": (evident_zero.parse, None, _EVIDENT_ZERO),
    "container": (containers.read, None, _EVIDENT_ZERO),
    "pcr values": (lambda raw: pcr_values.parse(raw, _SELECTIONS), None, b'{"sha256":{"0":"' + b"00" * 32 + b'"}}'),
    "expected pcrs": (documents.load, None, b'[{"pcr":4,"digest":"' + b"7f" * 32 + b'"}]'),
    "sevsnp": (go_tpm_tools.parse_snp, None, protobuf.encode(((1, protobuf.encode(((1, 5),))),))),
}


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """`seed` with some bytes changed, cut out or put in."""
    raw = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        action = draw(st.sampled_from(("set", "insert", "cut")))
        if action == "set" and at < len(raw):
            raw[at] = draw(st.integers(0, 255))
        elif action == "insert":
            raw[at:at] = draw(st.binary(max_size=8))
        else:
            del raw[at : at + draw(st.integers(0, 64))]
    return bytes(raw)


def _only_known_errors(name: str, raw: bytes) -> None:
    parse, serialise, _ = TARGETS[name]
    try:
        parsed = parse(raw)
    except (Malformed, Unsupported):
        return
    if serialise is not None:
        assert serialise(parsed) == raw


@pytest.mark.parametrize("name", TARGETS)
def test_the_seed_itself_parses(name):
    parse, _, seed = TARGETS[name]
    if name == "sevsnp":
        with pytest.raises(Malformed):
            parse(seed)
    else:
        parse(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_mutations_raise_only_known_errors(name, data):
    _only_known_errors(name, data.draw(mutated(TARGETS[name][2])))


@given(raw=st.binary(max_size=256))
def test_noise_raises_only_known_errors(raw):
    for name in TARGETS:
        _only_known_errors(name, raw)


@given(raw=st.one_of(mutated(_RSA_PUBLIC), mutated(_ECC_PUBLIC)))
def test_keys_of_mutated_public_areas_raise_only_known_errors(raw):
    try:
        public = tpm_public.parse(raw)
        assert tpm_public.serialize(public) == public.raw
        public.public_key()
    except (Malformed, Unsupported):
        return


_ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1 << 70, [], {}, [[]], [None], {"a": 1}, {"a": {"b": []}}),
    *("", "x", "\0", "\u00e9", "AAAA", "00" * 32, "9" * 5000),
)
_JSON, _CBOR = st.sampled_from(_ODD), st.sampled_from((*_ODD, b"", b"\xff" * 48, {0: b""}, [b""]))


@st.composite
def altered(draw: st.DrawFn, value: Any, anything: st.SearchStrategy[Any]) -> Any:
    """`value` with one of its members, at any depth, of any other type: what no flipped bit makes of it."""
    places = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not places or draw(st.integers(0, 5)) == 0:
        return draw(anything)
    place = draw(st.sampled_from(places))
    changed = draw(altered(value[place], anything))
    return value | {place: changed} if isinstance(value, dict) else [*value[:place], changed, *value[place + 1 :]]


@pytest.mark.parametrize("name", [name for name, (_, _, seed) in TARGETS.items() if seed[:1] in (b"{", b"[")])
@given(data=st.data())
def test_members_of_any_type_raise_only_known_errors(name, data):
    changed = data.draw(altered(json.loads(TARGETS[name][2]), _JSON))
    _only_known_errors(name, json.dumps(changed).encode())


@given(data=st.data())
def test_members_of_a_nitro_document_of_any_type_raise_only_known_errors(data):
    protected, unprotected, payload, signature = cbor2.loads(_DOCUMENT)
    inside = cbor2.dumps(data.draw(altered(cbor2.loads(payload), _CBOR)))
    _only_known_errors("nitro", cbor2.dumps([protected, unprotected, inside, signature]))
    _only_known_errors("cose", cbor2.dumps(data.draw(altered(cbor2.loads(_DOCUMENT), _CBOR))))


@given(raw=st.one_of(mutated(_RSA_PUBLIC), mutated(_ECC_PUBLIC)))
def test_a_public_area_that_parses_serialises_back(raw):
    try:
        public = tpm_public.parse(raw)
    except (Malformed, Unsupported):
        return
    assert tpm_public.serialize(public) == public.raw == raw[-len(public.raw) :]
