"""Whatever the bytes, the parsers of TDX evidence and of Intel's documents raise nothing but their own refusals."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from evident.endorsements import intel, x509
from evident.endorsements.x509 import Extension
from evident.errors import Malformed, Unsupported
from evident.evidence import content, tdx_quote
from evident.simulator.tdx import Platform, TdxPki, TrustDomain, qe_identity, sgx_extension, tcb_info

AT = datetime(2026, 6, 10, tzinfo=UTC)
PKI = TdxPki(b"fuzz", AT)
QUOTES = [PKI.quote(Platform(), TrustDomain(), bytes(64), version=version) for version in (4, 5)]
CERTIFICATE = x509.parse(PKI.pck(Platform()))
EXTENSION = sgx_extension(Platform())
DOCUMENT = PKI.document("tcbInfo", tcb_info(Platform(), AT))
EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=4)
REFUSALS = (Malformed, Unsupported)


def edited(data: bytes, edits: list[tuple[int, bytes]], cut: int) -> bytes:
    changed = bytearray(data)
    for offset, value in edits:
        at = offset % len(changed)
        changed[at : at + len(value)] = value
    return bytes(changed[: len(changed) - cut % (len(changed) + 1)] if cut else changed)


@given(st.sampled_from(QUOTES), EDITS, st.integers(0, 5000))
def test_quotes(quote: bytes, edits: list[tuple[int, bytes]], cut: int) -> None:
    with suppress(*REFUSALS):
        raw = edited(quote, edits, cut)
        assert tdx_quote.serialize(tdx_quote.parse(raw)) == raw


@given(st.sampled_from(QUOTES), st.sampled_from((632, 764, 766, 1218, 1252, 1254)), st.integers(0, 0xFFFFFFFF))
def test_quote_lengths(quote: bytes, offset: int, value: int) -> None:
    with suppress(*REFUSALS):
        tdx_quote.parse(quote[:offset] + value.to_bytes(4, "little") + quote[offset + 4 :])


@given(st.binary(max_size=200))
def test_anything_as_quote(data: bytes) -> None:
    with suppress(*REFUSALS):
        tdx_quote.parse(content.tdx_quote(data))


@given(EDITS, st.integers(0, 300))
def test_pck_extensions(edits: list[tuple[int, bytes]], cut: int) -> None:
    value = edited(EXTENSION, edits, cut)
    certificate = dataclasses.replace(CERTIFICATE, extensions={"1.2.840.113741.1.13.1": Extension(False, value)})
    with suppress(*REFUSALS):
        intel.parse_pck(certificate)


@given(EDITS, st.integers(0, 3000))
def test_signed_documents(edits: list[tuple[int, bytes]], cut: int) -> None:
    with suppress(*REFUSALS):
        intel.parse_tcb_info(intel.signed_document(edited(DOCUMENT, edits, cut), "tcbInfo", "fuzz").body)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 1 << 40)
    | st.text(max_size=8)
    | st.sampled_from(("00" * 48, "2026-01-01T00:00:00Z", "UpToDate")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("tcb", "isvsvn", "svn", "tcbStatus")), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(tcb_info(Platform(), AT))), JSON)
def test_tcb_info_members(name: str, value: object) -> None:
    with suppress(*REFUSALS):
        intel.parse_tcb_info(json.dumps({**tcb_info(Platform(), AT), name: value}).encode())


@given(st.sampled_from(sorted(qe_identity(Platform(), AT))), JSON)
def test_qe_identity_members(name: str, value: object) -> None:
    with suppress(*REFUSALS):
        intel.parse_qe_identity(json.dumps({**qe_identity(Platform(), AT), name: value}).encode())


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(("tcb_info", "tcb_info_signature", "pck_crl")), JSON).map(json.dumps).map(str.encode)
)
def test_collateral(text: bytes) -> None:
    with suppress(*REFUSALS):
        intel.parse_collateral(text)
