"""Public areas of TPM keys (TPM2B_PUBLIC, TPMT_PUBLIC), their names, and the key they hold. Big endian.

Source: TCG "Trusted Platform Module Library, Part 2: Structures", version 1.83: TPMT_PUBLIC, TPMA_OBJECT,
TPMT_SYM_DEF_OBJECT, TPMT_RSA_SCHEME, TPMT_ECC_SCHEME, TPMT_KDF_SCHEME; names and qualified names: Part 1, section 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evident.errors import Malformed, Unsupported
from evident.evidence import tpm_algorithms as alg
from evident.evidence.reader import Reader

WHAT = "tpm.public"
MAX_BUFFER = 1024  # larger than any buffer of a public area (an RSA-8192 modulus)

ATTRIBUTE_BITS: Mapping[int, str] = MappingProxyType(
    {
        1: "fixed_tpm",
        2: "st_clear",
        4: "fixed_parent",
        5: "sensitive_data_origin",
        6: "user_with_auth",
        7: "admin_with_policy",
        8: "firmware_limited",
        9: "svn_limited",
        10: "no_da",
        11: "encrypted_duplication",
        16: "restricted",
        17: "decrypt",
        18: "sign",
        19: "x509_sign",
    }
)

HANDLE_OWNER = 0x40000001
HANDLE_NULL = 0x40000007
HANDLE_ENDORSEMENT = 0x4000000B
HANDLE_PLATFORM = 0x4000000C
HIERARCHIES: Mapping[int, str] = MappingProxyType(
    {HANDLE_OWNER: "owner", HANDLE_ENDORSEMENT: "endorsement", HANDLE_PLATFORM: "platform", HANDLE_NULL: "null"}
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signing, encryption or key derivation scheme; `id` is ALG_NULL when the key leaves it open."""

    id: int = alg.ALG_NULL
    hash: int | None = None
    count: int | None = None
    """ECDAA's commit count; None otherwise."""

    def serialize(self) -> bytes:
        parts = [self.id.to_bytes(2, "big")]
        parts += [value.to_bytes(2, "big") for value in (self.hash, self.count) if value is not None]
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Symmetric:
    """The symmetric algorithm with which a storage key protects its children."""

    id: int = alg.ALG_NULL
    bits: int = 0
    mode: int = 0

    def serialize(self) -> bytes:
        if self.id == alg.ALG_NULL:
            return self.id.to_bytes(2, "big")
        return b"".join(value.to_bytes(2, "big") for value in (self.id, self.bits, self.mode))


@dataclass(frozen=True, slots=True)
class RsaKey:
    """`exponent` is 0 on the wire when it is 65537; the modulus keeps its wire bytes."""

    bits: int
    exponent: int
    modulus: bytes


@dataclass(frozen=True, slots=True)
class EccKey:
    """A point on `curve` (TPM_ECC_CURVE); coordinates keep their wire bytes."""

    curve: int
    kdf: Scheme
    x: bytes
    y: bytes


