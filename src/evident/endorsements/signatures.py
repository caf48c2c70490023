"""Signature algorithms of certificates and CRLs: the AlgorithmIdentifier read strictly, the signature checked with it.

Source: RFC 5280 section 4.1.1.2, RFC 4055 (RSA), RFC 5758 (ECDSA). SHA-1 and MD5 are not supported on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from evident.endorsements import der
from evident.errors import Malformed, NotAuthentic, Unsupported

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
HashName = Literal["sha256", "sha384", "sha512"]
Scheme = Literal["rsa-pkcs1", "rsa-pss", "ecdsa"]

RSA_BITS = range(2048, 8193)
CURVES = ("secp256r1", "secp384r1", "secp521r1")

_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_SIMPLE: Mapping[str, tuple[Scheme, HashName]] = MappingProxyType(
    {
        "1.2.840.113549.1.1.11": ("rsa-pkcs1", "sha256"),
        "1.2.840.113549.1.1.12": ("rsa-pkcs1", "sha384"),
        "1.2.840.113549.1.1.13": ("rsa-pkcs1", "sha512"),
        "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
        "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
        "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
    }
)
_HASHES: Mapping[str, HashName] = MappingProxyType(
    {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
)
_HASH_CLASS: Mapping[HashName, type[hashes.HashAlgorithm]] = MappingProxyType(
    {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
)


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """What signs: `salt_length` in bytes and MGF1 over the same hash for ``rsa-pss``, no salt otherwise."""

    scheme: Scheme
    hash: HashName
    salt_length: int | None = None

    def __str__(self) -> str:
        salt = "" if self.salt_length is None else f" with a salt of {self.salt_length} bytes"
        return f"{self.scheme} {self.hash}{salt}"


def parse_algorithm(identifier: bytes, what: str) -> SignatureAlgorithm:
    """From the DER of an AlgorithmIdentifier; `Unsupported` for any algorithm not listed above."""
    outer = der.Der(identifier, what)
    sequence = outer.enter(der.SEQUENCE, "signature algorithm")
    outer.end("signature algorithm")
    oid = sequence.oid("signature algorithm")
    if oid == _PSS:
        algorithm = _pss(sequence, what)
    elif oid in _SIMPLE:
        scheme, hash_name = _SIMPLE[oid]
        if scheme == "rsa-pkcs1" and sequence.more:
            _null(sequence)
        algorithm = SignatureAlgorithm(scheme, hash_name)
    else:
        raise _unsupported(what, oid)
    sequence.end("signature algorithm parameters")
    return algorithm


def _pss(sequence: der.Der, what: str) -> SignatureAlgorithm:
    """RSASSA-PSS-params (RFC 4055 section 3.1); the defaults are SHA-1 and so never acceptable."""
    parameters = sequence.enter(der.SEQUENCE, "RSASSA-PSS parameters")
    if not parameters.at(der.context(0)):
        raise _unsupported(what, "RSASSA-PSS with SHA-1 by default")
    hash_name = _hash(parameters.enter(der.context(0), "PSS hash"), what)
    if not parameters.at(der.context(1)):
        raise _unsupported(what, "RSASSA-PSS with MGF1 over SHA-1 by default")
    wrapper = parameters.enter(der.context(1), "PSS mask generation")
    mask = wrapper.enter(der.SEQUENCE, "PSS mask generation")
    wrapper.end("PSS mask generation")
    if (function := mask.oid("mask generation function")) != _MGF1:
        raise _unsupported(what, f"mask generation function {function}")
    if (mask_hash := _hash(mask, what)) != hash_name:
        raise _unsupported(what, f"RSASSA-PSS over {hash_name} with MGF1 over {mask_hash}")
    salt_length = 20
    if parameters.at(der.context(2)):
        wrapper = parameters.enter(der.context(2), "PSS salt length")
        salt_length = wrapper.unsigned("PSS salt length", 512)
        wrapper.end("PSS salt length")
    if parameters.at(der.context(3)):  # a DEFAULT value, so DER would leave it out; AMD's older certificates spell it
        wrapper = parameters.enter(der.context(3), "PSS trailer field")
        if (trailer := wrapper.integer("PSS trailer field")) != 1:
            raise _unsupported(what, f"RSASSA-PSS trailer field {trailer}")
        wrapper.end("PSS trailer field")
    parameters.end("RSASSA-PSS parameters")
    return SignatureAlgorithm("rsa-pss", hash_name, salt_length)


def _hash(wrapper: der.Der, what: str) -> HashName:
    sequence = wrapper.enter(der.SEQUENCE, "hash algorithm")
    wrapper.end("hash algorithm")
    oid = sequence.oid("hash algorithm")
    if sequence.more:
        _null(sequence)
    sequence.end("hash algorithm")
    if oid not in _HASHES:
        raise _unsupported(what, f"hash algorithm {oid}")
    return _HASHES[oid]


def _null(sequence: der.Der) -> None:
    if sequence.content(der.NULL, "parameters"):
        raise sequence.fail("der", expected="an empty NULL", found="content")


def _unsupported(what: str, found: str) -> Unsupported:
    return Unsupported.of(
        f"{what}.algorithm",
        expected="RSA PKCS #1 v1.5, RSASSA-PSS or ECDSA with SHA-256, SHA-384 or SHA-512",
        found=found,
        remedy="No endorsement of a supported platform is signed this way; check where the file came from.",
    )


def load_public_key(spki: bytes, what: str) -> PublicKey:
    """A SubjectPublicKeyInfo (DER); `Unsupported` for other kinds, sizes and curves, `Malformed` for no key at all."""
    try:
        key = serialization.load_der_public_key(spki)
    except UnsupportedAlgorithm as error:
        raise _unsupported_key(what, str(error)) from None
    except (ValueError, TypeError) as error:
        raise Malformed.of(
            f"{what}.public-key",
            expected="a SubjectPublicKeyInfo",
            found=str(error) or "no key",
            remedy="Obtain this file again; it was damaged or is of another kind.",
        ) from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in RSA_BITS:
            return key
        raise _unsupported_key(what, f"RSA of {key.key_size} bits")
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in CURVES:
            return key
        raise _unsupported_key(what, f"curve {key.curve.name}")
    raise _unsupported_key(what, type(key).__name__)


def _unsupported_key(what: str, found: str) -> Unsupported:
    return Unsupported.of(
        f"{what}.public-key",
        expected="an RSA key of 2048 to 8192 bits or an EC key on P-256, P-384 or P-521",
        found=found,
        remedy="No endorsement of a supported platform has such a key; check where the file came from.",
    )


def check_signature(key: PublicKey, algorithm: SignatureAlgorithm, signature: bytes, signed: bytes, what: str) -> None:
    """`NotAuthentic` with code ``<what>.signature`` unless `signature` by `key` covers `signed`."""
    digest = _HASH_CLASS[algorithm.hash]()
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm.scheme == "rsa-pss":
            key.verify(signature, signed, padding.PSS(padding.MGF1(digest), algorithm.salt_length or 0), digest)
        elif isinstance(key, rsa.RSAPublicKey) and algorithm.scheme == "rsa-pkcs1":
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm.scheme == "ecdsa":
            key.verify(signature, signed, ec.ECDSA(digest))
        else:
            raise InvalidSignature
    except InvalidSignature:
        kind = f"RSA-{key.key_size}" if isinstance(key, rsa.RSAPublicKey) else key.curve.name
        raise NotAuthentic.of(
            f"{what}.signature",
            expected=f"a signature ({algorithm}) by the issuer's {kind} key",
            found="a signature that does not verify",
            remedy="The file was altered or belongs to another issuer; obtain it again from its issuer.",
            layer="root_of_trust",
        ) from None
