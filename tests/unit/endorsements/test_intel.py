"""Intel's documents and PCK extensions: read from real ones, and refused when they are damaged."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.endorsements import intel, x509
from evident.endorsements.x509 import Extension
from evident.errors import EvidentError, Malformed, Unsupported
from evident.evidence import tdx_quote
from evident.simulator.tdx import Platform, TdxPki, qe_identity, sgx_extension, tcb_info

AT = datetime(2026, 6, 10, tzinfo=UTC)
PKI = TdxPki(b"intel", AT)
SGX = "1.2.840.113741.1.13.1"
INFO, IDENTITY = tcb_info(Platform(), AT), qe_identity(Platform(), AT)


def certificate(value: bytes | None) -> x509.Certificate:
    own = x509.parse(PKI.pck(Platform()))
    extensions = dict(own.extensions)
    del extensions[SGX]
    if value is not None:
        extensions[SGX] = Extension(False, value)
    return dataclasses.replace(own, extensions=extensions)


def test_pck() -> None:
    pck = intel.parse_pck(x509.parse(PKI.pck(Platform())))
    assert (pck.fmspc, pck.pce_id, pck.pce_svn) == (Platform().fmspc, b"\0\0", 13)
    assert pck.component_svns == Platform().component_svns
    assert pck.cpu_svn == bytes(Platform().component_svns)
    assert pck.configuration == {"dynamic_platform": False, "cached_keys": False, "smt_enabled": True}
    assert len(pck.ppid) == 16


def test_real_pck(vectors: Any) -> None:
    quote = tdx_quote.parse(vectors.read("tdx/dcap-qvl-near", "quote.bin"))
    leaf = x509.load_all(quote.pck_chain.removesuffix(b"\0"))[0]
    pck, facts = intel.parse_pck(leaf), vectors.facts("tdx/dcap-qvl-near")
    assert pck.fmspc.hex() == facts["fmspc"]
    assert list(pck.component_svns) == facts["tcb_status_computed_by_collector"]["pck_cpusvn"], "255 takes a two-byte INTEGER"
    assert pck.pce_svn == facts["tcb_status_computed_by_collector"]["pcesvn"]


GOOD = sgx_extension(Platform())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        GOOD.replace(Platform().fmspc, Platform().fmspc[:5] + b""),
        sgx_extension(Platform(fmspc=b"short")),
        sgx_extension(Platform(pce_id=b"\0")),
        sgx_extension(Platform(pce_svn=70000)),
        sgx_extension(Platform(component_svns=(1,) * 15)),
        sgx_extension(Platform(component_svns=(1,) * 17)),
        bytes.fromhex("3000"),
        GOOD.replace(bytes.fromhex("0a0101"), bytes.fromhex("020101")),
        GOOD.replace(bytes.fromhex("0a0101"), bytes.fromhex("0a01ff")),
    ],
)
def test_bad_pck_extensions(value: bytes | None) -> None:
    with pytest.raises(Malformed) as refusal:
        intel.parse_pck(certificate(value))
    assert refusal.value.code.startswith("intel.pck")


def test_documents_keep_the_signed_bytes() -> None:
    text = PKI.document("tcbInfo", INFO)
    document = intel.signed_document(text, "tcbInfo", "t")
    assert text == b'{"tcbInfo":' + document.body + b',"signature":"' + document.signature.hex().encode() + b'"}'
    spaced = text.replace(b'{"tcbInfo":', b' {\n "tcbInfo" : ', 1)
    assert intel.signed_document(spaced, "tcbInfo", "t").body == document.body
    assert intel.parse_tcb_info(document.body).fmspc == Platform().fmspc


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"tcbInfo": {}}',
        b'{"tcbInfo": [], "signature": ""}',
        b'{"tcbInfo": {}, "signature": ""}',
        b'{"tcbInfo": {}, "signature": "zz"}',
        b'{"signature": "' + b"00" * 64 + b'", "tcbInfo": {}}',
        b'{"tcbInfo": {}, "signature": "' + b"00" * 64 + b'", "more": 1}',
        b'{"tcbInfo": {"a": 1, "a": 2}, "signature": "' + b"00" * 64 + b'"}',
        b"\xff",
    ],
)
def test_bad_documents(text: bytes) -> None:
    with pytest.raises(Malformed):
        intel.signed_document(text, "tcbInfo", "t")


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        *(({name: None}, Malformed) for name in INFO),
        ({"id": "SGX"}, Unsupported),
        ({"version": 2}, Unsupported),
        ({"tcbType": 1}, Unsupported),
        ({"fmspc": "00"}, Malformed),
        ({"fmspc": "zz" * 6}, Malformed),
        ({"issueDate": "yesterday"}, Malformed),
        ({"issueDate": "2026-02-30T00:00:00Z"}, Malformed),
        ({"nextUpdate": "2026-01-01T00:00:00+01:00"}, Malformed),
        ({"tcbLevels": {}}, Malformed),
        ({"tcbLevels": [{}] * 300}, Malformed),
        ({"tcbLevels": [{**INFO["tcbLevels"][0], "tcbStatus": "Fine"}]}, Unsupported),
        ({"tcbLevels": [{**INFO["tcbLevels"][0], "advisoryIDs": [1]}]}, Malformed),
        ({"tcbLevels": [{**INFO["tcbLevels"][0], "tcb": {**INFO["tcbLevels"][0]["tcb"], "pcesvn": -1}}]}, Malformed),
        ({"tcbLevels": [{**INFO["tcbLevels"][0], "tcb": {**INFO["tcbLevels"][0]["tcb"], "pcesvn": True}}]}, Malformed),
        ({"tcbLevels": [{**INFO["tcbLevels"][0], "tcb": {**INFO["tcbLevels"][0]["tcb"], "sgxtcbcomponents": []}}]}, Malformed),
        ({"tcbLevels": [{**INFO["tcbLevels"][0], "tcb": {**INFO["tcbLevels"][0]["tcb"], "tdxtcbcomponents": [{}] * 16}}]}, Malformed),
        ({"tdxModuleIdentities": [{}]}, Malformed),
    ],
)
def test_bad_tcb_info(change: dict[str, Any], kind: type[EvidentError]) -> None:
    with pytest.raises(kind):
        intel.parse_tcb_info(json.dumps({**INFO, **change}).encode())


@pytest.mark.parametrize("name", [name for name in INFO if name != "tdxModuleIdentities"])
def test_tcb_info_without(name: str) -> None:
    with pytest.raises(Malformed):
        intel.parse_tcb_info(json.dumps(without(INFO, name)).encode())


def test_tcb_info_of_2023_has_no_module_identities() -> None:
    assert intel.parse_tcb_info(json.dumps(without(INFO, "tdxModuleIdentities")).encode()).module_identities == ()


def test_what_intel_adds_is_ignored() -> None:
    assert intel.parse_tcb_info(json.dumps({**INFO, "newMember": 1}).encode()) == intel.parse_tcb_info(json.dumps(INFO).encode())


def test_levels_are_ordered_as_intels_library_does() -> None:
    turned = {**INFO, "tcbLevels": INFO["tcbLevels"][::-1]}
    assert intel.parse_tcb_info(json.dumps(turned).encode()) == intel.parse_tcb_info(json.dumps(INFO).encode())


@pytest.mark.parametrize("name", list(IDENTITY))
def test_qe_identity_without(name: str) -> None:
    with pytest.raises(Malformed):
        intel.parse_qe_identity(json.dumps(without(IDENTITY, name)).encode())


def test_qe_identity_of_sgx() -> None:
    with pytest.raises(Unsupported):
        intel.parse_qe_identity(json.dumps({**IDENTITY, "id": "QE"}).encode())


@pytest.mark.parametrize("text", [b"[]", b'{"tcb_info": 1}', b'{"tcb_info": "{}", "tcb_info_signature": "00"}'])
def test_bad_collateral(text: bytes) -> None:
    with pytest.raises(Malformed):
        intel.parse_collateral(text)


def test_partial_collateral() -> None:
    assert intel.parse_collateral(b"{}") == intel.Collateral()
    assert intel.parse_collateral(b'{"tcb_info": "{}"}').tcb_info is None


def test_urls() -> None:
    assert intel.tcb_info_url(b"\x00\xa0\x6d\x08\x00\x00").endswith("/tdx/certification/v4/tcb?fmspc=00A06D080000")
    assert intel.qe_identity_url(base="https://pccs.example").startswith("https://pccs.example/tdx/certification/v4/")
    assert intel.pck_crl_url("platform").endswith("?ca=platform&encoding=der")
