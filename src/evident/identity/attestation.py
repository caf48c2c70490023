"""What the two halves of Evident's node attestor for SPIRE say to each other: JSON, every member strict (`evident.codec`).

    machine                                   spire-server's plug-in
    Hello       key of this boot      ->
                                      <-      Challenge   32 random bytes, for this stream alone
    Answer      evidence, signature   ->
                                      <-      Credential  only where a TPM quotes, and gave its endorsement key
    Activated   answer                ->
                                      <-      attributes, or a denial by its code

SPIRE carries them between agent and server: Hello is the payload, the others are challenges and their responses.

The evidence binds nonce and key, as everywhere (`evident.evidence.binding`). That is what a running machine answers to anybody who asks it
(``POST /v1/attest``), so somebody in between could pass the nonce on and come with the machine's own answer. So the key has to sign as well
(`proof`), which a machine does for its own SPIRE agent and for nobody else (AT-03).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from evident import codec
from evident.errors import Malformed, NotAuthentic
from evident.identity.spiffe_id import SpiffeId

T = TypeVar("T")

NAME = "evident"
"""Of the plug-in on both sides, so the attestation type and the selectors' type."""
WHAT = "spire.message"
LIMIT = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of one message: what a gRPC server takes by default, less what SPIRE puts around it."""
NONCE_BYTES = 32
_LABEL = b"evident spire node attestation v1"
_SIGNATURE = ec.ECDSA(hashes.SHA384())


@dataclass(frozen=True, slots=True)
class Hello:
    version: Literal[1]
    key: bytes
    """The plug-in's key of this boot, P-384, SubjectPublicKeyInfo in DER."""


@dataclass(frozen=True, slots=True)
class Challenge:
    version: Literal[1]
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    version: Literal[1]
    evidence: Any
    """A CMW collection (`evident.evidence.cmw`) that binds nonce and key."""
    signature: bytes
    """Over `proof`, ECDSA P-384 with SHA-384, DER."""
    beside: tuple[Any, ...] = ()
    """More collections that answer the same challenge: a TPM's quote with its log."""


@dataclass(frozen=True, slots=True)
class Credential:
    """For the endorsement key and the attestation key that came with the evidence."""

    version: Literal[1]
    credential_blob: bytes
    """TPM2B_ID_OBJECT."""
    encrypted_secret: bytes
    """TPM2B_ENCRYPTED_SECRET."""


@dataclass(frozen=True, slots=True)
class Activated:
    version: Literal[1]
    answer: bytes | None = None
    """`evident.evidence.binding.credential_answer`; None where the TPM opened nothing."""


def proof(nonce: bytes, trust_domain: str) -> bytes:
    """What the machine's key signs: that it asks for an identity in this trust domain, in answer to this challenge."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (_LABEL, nonce, trust_domain.encode()))


def sign(key: ec.EllipticCurvePrivateKey, nonce: bytes, trust_domain: str) -> bytes:
    """The signature of an `Answer`."""
    return key.sign(proof(nonce, trust_domain), _SIGNATURE)


def check_possession(key: bytes, signature: bytes, nonce: bytes, trust_domain: str) -> None:
    """Whether the holder of `key` (SPKI) answers `nonce` itself; `NotAuthentic` ``spire.possession`` otherwise."""
    try:
        public(key).verify(signature, proof(nonce, trust_domain), _SIGNATURE)
    except InvalidSignature:
        raise NotAuthentic.of(
            "spire.possession",
            expected="the machine's own signature over this challenge and trust domain",
            found="another, or none",
            remedy="Somebody came with the answer of another machine: find out who stands in between.",
            layer="identity",
        ) from None


def public(key: bytes) -> ec.EllipticCurvePublicKey:
    """The P-384 key whose SubjectPublicKeyInfo is `key`; `Malformed` ``spire.message.key`` for anything else."""
    try:
        loaded = load_der_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        loaded = None
    if not isinstance(loaded, ec.EllipticCurvePublicKey) or not isinstance(loaded.curve, ec.SECP384R1) or spki(loaded) != key:
        raise Malformed.of(
            f"{WHAT}.key",
            expected="a P-384 public key, SubjectPublicKeyInfo in DER, uncompressed",
            found=f"{len(key)} bytes of something else",
            remedy="Make the key of the boot on P-384.",
        )
    return loaded


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def agent_id(trust_domain: str, key: bytes) -> SpiffeId:
    """That of the agent on the machine of this key: a new one with every boot, as node entries go by selectors (NA-27)."""
    return SpiffeId(trust_domain, f"/spire/agent/{NAME}/{hashlib.sha256(key).hexdigest()[:32]}")


def dumps(message: object) -> bytes:
    """The JSON text of any of these."""
    return json.dumps(codec.encode(message), sort_keys=True, separators=(",", ":")).encode()


def loads(kind: type[T], data: bytes) -> T:
    """Read a message of this kind; raises `Malformed`."""
    return codec.decode(kind, codec.loads(data, WHAT, limit=LIMIT), WHAT)