@dataclass(frozen=True)
class Public:
    """TPMT_PUBLIC of an RSA or ECC key. `raw` is the area without the size of a TPM2B_PUBLIC."""

    name_alg: int
    attributes: int
    auth_policy: bytes
    symmetric: Symmetric
    scheme: Scheme
    key: RsaKey | EccKey
    raw: bytes

    @property
    def attribute_flags(self) -> dict[str, bool]:
        """TPMA_OBJECT by name."""
        return {name: bool(self.attributes >> bit & 1) for bit, name in ATTRIBUTE_BITS.items()}

    @cached_property
    def name(self) -> bytes:
        """The object's Name: nameAlg, then the hash of the public area."""
        return self.name_alg.to_bytes(2, "big") + alg.hash_of(self.name_alg, "nameAlg").digest(self.raw)

    def qualified_name(self, parent: bytes) -> bytes:
        """The Qualified Name below `parent` (its Qualified Name, or a hierarchy's handle in 4 bytes)."""
        return self.name_alg.to_bytes(2, "big") + alg.hash_of(self.name_alg, "nameAlg").digest(parent, self.name)

    @property
    def tpm2b(self) -> bytes:
        """TPM2B_PUBLIC: the area behind its 16-bit size."""
        return len(self.raw).to_bytes(2, "big") + self.raw

    def public_key(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """The key itself; `Malformed` when the numbers are no key, `Unsupported` for an unknown curve."""
        if isinstance(self.key, RsaKey):
            return _rsa(self.key)
        return _ecc(self.key)


def parse(raw: bytes) -> Public:
    """Parse a TPM2B_PUBLIC or a bare TPMT_PUBLIC; which one is told by the leading size."""
    if len(raw) >= 2 and int.from_bytes(raw[:2], "big") == len(raw) - 2:
        raw = raw[2:]
    reader = Reader(raw, WHAT)
    kind = reader.u16("type", order="big")
    if kind not in (alg.ALG_RSA, alg.ALG_ECC):
        known = kind in (alg.ALG_KEYEDHASH, 0x0025)
        error = Unsupported if known else Malformed
        raise error.of(
            WHAT + ".type", expected="an RSA (0x0001) or ECC (0x0023) key", found=f"{kind:#06x}", remedy="Pass the public area of the key."
        )
    name_alg = reader.u16("nameAlg", order="big")
    if name_alg != alg.ALG_NULL:
        alg.hash_of(name_alg, "nameAlg")
    attributes = _attributes(reader.u32("objectAttributes", order="big"))
    auth_policy = buffer(reader, "authPolicy")
    symmetric = _symmetric(reader)
    scheme = _scheme(reader, "scheme")
    key = _rsa_key(reader) if kind == alg.ALG_RSA else _ecc_key(reader)
    reader.end()
    return Public(name_alg, attributes, auth_policy, symmetric, scheme, key, raw)


def serialize(public: Public) -> bytes:
    """The wire form of a TPMT_PUBLIC, built from its fields (not from `raw`)."""
    kind = alg.ALG_RSA if isinstance(public.key, RsaKey) else alg.ALG_ECC
    head = (
        kind.to_bytes(2, "big"),
        public.name_alg.to_bytes(2, "big"),
        public.attributes.to_bytes(4, "big"),
        sized(public.auth_policy),
        public.symmetric.serialize(),
        public.scheme.serialize(),
    )
    if isinstance(public.key, RsaKey):
        tail = (public.key.bits.to_bytes(2, "big"), public.key.exponent.to_bytes(4, "big"), sized(public.key.modulus))
    else:
        tail = (public.key.curve.to_bytes(2, "big"), public.key.kdf.serialize(), sized(public.key.x) + sized(public.key.y))
    return b"".join((*head, *tail))


def buffer(reader: Reader, field: str, limit: int = MAX_BUFFER) -> bytes:
    """A TPM2B: a 16-bit size and that many bytes, at most `limit`."""
    size = reader.u16(field + " size", order="big")
    if size > limit:
        raise Malformed.of(
            "tpm.oversized", expected=f"at most {limit} bytes of {field}", found=f"{size} bytes", remedy="The structure was altered."
        )
    return reader.take(size, field)


def sized(value: bytes) -> bytes:
    """`value` as a TPM2B."""
    return len(value).to_bytes(2, "big") + value


def _attributes(value: int) -> int:
    if value & ~sum(1 << bit for bit in ATTRIBUTE_BITS):
        raise Malformed.of(
            WHAT + ".reserved",
            expected="no reserved bit set in objectAttributes",
            found=f"{value:#010x}",
            remedy="The format is newer than this version of Evident, or the public area was altered.",
        )
    return value


def _symmetric(reader: Reader) -> Symmetric:
    identifier = reader.u16("symmetric algorithm", order="big")
    if identifier == alg.ALG_NULL:
        return Symmetric()
    return Symmetric(identifier, reader.u16("symmetric key bits", order="big"), reader.u16("symmetric mode", order="big"))


def _scheme(reader: Reader, field: str) -> Scheme:
    identifier = reader.u16(field, order="big")
    if identifier in (alg.ALG_NULL, alg.ALG_RSAES):
        return Scheme(identifier)
    hash_id = reader.u16(f"hash of the {field}", order="big")
    if identifier == alg.ALG_ECDAA:
        return Scheme(identifier, hash_id, reader.u16("ECDAA count", order="big"))
    return Scheme(identifier, hash_id)


def _rsa_key(reader: Reader) -> RsaKey:
    bits, exponent = reader.u16("keyBits", order="big"), reader.u32("exponent", order="big")
    return RsaKey(bits, exponent, buffer(reader, "modulus"))


def _ecc_key(reader: Reader) -> EccKey:
    curve = reader.u16("curve", order="big")
    kdf = _scheme(reader, "kdf")
    return EccKey(curve, kdf, buffer(reader, "x"), buffer(reader, "y"))


def _not_a_key(found: str) -> Malformed:
    return Malformed.of(
        WHAT + ".key", expected="the numbers of an RSA or ECC public key", found=found, remedy="Pass the public area of a created key."
    )


def _rsa(key: RsaKey) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(key.modulus, "big")
    if modulus.bit_length() != key.bits or not 1024 <= key.bits <= 8192:
        raise _not_a_key(f"a modulus of {modulus.bit_length()} bits, declared as {key.bits}")
    try:
        return rsa.RSAPublicNumbers(key.exponent or 65537, modulus).public_key()
    except ValueError as error:
        raise _not_a_key(str(error)) from None


def _ecc(key: EccKey) -> ec.EllipticCurvePublicKey:
    curves: dict[int, ec.EllipticCurve] = {alg.CURVE_P256: ec.SECP256R1(), alg.CURVE_P384: ec.SECP384R1(), alg.CURVE_P521: ec.SECP521R1()}
    if key.curve not in curves:
        raise Unsupported.of(
            WHAT + ".curve", expected="NIST P-256, P-384 or P-521", found=f"{key.curve:#06x}", remedy="Use a key on one of these curves."
        )
    try:
        return ec.EllipticCurvePublicNumbers(int.from_bytes(key.x, "big"), int.from_bytes(key.y, "big"), curves[key.curve]).public_key()
    except ValueError as error:
        raise _not_a_key(str(error)) from None
