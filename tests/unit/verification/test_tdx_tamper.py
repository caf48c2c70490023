"""Every field of a quote, every certificate and every collateral document tampered in turn, under the simulator's TEST root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

import pytest

from evident.endorsements import anchors, pem, x509
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import EvidentError
from evident.evidence import tdx_quote
from evident.evidence.tdx_quote import TdReport
from evident.simulator.tdx import SIGNERS, Forgery, Platform, TdxPki, TrustDomain
from evident.verification import tdx
from evident.verification.context import ChainCache, Context

AT = datetime(2026, 6, 10, tzinfo=UTC)
PKI, PLATFORM, GUEST, NONCE = TdxPki(b"tamper", AT), Platform(), TrustDomain(), bytes(range(64))
QUOTE = PKI.quote(PLATFORM, GUEST, NONCE, version=5)
COLLATERAL = PKI.collateral(PLATFORM, AT)
WHERE = Context(
    AT,
    anchors.production().plus(*PKI.anchors()),
    StaticFetcher({}),
    nonce=NONCE,
    unsafe=frozenset({"simulated-root"}),
    chain_cache=ChainCache(),
)


def passes(quote: bytes = QUOTE, collateral: Mapping[str, bytes] = COLLATERAL) -> bool:
    try:
        return not tdx.verify({"quote": (quote,), **{role: (body,) for role, body in collateral.items()}}, WHERE).open_points
    except EvidentError:
        return False


def flipped(content: bytes, offset: int, bit: int = 1) -> bytes:
    return content[:offset] + bytes((content[offset] ^ bit,)) + content[offset + 1 :]


def test_untouched_it_passes() -> None:
    assert passes()


REPORT_FIELDS = [field.name for field in fields(TdReport) if field.name not in ("raw",)]


@pytest.mark.parametrize("name", REPORT_FIELDS)
def test_every_field_of_the_report(name: str) -> None:
    """The first, a middle and the last byte of each, found by its place in the wire form."""
    report = tdx_quote.parse(QUOTE).report
    start, found = QUOTE.index(report.raw), 0
    for offset in range(start, start + len(report.raw)):
        for bit in (0x01, 0x80):
            changed = flipped(QUOTE, offset, bit)
            try:
                other = tdx_quote.parse(changed).report
            except EvidentError:
                continue  # refused already for its form
            if getattr(other, name) == getattr(report, name):
                break  # this byte is of another field
            found += 1
            assert not passes(changed), (name, offset)
    assert found or name == "seamattributes", "a field that no byte belongs to"


@pytest.mark.parametrize("part", ["signature", "attestation_key", "qe_report_signature", "qe_authentication_data"])
def test_every_part_of_the_signature_data(part: str) -> None:
    value = getattr(tdx_quote.parse(QUOTE), part)
    start = QUOTE.index(value)
    assert not [offset for offset in range(start, start + len(value)) if passes(flipped(QUOTE, offset))]


def test_every_byte_of_the_quoting_enclaves_report() -> None:
    raw = tdx_quote.parse(QUOTE).qe_report.raw
    start = QUOTE.index(raw)
    assert not [offset for offset in range(start, start + len(raw)) if passes(flipped(QUOTE, offset))]


@pytest.mark.parametrize("position", range(3))
def test_every_certificate_of_the_chain(position: int) -> None:
    chain = [PKI.pck(PLATFORM), PKI.certificate("platform-ca"), PKI.certificate("root")]
    for offset in range(0, len(chain[position]), 3):
        changed = [*chain[:position], flipped(chain[position], offset), *chain[position + 1 :]]
        text = b"".join(pem.encode(der, "CERTIFICATE") for der in changed)
        if passes(PKI.quote(PLATFORM, GUEST, NONCE, forgery=Forgery(pck_chain=text))):
            assert position == 2, offset
            assert x509.parse(changed[2]).subject != x509.parse(chain[2]).subject, "then the pinned root stands in for a stranger's copy"


def test_the_certificate_of_the_collaterals_signer() -> None:
    assert "tcb-signing" in SIGNERS
    der = PKI.certificate("tcb-signing")
    survivors = []
    for offset in range(0, len(der), 3):
        changed = pem.encode(flipped(der, offset), "CERTIFICATE")
        if passes(collateral={**COLLATERAL, "tcb-chain": changed}):
            survivors.append(offset)
    assert not survivors


@pytest.mark.parametrize("role", ["tcb-info", "qe-identity", "pck-crl", "root-crl"])
def test_every_collateral_document(role: str) -> None:
    content = COLLATERAL[role]
    survivors = [offset for offset in range(0, len(content), 5) if passes(collateral={**COLLATERAL, role: flipped(content, offset)})]
    assert {content[offset : offset + 1] for offset in survivors} <= {b" ", b"\n", b"\t"}


@pytest.mark.parametrize("role", sorted(COLLATERAL))
def test_each_document_missing_is_no_pass(role: str) -> None:
    assert not passes(collateral={name: body for name, body in COLLATERAL.items() if name != role})


@pytest.mark.parametrize("role", ["tcb-info", "qe-identity", "pck-crl", "root-crl", "tcb-chain"])
def test_each_document_of_another_root_is_no_pass(role: str) -> None:
    other = TdxPki(b"another root", AT).collateral(PLATFORM, AT)
    assert not passes(collateral={**COLLATERAL, role: other[role]})
