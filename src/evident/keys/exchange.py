"""Hand a secret, such as a disk key, to an attested guest and to nobody in between.

    releaser                                                    guest
    nonce (32 bytes) ─────────────────────────────────────────▶
                      ◀─────── evidence; REPORT_DATA binds nonce and the guest's ephemeral key (`evidence.binding`)
    verify, appraise: statement
    seal(...) ──────────────── Offer ─────────────────────────▶ open_offer(...)
    Sealed.confirm  ◀────────────────────────── confirmation ──

    key material = HKDF-SHA-384( ECDH P-384 of two ephemeral keys; salt = nonce;
                                 info = label ‖ nonce ‖ guest's SPKI ‖ releaser's SPKI ‖ statement digest, each behind its length )
    AES-256 key (32) ‖ confirmation key (48);  AES-256-GCM, 12-byte random IV;  the releaser signs the whole offer.

What each part is for (AT-70); `tests/attacks/test_exchange.py` shows the attack that each one alone stops:

(1) exchange.nonce         a nonce of at least 256 bits: a shorter one comes back, and evidence recorded for it with it
(2) exchange.unbound       the key that the secret is sealed to is the one in the attested REPORT_DATA
(3) both keys in `info`    neither public key can be exchanged for another one with the same shared secret (P and -P have it)
(4) statement in `info`    a secret released on one statement does not open under another
(5) fresh key and IV       every offer has its own, so that AES-GCM never sees a pair twice
(6) exchange.releaser      the guest takes secrets from the releaser that its measured image names, not from its host
(7) exchange.unconfirmed   the releaser counts a secret as delivered only when the guest proves that it opened it

Evident's own protocol. Sources: NIST SP 800-56A rev. 3 (ephemeral ECDH, key confirmation in section 5.9), SP 800-56C rev. 2 and
RFC 5869 (two-step derivation), SP 800-38D section 8.2 (IVs).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from evident.errors import Malformed, NotAuthentic
from evident.evidence import binding

NONCE_BYTES = 32
IV_BYTES = 12
STATEMENT_BYTES = 32
SECRET_LIMIT = 160 * 1024
"""A disk's key and named secrets (`evident.keys.secrets`), as JSON with hex in it."""

_LABEL = b"evident key exchange v1"
_CONFIRMATION = b"evident key exchange v1 confirmation"
_KEY_BYTES, _CONFIRMATION_BYTES = 32, 48
_SIGNATURE = ec.ECDSA(hashes.SHA384())


@dataclass(frozen=True, slots=True)
class Offer:
    """A sealed secret on its way to the guest. All of it may be seen; none of it may be changed."""

    releaser: bytes
    """The releaser's ephemeral public key, SubjectPublicKeyInfo in DER."""
    statement: bytes
    """SHA-256 of the statement on which the secret is released, 32 bytes."""
    iv: bytes
    """12 bytes."""
    sealed: bytes
    """AES-256-GCM ciphertext and tag."""
    signature: bytes
    """Over everything above and the guest's key and nonce, ECDSA P-384 with SHA-384, DER."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """The releaser's side of one exchange: what to send, and how to tell that it arrived."""

    offer: Offer
    _expected: bytes = field(repr=False)

    def confirm(self, confirmation: bytes) -> None:
        """Accept the guest's `confirmation`; `NotAuthentic` ``exchange.unconfirmed`` when it is not that of this secret."""
        if not hmac.compare_digest(confirmation, self._expected):
            raise _refuse(
                "unconfirmed",
                "the guest's proof that it opened this secret",
                "another value",
                "Do not count the secret as delivered: attest again and seal it anew.",
            )


def seal(
    secret: bytes,
    *,
    nonce: bytes,
    guest: bytes,
    bound_key: bytes | None,
    statement: bytes,
    signer: ec.EllipticCurvePrivateKey,
    randomness: Callable[[int], bytes] = os.urandom,
) -> Sealed:
    """Seal `secret` (1 to `SECRET_LIMIT` bytes) to the guest whose SubjectPublicKeyInfo (DER, P-384) is `guest`.

    `bound_key` is `Facts.bound_key` of the verified evidence, `statement` the SHA-256 of the accepted statement, `nonce` the challenge
    that was answered. `signer` is the releaser's long-term P-384 key. Raises `NotAuthentic` ``exchange.nonce``, ``exchange.unbound``,
    and `Malformed` ``exchange.key``, ``exchange.size``.
    """
    _check_nonce(nonce)
    _check_bound(guest, bound_key)
    _check_size("secret", secret, 1, SECRET_LIMIT)
    _check_size("statement digest", statement, STATEMENT_BYTES, STATEMENT_BYTES)
    own = _ephemeral()
    releaser = spki(own.public_key())
    key, confirmation_key = _derive(own, _public(guest), _info(nonce, guest, releaser, statement), nonce)
    iv = _fresh_iv(randomness)
    sealed = AESGCM(key).encrypt(iv, secret, _LABEL)
    signature = signer.sign(_signed(nonce, guest, releaser, statement, iv, sealed), _SIGNATURE)
    return Sealed(Offer(releaser, statement, iv, sealed, signature), _confirmation(confirmation_key, sealed))


