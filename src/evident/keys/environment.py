"""What kind of evidence a guest sent is found out by what verifies, not taken from its word (NA-04).

Of the kinds that take all the pieces, the most specific one that verifies is believed. One whose report or quote can carry a key
gets challenge and key; the others (vTPMs, whose quotes carry 32 bytes) answer the digest that binds both (`evident.evidence.binding`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evident.errors import EvidentError, Unsupported
from evident.evidence import binding
from evident.evidence.cmw import Pieces
from evident.verification import kinds, snp_tpm
from evident.verification.context import Context
from evident.verification.verified import Verified

ESSENTIAL = {
    "azure-snp": {"hcl", "tpm-quote"},
    "azure-tdx": {"hcl", "tpm-quote", "quote"},
    "svsm": {"report", "tpm-quote"},
    "snp": {"report"},
    "tdx": {"quote"},
    "tpm": {"quote", "ak"},
}
"""Kinds from the most to the least specific, and the pieces without which evidence is none of that kind."""


def candidates(pieces: Pieces) -> tuple[str, ...]:
    """The kinds that these pieces may be, without the guest's opinion."""
    given = pieces.keys() - {"key"}
    return tuple(kind for kind, essential in ESSENTIAL.items() if essential <= given <= kinds.roles(kind).keys())


def verify(pieces: Pieces, context: Context, nonce: bytes, key: bytes) -> tuple[Verified[Any], bytes | None]:
    """The verified evidence, and the digest of the key that it binds to `nonce` (None where it binds none).

    A ``key`` among the pieces is left aside for `key`, the one that wants the secret. Raises the error of the most specific kind
    when none verifies, and `Unsupported` ``keys.evidence`` when no kind takes these pieces.
    """
    failure: EvidentError | None = None
    own = {role: contents for role, contents in pieces.items() if role != "key"}
    for kind in candidates(pieces):
        takes_key = "key" in kinds.roles(kind)
        given = {**own, "key": (key,)} if takes_key else own
        challenge = nonce if takes_key else binding.report_data(nonce, key)
        try:
            verified = kinds.verify(kind, given, replace(context, nonce=challenge))
        except EvidentError as error:
            failure = failure or error
            continue
        if takes_key:
            return verified, verified.facts.bound_key
        fresh = verified.facts.freshness.scope == "challenge"
        return verified, binding.key_digest(key) if fresh else None
    raise failure or Unsupported.of(
        "keys.evidence",
        expected="pieces of one of the kinds " + ", ".join(ESSENTIAL),
        found=", ".join(sorted(pieces)),
        remedy="Send the pieces of one kind: a report, a quote, or an HCL report with its quote.",
    )


def with_tpm(report: Pieces, quotes: Pieces, context: Context, nonce: bytes, key: bytes) -> tuple[Verified[Any], bytes | None]:
    """The same of an SNP report and of the quotes that have to come with it. Raises what the kind ``snp-tpm`` raises."""
    pieces = {**snp_tpm.together(report, quotes), "key": (key,)}
    verified = snp_tpm.verify(pieces, replace(context, nonce=nonce))
    return verified, verified.facts.bound_key
