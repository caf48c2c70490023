"""The verifier's own signing key: NIST P-384, one per state directory, readable by its owner alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import Malformed, UsageError
from evident.files import locked, read_private, write_private_bytes

FILE_NAME = "verifier-key.pem"
PUBLIC_NAME = "verifier-key.pub.pem"
"""What the operator hands to readers of bundles."""

_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
"""Order of the group of P-384 (FIPS 186-5, SP 800-186 section 3.2.1.4)."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A P-384 public key that a reader of bundles trusts."""

    spki: bytes
    """SubjectPublicKeyInfo, DER."""

    @property
    def keyid(self) -> str:
        """SHA-256 (hex) of the SubjectPublicKeyInfo."""
        return hashlib.sha256(self.spki).hexdigest()

    @property
    def pem(self) -> bytes:
        return _public(self.spki).public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def holds(self, signature: bytes, message: bytes) -> None:
        """Raise `InvalidSignature` unless `signature` (DER) is this key's over `message` (ECDSA with SHA-384)."""
        _public(self.spki).verify(signature, message, ec.ECDSA(hashes.SHA384()))

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyingKey:
        """Read a public key file; `Malformed` unless it holds one P-384 key."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise Malformed.of(
                "signer.key",
                expected="a PEM file with the P-384 public key of a verifier",
                found="something else",
                remedy=f"Ask the signer for {PUBLIC_NAME} of its state directory; `evident doctor` prints where that is.",
            )
        return cls(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """The verifier's private key. Signatures are deterministic (RFC 6979), so that equal bundles are equal files."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> VerifyingKey:
        public = self.private.public_key()
        return VerifyingKey(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))

    @property
    def pem(self) -> bytes:
        """PKCS #8, unencrypted: for the key file and for libraries that take a PEM."""
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-384 over `message`, DER."""
        return self.private.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True))


def generate(random: Callable[[int], bytes]) -> SigningKey:
    """A new key from `random` (48 bytes at a time; FIPS 186-5 A.2.2, testing candidates)."""
    while True:
        candidate = int.from_bytes(random(48))
        if 0 < candidate < _ORDER:
            return SigningKey(ec.derive_private_key(candidate, ec.SECP384R1()))


def load_or_create(directory: Path, random: Callable[[int], bytes]) -> SigningKey:
    """The verifier's key in `directory`, made on first use (mode 0600) by whichever process comes first.

    Raises `UsageError` when it cannot be read or kept, and when others could have read it.
    """
    path = directory / FILE_NAME
    if not path.exists():
        with locked(directory / "verifier-key.lock"):
            if not path.exists():
                write_private_bytes(path, generate(random).pem)
    pem = read_private(path)
    mode = path.stat().st_mode
    if mode & 0o077:
        raise _unusable(path, f"mode {mode & 0o777:o}", f"Others could have copied it. If nobody did: chmod 600 {path}; else delete it.")
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP384R1):
        raise _unusable(path, "something else", "Restore it from your backup, or delete it: a new one is made, with another name.")
    key = SigningKey(private)
    public = directory / PUBLIC_NAME
    if not public.exists():
        write_private_bytes(public, key.public.pem)
    return key


def _public(spki: bytes) -> ec.EllipticCurvePublicKey:
    key = serialization.load_der_public_key(spki)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidSignature
    return key


def _unusable(path: Path, found: str, remedy: str) -> UsageError:
    return UsageError.of(
        "signer.unusable", expected=f"the verifier's P-384 key, readable by you alone, in {path}", found=found, remedy=remedy
    )
