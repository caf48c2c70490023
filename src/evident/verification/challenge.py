"""Does the data that the hardware signed answer the verifier's challenge? The same for every technology that signs 64 such bytes."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from evident.errors import Finding, NotAuthentic, UsageError
from evident.evidence import binding
from evident.verification.context import Context
from evident.verification.facts import Freshness
from evident.verification.procedure import Open

LAYER = "root_of_trust"
REPORT_DATA_BYTES = 64
NOT_COMPARED = Freshness("unknown", "no challenge was compared", carried_by="none")
_EXACT = Freshness("challenge", "REPORT_DATA is the value that the verifier expects")
_WITH_KEY = Freshness("challenge", "REPORT_DATA binds the verifier's nonce and the guest's key")
_RAW = Freshness("challenge", "REPORT_DATA is the verifier's nonce")
_HASHED = Freshness("challenge", "REPORT_DATA is the SHA-512 of the verifier's nonce")
_STALE = "This evidence answers another challenge, perhaps an old one: have the guest make new evidence for yours."


@dataclass(frozen=True, slots=True)
class Answer:
    """How the evidence is tied to the challenge, and the SHA-384 of the guest's key that is bound beside it, if any."""

    freshness: Freshness
    bound_key: bytes | None = None


def check_size(context: Context, prefix: str) -> None:
    """`UsageError` ``<prefix>.challenge.size`` for a challenge that cannot be one."""
    if context.nonce == b"" or (context.report_data is not None and len(context.report_data) != REPORT_DATA_BYTES):
        raise UsageError.of(
            f"{prefix}.challenge.size",
            expected="a nonce of at least one byte, and report data of exactly 64",
            found="an empty nonce" if context.nonce == b"" else f"{len(context.report_data or b'')} bytes of report data",
            remedy="Give the challenge as it was sent to the guest.",
        )


def compare(context: Context, found: bytes, key: bytes | None, prefix: str) -> Answer | Open:
    """Compare the signed REPORT_DATA `found` with the challenge.

    Accepted (AT-05): exactly the value that the caller computed; the nonce itself, padded with zeros; its SHA-512; with `key` (DER
    SubjectPublicKeyInfo) only the two bound as in `evident.evidence.binding`. Raises `NotAuthentic` ``<prefix>.challenge...``.
    """
    if context.report_data is None and context.nonce is None:
        return Open(
            Finding(
                f"{prefix}.challenge.missing",
                LAYER,
                "a challenge of the verifier's own to compare REPORT_DATA with",
                "none given",
                "Pass nonce=PATH or report-data=PATH; without it old evidence cannot be told from new.",
            ),
            waived_by="no-challenge",
        )
    compare_exact(context, found, prefix)
    if context.nonce is None:
        return Answer(_EXACT)
    if key is not None:
        expected = binding.report_data(context.nonce, key)
        if not hmac.compare_digest(expected, found):
            raise _refuse(f"{prefix}.challenge.key", f"REPORT_DATA {expected.hex()}, which binds this nonce and the guest's key", found)
        return Answer(_WITH_KEY, binding.key_digest(key))
    if len(context.nonce) <= len(found) and hmac.compare_digest(context.nonce.ljust(len(found), b"\0"), found):
        return Answer(_RAW)
    if hmac.compare_digest(hashlib.sha512(context.nonce).digest(), found):
        return Answer(_HASHED)
    raise _refuse(f"{prefix}.challenge.nonce", f"REPORT_DATA bound to nonce {context.nonce.hex()}, as it is or as SHA-512", found)


def compare_exact(context: Context, found: bytes, prefix: str) -> None:
    """Where the caller computed REPORT_DATA itself: `NotAuthentic` ``<prefix>.challenge.report-data`` unless `found` is that value.

    It stands for no other binding: whether a key or a document is named in these bytes is for a step of its own.
    """
    if context.report_data is not None and not hmac.compare_digest(context.report_data, found):
        raise _refuse(f"{prefix}.challenge.report-data", f"REPORT_DATA {context.report_data.hex()}", found)


def _refuse(code: str, expected: str, found: bytes) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found.hex(), remedy=_STALE, layer=LAYER)
