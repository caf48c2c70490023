"""Certificates, CRLs, AMD's extensions and PEM: on any bytes whatsoever only `Malformed` and `Unsupported` come out.

A longer run: ``EVIDENT_FUZZ_EXAMPLES=200000 pytest tests/fuzz/test_fuzz_endorsements.py``.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.endorsements import amd, crl, pem, x509
from evident.endorsements.signatures import parse_algorithm
from evident.errors import Malformed, Unsupported
from evident.evidence.snp_report import GENOA, MILAN, TURIN, Tcb
from evident.simulator.pki import SimulatorPki

AT = datetime(2026, 6, 1, tzinfo=UTC)
DER_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0C, 0x13, 0x17, 0x18, 0x30, 0x31, 0xA0, 0xA3)


def digest(data: bytes) -> None:
    """Everything that reads untrusted bytes in this room, as far as each gets."""
    with contextlib.suppress(Malformed, Unsupported):
        for certificate in x509.load_all(data):
            assert certificate.der in (data, *pem.decode(data, ("CERTIFICATE",), "fuzz"))
            with contextlib.suppress(Malformed, Unsupported):
                assert certificate.public_key is not None
            with contextlib.suppress(Malformed, Unsupported):
                assert certificate.signature_algorithm is not None
            with contextlib.suppress(Malformed, Unsupported):
                amd.parse_endorsement_key(certificate)
    with contextlib.suppress(Malformed, Unsupported):
        parsed = crl.load(data)
        with contextlib.suppress(Malformed, Unsupported):
            assert parsed.signature_algorithm is not None
    with contextlib.suppress(Malformed, Unsupported):
        parse_algorithm(data, "fuzz")


@pytest.fixture(scope="module")
def seeds(simulator_pki: SimulatorPki) -> list[bytes]:
    hwid, tcb = bytes(range(64)), Tcb(bootloader=4, tee=0, snp=24, microcode=219)
    turin = Tcb(bootloader=4, tee=0, snp=24, microcode=219, fmc=1)
    return [
        simulator_pki.vcek(MILAN, hwid, tcb),
        simulator_pki.vcek(TURIN, hwid[:8], turin),
        simulator_pki.vlek(GENOA, "CN=cloud.example", tcb),
        simulator_pki.certificate(MILAN, "ark"),
        simulator_pki.chain_pem(MILAN, "vcek"),
        simulator_pki.crl(MILAN, at=AT, revoked=("ask",)),
    ]


@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    digest(data)


@given(st.binary(max_size=300), st.sampled_from(["CERTIFICATE", "X509 CRL", "PRIVATE KEY"]))
def test_any_bytes_in_pem(data: bytes, label: str) -> None:
    digest(pem.encode(data, label))


def element(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes([length]) if length < 0x80 else bytes([0x82]) + length.to_bytes(2, "big") if length > 0xFF else bytes([0x81, length])
    return bytes([tag]) + head + content


@given(
    st.recursive(
        st.builds(element, st.sampled_from(DER_TAGS), st.binary(max_size=12)),
        lambda inner: st.builds(element, st.sampled_from(DER_TAGS), st.lists(inner, max_size=6).map(b"".join)),
        max_leaves=25,
    )
)
def test_well_formed_der_of_no_kind(data: bytes) -> None:
    digest(data)


@given(data=st.data())
def test_real_shapes_with_changes(seeds: list[bytes], data: Any) -> None:
    """Bytes changed, removed, repeated or put in, a few at a time, so that most of the structure stays whole."""
    body = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["set", "flip", "cut", "insert", "repeat"])):
            case "set":
                body[at] = data.draw(st.sampled_from((*DER_TAGS, 0x00, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF)))
            case "flip":
                body[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del body[at : at + data.draw(st.integers(1, 40))]
            case "insert":
                body[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "repeat":
                body[at:at] = body[at : at + data.draw(st.integers(1, 40))]
        if not body:
            break
    digest(bytes(body))
