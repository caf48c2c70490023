"""DSSE envelopes (secure-systems-lab/dsse, protocol 1.0.2): one signature over payload and payload type together.

The envelope is written as canonical JSON and read only in that form, with exactly one signature whose ``keyid`` is the SHA-256
of the signer's SubjectPublicKeyInfo: there is no byte in the file that can change unnoticed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evident import codec
from evident.audit import canonical
from evident.errors import Malformed, NotAuthentic

if TYPE_CHECKING:  # whoever only reads an envelope needs no keys
    from evident.audit.keys import SigningKey, VerifyingKey

MAX_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Signature:
    keyid: str
    sig: str


@dataclass(frozen=True, slots=True)
class _Envelope:
    payloadType: str  # noqa: N815  # the member's name on the wire
    payload: str
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload whose signature holds."""

    payload_type: str
    payload: bytes
    signer: VerifyingKey


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding (protocol.md, "Signature Definition")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """The signed envelope, canonical JSON."""
    signature = _Signature(key.public.keyid, base64.b64encode(key.sign(pae(payload_type, payload))).decode())
    return canonical.dumps(codec.encode(_Envelope(payload_type, base64.b64encode(payload).decode(), (signature,))))


def read(data: bytes) -> tuple[str, bytes, str]:
    """Payload type, payload and claimed keyid of an envelope, *unverified*: for decoding only."""
    envelope, payload, _ = _parse(data)
    return envelope.payloadType, payload, envelope.signatures[0].keyid


def unseal(data: bytes, trusted: Iterable[VerifyingKey]) -> Opened:
    """Check the envelope's one signature under one of the `trusted` keys.

    Raises `Malformed` (not a canonical envelope), `NotAuthentic` (``bundle.signer-untrusted``, ``bundle.signature``).
    """
    from cryptography.exceptions import InvalidSignature  # here, for whoever only reads an envelope verifies nothing

    envelope, payload, signature = _parse(data)
    keyid = envelope.signatures[0].keyid
    keys = {key.keyid: key for key in trusted}
    if keyid not in keys:
        raise NotAuthentic.of(
            "bundle.signer-untrusted",
            expected="a signature by a verifier you trust: " + (", ".join(sorted(keys)) or "none was named"),
            found=keyid,
            remedy="If you trust that verifier, get its public key from its operator and pass it with --signer KEY.pem.",
        )
    try:
        keys[keyid].holds(signature, pae(envelope.payloadType, payload))
    except InvalidSignature:
        raise NotAuthentic.of(
            "bundle.signature",
            expected=f"a signature by {keyid} over exactly this content",
            found="one that does not verify",
            remedy="The bundle was changed after it was signed. Get the original from whoever exported it.",
        ) from None
    return Opened(envelope.payloadType, payload, keys[keyid])


def _parse(data: bytes) -> tuple[_Envelope, bytes, bytes]:
    value = codec.loads(data, "bundle", limit=MAX_BYTES)
    envelope = codec.decode(_Envelope, value, "bundle")
    if len(envelope.signatures) != 1:
        raise _malformed("signatures", "exactly one signature", f"{len(envelope.signatures)}")
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("base64", "standard base64 in payload and sig", "something else") from None
    again = _Envelope(
        envelope.payloadType,
        base64.b64encode(payload).decode(),
        (_Signature(envelope.signatures[0].keyid, base64.b64encode(signature).decode()),),
    )
    _refuse_other_spelling(again, data)
    return envelope, payload, signature


def _refuse_other_spelling(envelope: _Envelope, data: bytes) -> None:
    if canonical.dumps(codec.encode(envelope)) != data:
        raise _malformed("not-canonical", "canonical JSON (RFC 8785), byte for byte", "another spelling of the same document")


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"bundle.{problem}", expected=expected, found=found, remedy="Get the bundle again from whoever exported it; this copy is damaged."
    )
