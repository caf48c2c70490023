"""Other tools' containers: the first Evident's bundle, and what is no container at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import Malformed
from evident.evidence import protobuf, tpm
from evident.evidence.importers import containers, evident_zero
from evident.simulator.vtpm import SimulatedTpm


def _evidence(raw: bytes, signature: bytes, certificate: bytes = b"certificate") -> bytes:
    key = protobuf.encode(((1, 1), (2, 2), (4, 1), (5, b"spki"), (6, protobuf.encode(((1, 1), (2, 1), (3, certificate))))))
    return protobuf.encode(((1, raw), (2, signature), (3, key)))


def _bundle(target: int = 2, signature: bytes = b"\0\x18\0\x0b\0\1\1\0\1\1") -> bytes:
    report = bytes(range(256)) * 5
    snp, quote = _evidence(report[:0x2A0], report[:0x200], b"chip"), _evidence(b"quote", signature, b"ak")
    return protobuf.encode(((1, target), (2, snp), (3, quote)))


@pytest.mark.parametrize("signed", [False, True])
def test_the_first_evidents_bundle_gives_its_pieces(signed):
    inner = _bundle()
    raw = protobuf.encode(((1, inner), (2, b"signature"), (3, b""))) if signed else inner
    pieces = containers.read(raw)
    assert len(pieces["report"][0]) == 1184
    assert (pieces["vcek"], pieces["ak-cert"], pieces["tpm-quote"]) == ((b"chip",), (b"ak",), (b"quote",))
    assert evident_zero.parse(_bundle(1))["vlek"] == (b"chip",)


def test_its_der_signatures_verify_as_tpm_signatures():
    from evident.verification.tpm import verifies

    machine = SimulatedTpm()
    message, _ = machine.quote(b"nonce")
    assert isinstance(machine.ak_key, ec.EllipticCurvePrivateKey)
    der = machine.ak_key.sign(message, ec.ECDSA(hashes.SHA256()))
    (raw,) = evident_zero.parse(_bundle(signature=der))["signature"]
    assert verifies(machine.ak_key.public_key(), tpm.parse_signature(raw), message)


@pytest.mark.parametrize(
    "signature", [b"\x30", b"\x30\x06\x02\x01\x01\x02\x01", b"\x30\x06\x02\x01\x01\x03\x01\x01", b"\x30\x04\x02\x00\x02\x00"]
)
def test_signatures_that_are_none_are_refused(signature):
    with pytest.raises(Malformed):
        evident_zero.parse(_bundle(signature=signature))


@pytest.mark.parametrize("raw", [b"", b"\x08\x05", protobuf.encode(((1, 7),)), b"\xff" * 64, protobuf.encode(((1, 2), (2, b"x")))])
def test_bytes_of_no_tool_are_refused(raw):
    with pytest.raises(Malformed):
        containers.read(raw)