def open_offer(offer: Offer, *, own: ec.EllipticCurvePrivateKey, nonce: bytes, releaser: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    """The secret, and the confirmation to send back. In the guest: `own` is the ephemeral key that its evidence bound to `nonce`.

    `releaser` is the long-term key that the guest's measured image names. Raises `NotAuthentic` ``exchange.nonce``,
    ``exchange.releaser``, ``exchange.sealed``, and `Malformed` ``exchange.key``, ``exchange.size``.
    """
    _check_nonce(nonce)
    _check_size("IV", offer.iv, IV_BYTES, IV_BYTES)
    _check_size("statement digest", offer.statement, STATEMENT_BYTES, STATEMENT_BYTES)
    _check_size("sealed secret", offer.sealed, 17, SECRET_LIMIT + 16)
    guest = spki(own.public_key())
    _check_releaser(offer, _signed(nonce, guest, offer.releaser, offer.statement, offer.iv, offer.sealed), releaser)
    info = _info(nonce, guest, offer.releaser, offer.statement)
    key, confirmation_key = _derive(own, _public(offer.releaser), info, nonce)
    try:
        secret = AESGCM(key).decrypt(offer.iv, offer.sealed, _LABEL)
    except InvalidTag:
        raise _refuse(
            "sealed",
            "a secret that was sealed to this guest's key, for this challenge and statement",
            "one that does not open",
            "Ask the releaser again, with new evidence.",
        ) from None
    return secret, _confirmation(confirmation_key, offer.sealed)


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_nonce(nonce: bytes) -> None:
    """(1)"""
    if len(nonce) < NONCE_BYTES:
        raise _refuse(
            "nonce",
            f"a challenge of at least {NONCE_BYTES} bytes",
            f"{len(nonce)}",
            "Challenge the guest with 32 random bytes that were never used before.",
        )


def _check_bound(guest: bytes, bound_key: bytes | None) -> None:
    """(2)"""
    if bound_key is None or not hmac.compare_digest(bound_key, binding.key_digest(guest)):
        raise _refuse(
            "unbound",
            "the key that the attested guest bound into its report",
            "no bound key" if bound_key is None else "another key",
            "Somebody stands between you and the guest: seal to the attested key only.",
        )


def _check_releaser(offer: Offer, signed: bytes, releaser: ec.EllipticCurvePublicKey) -> None:
    """(6)"""
    try:
        releaser.verify(offer.signature, signed, _SIGNATURE)
    except InvalidSignature:
        raise _refuse(
            "releaser",
            "an offer signed by the releaser that this image names",
            "one that is not",
            "Whoever made this offer chose the secret: do not use it.",
        ) from None


def _check_size(what: str, value: bytes, least: int, most: int) -> None:
    if not least <= len(value) <= most:
        raise Malformed.of(
            "exchange.size",
            expected=f"{what} of {least} to {most} bytes",
            found=f"{len(value)}",
            remedy="Start the exchange again with a message of this protocol.",
        )


def _public(der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1) or spki(key) != der:
        raise Malformed.of(
            "exchange.key",
            expected="a P-384 public key, SubjectPublicKeyInfo in DER, uncompressed",
            found=f"{len(der)} bytes of something else",
            remedy="Make the ephemeral key on P-384.",
        )
    return key


def _ephemeral() -> ec.EllipticCurvePrivateKey:
    """(5)"""
    return ec.generate_private_key(ec.SECP384R1())


def _fresh_iv(randomness: Callable[[int], bytes]) -> bytes:
    """(5)"""
    return randomness(IV_BYTES)


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _info(nonce: bytes, guest: bytes, releaser: bytes, statement: bytes) -> bytes:
    """(3) (4)"""
    return _framed(_LABEL, nonce, guest, releaser, statement)


def _signed(nonce: bytes, guest: bytes, releaser: bytes, statement: bytes, iv: bytes, sealed: bytes) -> bytes:
    return _framed(_LABEL, b"offer", nonce, guest, releaser, statement, iv, sealed)


def _derive(own: ec.EllipticCurvePrivateKey, peer: ec.EllipticCurvePublicKey, info: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """AES key and confirmation key."""
    derivation = HKDF(hashes.SHA384(), _KEY_BYTES + _CONFIRMATION_BYTES, salt=nonce, info=info)
    material = derivation.derive(own.exchange(ec.ECDH(), peer))
    return material[:_KEY_BYTES], material[_KEY_BYTES:]


def _confirmation(key: bytes, sealed: bytes) -> bytes:
    """(7) Only who derived the key can make it, and only for this very ciphertext."""
    return hmac.digest(key, _framed(_CONFIRMATION, hashlib.sha384(sealed).digest()), "sha384")


def _refuse(problem: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(f"exchange.{problem}", expected=expected, found=found, remedy=remedy, layer="identity")
