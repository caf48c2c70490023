"""Attestation documents of AWS Nitro: the payload of a COSE_Sign1 by a NitroTPM or by a Nitro Enclave's security module.

Source: AWS Nitro Enclaves User Guide, "Cryptographic attestation" (document and its CDDL); Amazon EC2 User Guide, "NitroTPM
attestation document contents" (``nitrotpm_pcrs``). The payload is a map of definite or, in newer documents, indefinite length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from evident.errors import Malformed, Unsupported
from evident.evidence import cose

WHAT = "nitro.document"
PCR_BYTES = {"SHA256": 32, "SHA384": 48, "SHA512": 64}
MAX_OPTIONAL_BYTES = 1024
MAX_CERTIFICATE_BYTES = 4096  # the CDDL says 1024; leave room for a longer chain entry
MAX_CABUNDLE = 8
MAX_PCRS = 32
_COMMON = {"module_id", "digest", "timestamp", "certificate", "cabundle", "public_key", "user_data", "nonce"}


@dataclass(frozen=True, slots=True)
class NitroDocument:
    """One document. Absent optional members are None; `timestamp` is in milliseconds since 1970."""

    kind: Literal["nitrotpm", "nitro-enclave"]
    module_id: str
    digest: str
    timestamp: int
    pcrs: Mapping[int, bytes]
    certificate: bytes
    """DER of the signing certificate (lives three hours)."""
    cabundle: tuple[bytes, ...]
    """DER, the root first."""
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    indefinite: bool
    """Whether the payload was an indefinite-length map."""
    order: tuple[str, ...]
    """The members in wire order."""
    sign1: cose.Sign1

    @property
    def made_at(self) -> datetime:
        return datetime.fromtimestamp(self.timestamp / 1000, UTC)


def parse(raw: bytes) -> NitroDocument:
    """Parse a COSE_Sign1 with such a payload. Raises `Malformed`, `Unsupported` (digest or signature algorithm)."""
    sign1 = cose.parse_sign1(raw, WHAT)
    payload = cose.decode(sign1.payload, WHAT, indefinite_map=True)
    if not isinstance(payload, dict) or not all(isinstance(key, str) for key in payload):
        raise _malformed("members", "a map with text keys", type(payload).__name__)
    enclave = "pcrs" in payload
    registers = "pcrs" if enclave else "nitrotpm_pcrs"
    unknown, missing = set(payload) - _COMMON - {registers}, (_COMMON - {"public_key", "user_data", "nonce"} | {registers}) - set(payload)
    if unknown or missing:
        raise _malformed("members", "the members of a Nitro document", f"unknown {sorted(unknown)[:4]}, missing {sorted(missing)}")
    digest = payload["digest"]
    if not isinstance(digest, str) or digest not in PCR_BYTES:
        raise Unsupported.of(
            WHAT + ".digest", expected="SHA256, SHA384 or SHA512", found=repr(digest)[:40], remedy="This document needs a newer Evident."
        )
    timestamp = payload["timestamp"]
    if type(timestamp) is not int or not 0 < timestamp < 1 << 43:
        raise _malformed("timestamp", "milliseconds since 1970", repr(timestamp)[:40])
    module_id = payload["module_id"]
    if not isinstance(module_id, str) or not module_id or len(module_id) > 128:
        raise _malformed("module-id", "a name of at most 128 characters", repr(module_id)[:40])
    return NitroDocument(
        "nitro-enclave" if enclave else "nitrotpm",
        module_id,
        digest,
        timestamp,
        _pcrs(payload[registers], PCR_BYTES[digest]),
        _bytes(payload["certificate"], "certificate", MAX_CERTIFICATE_BYTES),
        _cabundle(payload["cabundle"]),
        _optional(payload, "public_key"),
        _optional(payload, "user_data"),
        _optional(payload, "nonce"),
        sign1.payload[:1] == cose.INDEFINITE_MAP,
        tuple(payload),
        sign1,
    )


def serialize_payload(document: NitroDocument) -> bytes:
    """The signed payload, built from the fields (not from the signature's copy)."""
    values: dict[str, Any] = {
        "module_id": document.module_id,
        "digest": document.digest,
        "timestamp": document.timestamp,
        "pcrs": dict(document.pcrs),
        "nitrotpm_pcrs": dict(document.pcrs),
        "certificate": document.certificate,
        "cabundle": list(document.cabundle),
        "public_key": document.public_key,
        "user_data": document.user_data,
        "nonce": document.nonce,
    }
    return cose.encode({name: values[name] for name in document.order}, indefinite_map=document.indefinite)


def _pcrs(value: Any, size: int) -> dict[int, bytes]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_PCRS:
        raise _malformed("pcrs", f"a map of 1 to {MAX_PCRS} PCRs", type(value).__name__)
    for index, register in value.items():
        if type(index) is not int or not 0 <= index < MAX_PCRS or not isinstance(register, bytes) or len(register) != size:
            raise _malformed("pcrs", f"PCR 0 to {MAX_PCRS - 1} of {size} bytes", f"{index!r}: {register!r}"[:80])
    return value


def _cabundle(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_CABUNDLE:
        raise _malformed("cabundle", f"1 to {MAX_CABUNDLE} certificates", type(value).__name__)
    return tuple(_bytes(item, "cabundle", MAX_CERTIFICATE_BYTES) for item in value)


def _optional(payload: Mapping[str, Any], name: str) -> bytes | None:
    value = payload.get(name)
    if value is None:
        return None
    if not isinstance(value, bytes) or len(value) > MAX_OPTIONAL_BYTES:
        raise _malformed(name.replace("_", "-"), f"at most {MAX_OPTIONAL_BYTES} bytes or null", type(value).__name__)
    return value


def _bytes(value: Any, name: str, limit: int) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= limit:
        raise _malformed(name, f"1 to {limit} bytes", type(value).__name__)
    return value


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Collect the document again; it was altered or is of another kind."
    )
