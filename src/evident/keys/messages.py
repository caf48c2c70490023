"""What a guest and a key server say to each other: JSON over HTTP/1.1, every member strict (`evident.codec`).

    POST /v1/challenge   ChallengeRequest  ->  ChallengeReply
    POST /v1/credential  CredentialRequest ->  CredentialReply, or Refusal: where a TPM's quote is part of the evidence
    POST /v1/evidence    EvidenceRequest   ->  EvidenceReply, or Refusal
    POST /v1/confirm     ConfirmRequest    ->  Done, or Refusal

or, where the disk's terms name an SVID, over TLS with that SVID as the client's certificate:

    POST /v1/key         KeyRequest        ->  Volume, or Refusal

and a verifier to a running guest, at any time:

    POST /v1/attest      AttestRequest     ->  AttestReply, or Refusal
    POST /v1/activate    ActivateRequest   ->  ActivateReply, or Refusal

The network is the host's. Nothing rests on it: the guest knows the server's key by the digest in its measured command line, the
server knows the guest's by its evidence, and the secret travels sealed between the two (`evident.keys.exchange`). Where SPIRE stands
between them, each knows the other's SPIFFE ID, and TLS is the seal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from evident import codec
from evident.errors import Malformed
from evident.keys import secrets
from evident.keys.exchange import Offer

T = TypeVar("T")

WHAT = "keys.message"
LIMIT = 4 * 1024 * 1024
"""Bytes of one message; evidence with logs is the largest."""
CHALLENGE, CREDENTIAL, EVIDENCE, CONFIRM, HEALTH = "/v1/challenge", "/v1/credential", "/v1/evidence", "/v1/confirm", "/v1/health"
KEY = "/v1/key"
ATTEST, ACTIVATE = "/v1/attest", "/v1/activate"
KEY_BYTES_LIMIT = 1024
_DISK_LIMIT = 64


def check_disk(disk: str) -> str:
    """`disk` if it may name one: a UUID or another word of letters, digits and hyphens."""
    if not 0 < len(disk) <= _DISK_LIMIT or not disk.isascii() or not disk.replace("-", "").isalnum() or disk != disk.lower():
        raise Malformed.of(
            f"{WHAT}.disk",
            expected=f"a disk's UUID: lower-case letters, digits and hyphens, at most {_DISK_LIMIT}",
            found=repr(disk)[:80],
            remedy="Name the disk by its PARTUUID, as on the command line.",
        )
    return disk


@dataclass(frozen=True, slots=True)
class ChallengeRequest:
    version: Literal[1]
    disk: str
    """Which disk the guest wants to open; without one, the name under which it asks for its secrets (``evident.machine``)."""

    def __post_init__(self) -> None:
        check_disk(self.disk)


@dataclass(frozen=True, slots=True)
class ChallengeReply:
    version: Literal[1]
    nonce: bytes
    key_server_public: bytes
    """The key that signs offers, SubjectPublicKeyInfo in DER."""


@dataclass(frozen=True, slots=True)
class CredentialRequest:
    """The guest asks for a credential that its TPM alone can open."""

    version: Literal[1]
    nonce: bytes
    ek: bytes
    """Endorsement key, TPM2B_PUBLIC or TPMT_PUBLIC."""
    ak: bytes
    """The attestation key that quotes, likewise."""


@dataclass(frozen=True, slots=True)
class CredentialReply:
    version: Literal[1]
    credential_blob: bytes
    """TPM2B_ID_OBJECT."""
    encrypted_secret: bytes
    """TPM2B_ENCRYPTED_SECRET."""


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    version: Literal[1]
    disk: str
    nonce: bytes
    key: bytes
    """The guest's ephemeral key that the evidence binds, SubjectPublicKeyInfo in DER."""
    evidence: Any
    """A CMW collection of evidence (`evident.evidence.cmw`)."""
    beside: tuple[Any, ...] = ()
    """More collections that answer the same challenge: a TPM's quote with its log."""
    activated: bytes | None = None
    """The answer to the credential (`evident.evidence.binding.credential_answer`), where the TPM could open it."""

    def __post_init__(self) -> None:
        check_disk(self.disk)


@dataclass(frozen=True, slots=True)
class EvidenceReply:
    version: Literal[1]
    offer: Offer


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    version: Literal[1]
    nonce: bytes
    confirmation: bytes


@dataclass(frozen=True, slots=True)
class Done:
    version: Literal[1]


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Who asks is said by the SVID that the connection was made with."""

    version: Literal[1]
    disk: str
    """As in `ChallengeRequest`."""

    def __post_init__(self) -> None:
        check_disk(self.disk)


@dataclass(frozen=True, slots=True)
class AttestRequest:
    version: Literal[1]
    nonce: bytes


@dataclass(frozen=True, slots=True)
class AttestReply:
    version: Literal[1]
    key: bytes
    """The key of this boot, SubjectPublicKeyInfo in DER."""
    evidence: Any
    """A CMW collection (`evident.evidence.cmw`)."""
    beside: tuple[Any, ...] = ()
    """As in `EvidenceRequest`."""
    certificates: tuple[bytes, ...] = ()
    """Where the workload serves TLS: the instance certificate, of the key of this boot, and by it that of the workload's TLS key; DER."""


@dataclass(frozen=True, slots=True)
class ActivateRequest:
    """A credential for the endorsement key and the attestation key that came with the evidence."""

    version: Literal[1]
    nonce: bytes
    """Of the challenge that the evidence answered."""
    credential_blob: bytes
    """TPM2B_ID_OBJECT."""
    encrypted_secret: bytes
    """TPM2B_ENCRYPTED_SECRET."""


@dataclass(frozen=True, slots=True)
class ActivateReply:
    version: Literal[1]
    answer: bytes
    """`evident.evidence.binding.credential_answer`: the secret itself stays in the guest."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No key. Codes alone: their explanations are the owner's, in the release log."""

    version: Literal[1]
    decision: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """What is released: everything the guest may only have from the server it trusts (BW-09)."""

    version: Literal[1]
    disk: str
    key: bytes = field(repr=False)
    """Empty where there is no disk to open."""
    root_hash: bytes | None = None
    """dm-verity root hash of the file system inside; the guest compares it with the measured one."""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By name."""

    def __post_init__(self) -> None:
        secrets.check(self.secrets)


def dumps(message: object) -> bytes:
    """The JSON text of any of these."""
    return json.dumps(codec.encode(message), sort_keys=True, separators=(",", ":")).encode()


def loads(kind: type[T], data: bytes) -> T:
    """Read a message of this kind; raises `Malformed`."""
    return codec.decode(kind, codec.loads(data, WHAT, limit=LIMIT), WHAT)
