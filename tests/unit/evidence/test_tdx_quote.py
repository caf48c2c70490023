"""TDX quotes: fields by name, lengths from the structure, the rule for trailing bytes, and every kind that is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.errors import EvidentError, Malformed, Unsupported
from evident.evidence import content, tdx_quote
from evident.simulator.tdx import Forgery, Platform, TdxPki, TrustDomain

PKI = TdxPki(b"quotes", datetime(2026, 6, 10, tzinfo=UTC))
GUEST = TrustDomain(attributes=1 << 28 | 1 << 63, mrconfigid=b"\x01" * 48, mrowner=b"\x02" * 48, mrownerconfig=b"\x03" * 48).extend(
    3, b"x" * 48
)
QUOTES = {version: PKI.quote(Platform(), GUEST, b"r" * 64, version=version) for version in (4, 5)}
BODY_END = {4: 48 + 584, 5: 54 + 648}


def put(quote: bytes, offset: int, content: bytes) -> bytes:
    return quote[:offset] + content + quote[offset + len(content) :]


@pytest.mark.parametrize("version", [4, 5])
def test_fields(version: int) -> None:
    quote = tdx_quote.parse(QUOTES[version])
    report = quote.report
    assert (quote.version, quote.body_type, quote.certification_type) == (version, version - 2, 5)
    assert (report.mrtd, report.mrconfigid, report.mrowner, report.mrownerconfig) == (GUEST.mrtd, b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
    assert report.rtmrs == GUEST.rtmrs
    assert report.report_data == b"r" * 64
    assert [name for name, value in report.attributes.items() if value] == ["sept_ve_disable", "perfmon"]
    assert not report.under_debug
    assert (report.tee_tcb_svn2 is not None) == (report.mrservicetd is not None) == (version == 5)
    assert quote.qe_report.isv_svn == 6
    assert quote.qe_report.isv_prod_id == 2
    assert quote.signed == QUOTES[version][: BODY_END[version]]
    assert quote.pck_chain.startswith(b"-----BEGIN CERTIFICATE-----")
    assert tdx_quote.serialize(quote) == QUOTES[version]


@pytest.mark.parametrize("version", [4, 5])
def test_the_wire_form_is_made_of_the_fields(version: int) -> None:
    quote = tdx_quote.parse(QUOTES[version])
    other = replace(
        quote,
        user_data=b"u" * 20,
        report=replace(quote.report, mrtd=b"m" * 48, tdattributes=1 << 28, rtmrs=(b"0" * 48, b"1" * 48, b"2" * 48, b"3" * 48)),
        signature=b"s" * 64,
        attestation_key=b"k" * 64,
        qe_authentication_data=b"longer than it was" * 4,
        pck_chain=b"shorter",
        trailing=b"behind",
    )
    again = tdx_quote.parse(tdx_quote.serialize(other))
    for name in ("user_data", "signature", "attestation_key", "qe_authentication_data", "pck_chain", "trailing"):
        assert getattr(again, name) == getattr(other, name)
    assert replace(again.report, raw=b"") == replace(other.report, raw=b"")


@pytest.mark.parametrize("bit", range(8))
def test_every_bit_of_the_debug_group_is_debug(bit: int) -> None:
    if bit not in tdx_quote.ATTRIBUTE_BITS:
        with pytest.raises(Malformed):
            tdx_quote.parse(PKI.quote(Platform(), TrustDomain(attributes=1 << bit), bytes(64)))
        return
    assert tdx_quote.parse(PKI.quote(Platform(), TrustDomain(attributes=1 << bit), bytes(64))).report.under_debug


@pytest.mark.parametrize("trailing", [b"\0", bytes(70), b"\x01" * 39, bytes(tdx_quote.MAX_TRAILING_BYTES)])
def test_trailing_bytes_are_kept_and_mean_nothing(trailing: bytes) -> None:
    raw = PKI.quote(Platform(), GUEST, b"r" * 64, forgery=Forgery(trailing=trailing))
    quote = tdx_quote.parse(raw)
    assert quote.trailing == trailing
    assert quote.signed == tdx_quote.parse(QUOTES[4]).signed
    assert tdx_quote.serialize(quote) == raw


def test_too_many_trailing_bytes() -> None:
    with pytest.raises(Malformed) as refusal:
        tdx_quote.parse(QUOTES[4] + bytes(tdx_quote.MAX_TRAILING_BYTES + 1))
    assert refusal.value.code == "tdx.quote.trailing"


@pytest.mark.parametrize("version", [4, 5])
def test_cut_anywhere(version: int) -> None:
    whole = QUOTES[version]
    for length in [*range(BODY_END[version] + 900), *range(BODY_END[version] + 900, len(whole), 13)]:
        with pytest.raises(EvidentError) as refusal:
            tdx_quote.parse(whole[:length])
        assert isinstance(refusal.value, Malformed | Unsupported)


SIGNATURE_SIZE = BODY_END[4]
OUTER_TYPE = SIGNATURE_SIZE + 4 + 128
INNER_TYPE = OUTER_TYPE + 6 + 384 + 64 + 2 + 32


def grown(offset: int, size: int) -> bytes:
    """The quote with the length field at `offset` one too large."""
    value = int.from_bytes(QUOTES[4][offset : offset + size], "little") + 1
    return put(QUOTES[4], offset, value.to_bytes(size, "little"))


@pytest.mark.parametrize(
    ("raw", "kind", "code"),
    [
        (put(QUOTES[4], 0, b"\x03"), Unsupported, "tdx.quote.version"),
        (put(QUOTES[4], 0, b"\x06"), Unsupported, "tdx.quote.version"),
        (put(QUOTES[4], 4, bytes(4)), Unsupported, "tdx.quote.sgx"),
        (put(put(QUOTES[4], 4, bytes(4)), 0, b"\x03"), Unsupported, "tdx.quote.sgx"),
        (put(QUOTES[4], 4, b"\x82"), Unsupported, "tdx.quote.version"),
        (put(QUOTES[4], 2, b"\x03"), Unsupported, "tdx.quote.key-type"),
        (put(QUOTES[4], 8, b"\x01"), Malformed, "tdx.quote.reserved"),
        (put(QUOTES[4], 12, b"\x00"), Unsupported, "tdx.quote.qe-vendor"),
        (put(QUOTES[5], 48, b"\x01"), Unsupported, "tdx.quote.body-type"),
        (put(QUOTES[5], 48, b"\x04"), Unsupported, "tdx.quote.body-type"),
        (put(QUOTES[5], 48, b"\x02"), Malformed, "tdx.quote.body-size"),
        (put(QUOTES[5], 50, b"\x89"), Malformed, "tdx.quote.body-size"),
        (put(QUOTES[4], 48 + 120, b"\x02"), Malformed, "tdx.quote.reserved"),
        (put(QUOTES[4], OUTER_TYPE, b"\x05"), Unsupported, "tdx.quote.certification-type"),
        (put(QUOTES[4], INNER_TYPE, b"\x03"), Unsupported, "tdx.quote.certification-type"),
        (grown(SIGNATURE_SIZE, 4), Malformed, "tdx.quote.truncated"),
        (grown(SIGNATURE_SIZE, 4) + b"\0", Malformed, "tdx.quote.trailing"),
        (grown(OUTER_TYPE + 2, 4), Malformed, "tdx.quote.truncated"),
        (grown(INNER_TYPE + 2, 4), Malformed, "tdx.quote.truncated"),
        (grown(INNER_TYPE - 34, 2), Unsupported, "tdx.quote.certification-type"),
        (b"", Malformed, "tdx.quote.truncated"),
    ],
)
def test_refuses(raw: bytes, kind: type[EvidentError], code: str) -> None:
    with pytest.raises(kind) as refusal:
        tdx_quote.parse(raw)
    assert refusal.value.code == code


def test_a_huge_chain() -> None:
    with pytest.raises(Malformed) as refusal:
        tdx_quote.parse(PKI.quote(Platform(), GUEST, bytes(64), forgery=Forgery(pck_chain=bytes(tdx_quote.MAX_CERTIFICATION_BYTES + 1))))
    assert refusal.value.code == "tdx.quote.certification"


@pytest.mark.parametrize("form", [QUOTES[4], QUOTES[4].hex().encode(), b" " + QUOTES[4].hex().upper().encode() + b"\n"])
def test_forms(form: bytes) -> None:
    assert content.tdx_quote(form) == QUOTES[4]


@pytest.mark.parametrize("form", [b"{}", b'{"quote": 1}', b'{"quote": "xyz"}', b'{"quote": ""}', b"{"])
def test_json_without_a_quote(form: bytes) -> None:
    with pytest.raises(Malformed):
        content.tdx_quote(form)


def test_real_quotes_come_back_byte_for_byte(vectors: Any) -> None:
    for case, entry in vectors.cases.items():
        for file in entry["files"]:
            if case.startswith(("tdx/", "gcp/go-tdx")) and file["name"] == "quote.bin" and case != "tdx/dcap-qvl-sgx":
                raw = vectors.read(case, "quote.bin")
                assert tdx_quote.serialize(tdx_quote.parse(raw)) == raw
