"""A small certificate authority for the tests of this room, made anew for every run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def name(common_name: str) -> library.Name:
    return library.Name([library.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), library.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Authority:
    """A CA of the test, `key` and certificate."""

    common_name: str
    key: Key
    der: bytes

    def crl(
        self, *, number: int | None = 5, revoked: tuple[int, ...] = (), days: int = 30, key: Key | None = None, start: datetime = NOW
    ) -> bytes:
        builder = (
            library.CertificateRevocationListBuilder()
            .issuer_name(name(self.common_name))
            .last_update(start)
            .next_update(start + timedelta(days=days))
        )
        if number is not None:
            builder = builder.add_extension(library.CRLNumber(number), critical=False)
        for serial in revoked:
            entry = library.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
            entry = entry.add_extension(library.CRLReason(library.ReasonFlags.key_compromise), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        signer = key or self.key
        rsa_padding = PSS if isinstance(signer, rsa.RSAPrivateKey) else None
        return builder.sign(signer, hashes.SHA384(), rsa_padding=rsa_padding).public_bytes(serialization.Encoding.DER)


def _issue(
    common_name: str,
    key: Key,
    issuer: str,
    issuer_key: Key,
    *,
    ca: bool | None = False,
    path_length: int | None = None,
    usage: tuple[str, ...] | None = None,
    pss: bool = False,
    serial: int = 7,
    start: datetime = NOW - timedelta(days=1),
    days: int = 365,
    extensions: tuple[tuple[str, bytes, bool], ...] = (),
) -> bytes:
    builder = (
        library.CertificateBuilder()
        .issuer_name(name(issuer))
        .subject_name(name(common_name))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )
    if ca is not None:
        builder = builder.add_extension(library.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if usage is not None:
        flags = {flag: flag in usage for flag in USAGES}
        builder = builder.add_extension(library.KeyUsage(**flags), critical=True)
    for oid, value, critical in extensions:
        builder = builder.add_extension(library.UnrecognizedExtension(library.ObjectIdentifier(oid), value), critical=critical)
    rsa_padding = PSS if pss else None
    return builder.sign(issuer_key, hashes.SHA384(), rsa_padding=rsa_padding).public_bytes(serialization.Encoding.DER)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def issue() -> Callable[..., bytes]:
    """`_issue` above: a certificate, DER."""
    return _issue


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def root(rsa_key: rsa.RSAPrivateKey) -> Authority:
    """An RSA root that signs with PSS, as AMD's does."""
    der = _issue("TEST Root", rsa_key, "TEST Root", rsa_key, ca=True, usage=("key_cert_sign", "crl_sign"), pss=True)
    return Authority("TEST Root", rsa_key, der)


@pytest.fixture(scope="session")
def leaf_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())
