"""ID block and ID authentication information: how a guest owner names the launch that may run, and signs it.

Source: AMD publication 56860, tables "ID Block" (96 bytes), "ID Authentication Information" (4096 bytes) and the ECDSA P-384
public key and signature formats of its appendix (numbers little endian in 72-byte fields).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from evident.errors import NotAuthentic, Unsupported
from evident.evidence.reader import Reader, exact_length

BLOCK_BYTES: Final = 96
AUTH_BYTES: Final = 4096
KEY_BYTES: Final = 0x404
SIGNATURE_BYTES: Final = 512
ALGORITHM_ECDSA_P384_SHA384: Final = 1
_CURVE_P384: Final = 2
_BLOCK = "snp.id-block"
_AUTH = "snp.id-auth"


@dataclass(frozen=True, slots=True)
class IdBlock:
    """What the guest owner expects of the launch."""

    launch_digest: bytes
    policy: int
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    guest_svn: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> IdBlock:
        exact_length(raw, BLOCK_BYTES, _BLOCK)
        reader = Reader(raw, _BLOCK)
        digest, family_id, image_id = reader.take(48, "digest"), reader.take(16, "family_id"), reader.take(16, "image_id")
        version = reader.u32("version")
        if version != 1:
            raise Unsupported.of(f"{_BLOCK}.version", expected="version 1", found=str(version), remedy="Make a version 1 ID block.")
        svn, policy = reader.u32("guest_svn"), reader.u64("policy")
        return cls(digest, policy, family_id, image_id, svn)

    def serialize(self) -> bytes:
        numbers = (1).to_bytes(4, "little") + self.guest_svn.to_bytes(4, "little") + self.policy.to_bytes(8, "little")
        raw = self.launch_digest + self.family_id + self.image_id + numbers
        exact_length(raw, BLOCK_BYTES, _BLOCK)
        return raw


@dataclass(frozen=True, slots=True)
class IdAuth:
    """Signature of the ID block by the ID key, and optionally of the ID key by the author key; fields as on the wire."""

    block_signature: bytes
    id_key: bytes
    id_key_signature: bytes = bytes(SIGNATURE_BYTES)
    author_key: bytes = bytes(KEY_BYTES)
    author_algorithm: int = 0
    id_algorithm: int = ALGORITHM_ECDSA_P384_SHA384

    @classmethod
    def sign(cls, block: IdBlock, id_key: ec.EllipticCurvePrivateKey, author_key: ec.EllipticCurvePrivateKey | None = None) -> IdAuth:
        """Authenticate `block` by `id_key` (P-384) and, when given, `id_key` by `author_key`."""
        public = _key_field(id_key.public_key())
        signature = _sign(id_key, block.serialize())
        if author_key is None:
            return cls(signature, public)
        return cls(signature, public, _sign(author_key, public), _key_field(author_key.public_key()), ALGORITHM_ECDSA_P384_SHA384)

    @classmethod
    def parse(cls, raw: bytes) -> IdAuth:
        exact_length(raw, AUTH_BYTES, _AUTH)
        reader = Reader(raw, _AUTH)
        id_algorithm, author_algorithm = reader.u32("ID key algorithm"), reader.u32("author key algorithm")
        reader.zeros(56, "0x008")
        block_signature, id_key = reader.take(SIGNATURE_BYTES, "block signature"), reader.take(KEY_BYTES, "ID key")
        reader.zeros(60, "0x644")
        id_key_signature, author_key = reader.take(SIGNATURE_BYTES, "ID key signature"), reader.take(KEY_BYTES, "author key")
        reader.zeros(892, "0xc84")
        return cls(block_signature, id_key, id_key_signature, author_key, author_algorithm, id_algorithm)

    def serialize(self) -> bytes:
        algorithms = self.id_algorithm.to_bytes(4, "little") + self.author_algorithm.to_bytes(4, "little")
        keys = self.block_signature + self.id_key + bytes(60) + self.id_key_signature + self.author_key + bytes(892)
        raw = algorithms + bytes(56) + keys
        exact_length(raw, AUTH_BYTES, _AUTH)
        return raw

    @property
    def id_key_digest(self) -> bytes:
        """SHA-384 over the key field, as reports carry it."""
        return hashlib.sha384(self.id_key).digest()

    @property
    def author_key_digest(self) -> bytes:
        """SHA-384 over the author key field; zeros without an author key."""
        return hashlib.sha384(self.author_key).digest() if self.author_algorithm else bytes(48)

    def check(self, block: IdBlock) -> None:
        """Both signatures hold, or `NotAuthentic`."""
        _check(self.id_algorithm, self.id_key, self.block_signature, block.serialize(), "id-block.signature")
        if self.author_algorithm:
            _check(self.author_algorithm, self.author_key, self.id_key_signature, self.id_key, "id-block.author-signature")


def _key_field(public: ec.EllipticCurvePublicKey) -> bytes:
    numbers = public.public_numbers()
    field = _CURVE_P384.to_bytes(4, "little") + numbers.x.to_bytes(72, "little") + numbers.y.to_bytes(72, "little")
    return field.ljust(KEY_BYTES, b"\0")


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return signature_field(key.sign(data, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))


def signature_field(der: bytes) -> bytes:
    """A DER ECDSA signature in the firmware's form: R and S, 72 bytes each, zero to 512 bytes."""
    r, s = decode_dss_signature(der)
    return (r.to_bytes(72, "little") + s.to_bytes(72, "little")).ljust(SIGNATURE_BYTES, b"\0")


def _check(algorithm: int, key: bytes, signature: bytes, data: bytes, code: str) -> None:
    if algorithm != ALGORITHM_ECDSA_P384_SHA384 or int.from_bytes(key[:4], "little") != _CURVE_P384:
        raise Unsupported.of(
            code,
            expected="ECDSA P-384 with SHA-384",
            found=f"algorithm {algorithm}, curve {key[:4].hex()}",
            remedy="Sign with a P-384 key.",
        )
    x, y = int.from_bytes(key[4:76], "little"), int.from_bytes(key[76:148], "little")
    r, s = int.from_bytes(signature[:72], "little"), int.from_bytes(signature[72:144], "little")
    try:
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP384R1()).public_key()
        public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError):
        raise NotAuthentic.of(
            code,
            expected="a signature by the key beside it",
            found="one that does not hold",
            remedy="Sign the block with the key that it names.",
        ) from None
