"""What kind of evidence a guest sent is found out by what verifies, not taken from its word (NA-04).

Of the kinds that take all the pieces, the most specific one that verifies is believed. Each binds the guest's key with the challenge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evident.errors import EvidentError, Unsupported
from evident.evidence.cmw import Pieces
from evident.verification import kinds, snp_tpm
from evident.verification.context import Context
from evident.verification.verified import Verified

ESSENTIAL = {
    "azure-snp": {"hcl", "tpm-quote"},
    "azure-tdx": {"hcl", "tpm-quote", "quote"},
    "gcp-snp": {"report", "tpm-quote", "ak-cert"},
    "aws-snp": {"report", "document"},
    "svsm": {"report", "tpm-quote"},
    "snp": {"report"},
    "tdx": {"quote"},
    "nitrotpm": {"document"},
    "tpm": {"quote", "ak"},
}
"""Kinds from the most to the least specific, and the pieces without which evidence is none of that kind."""


OF_THE_BOOT = {"tpm-quote", "document"}
"""What a TPM says in evidence of a TEE that came through it or names it: no other has to speak of the boot."""


def candidates(pieces: Pieces) -> tuple[str, ...]:
    """The kinds that these pieces may be, without the guest's opinion."""
    given = pieces.keys() - {"key"}
    return tuple(kind for kind, essential in ESSENTIAL.items() if essential <= given <= kinds.roles(kind).keys())


def verify(pieces: Pieces, context: Context, nonce: bytes, key: bytes) -> tuple[Verified[Any], bytes | None]:
    """The verified evidence, and the digest of the key that it binds to `nonce` (None where it binds none).

    A ``key`` among the pieces is left aside for `key`, the one that wants the secret. Raises the error of the most specific kind
    when none verifies, and `Unsupported` ``evidence.unknown-kind`` when no kind takes these pieces.
    """
    failure: EvidentError | None = None
    own = {role: contents for role, contents in pieces.items() if role != "key"}
    for kind in candidates(pieces):
        try:
            verified = kinds.verify(kind, {**own, "key": (key,)}, replace(context, nonce=nonce))
        except EvidentError as error:
            failure = failure or error
        else:
            return verified, verified.facts.bound_key
    raise failure or Unsupported.of(
        "evidence.unknown-kind",
        expected="pieces of one of the kinds " + ", ".join(ESSENTIAL),
        found=", ".join(sorted(pieces)),
        remedy="Send the pieces of one kind: a report, a quote, or an HCL report with its quote.",
    )


def with_tpm(report: Pieces, quotes: Pieces, context: Context, nonce: bytes, key: bytes) -> tuple[Verified[Any], bytes | None]:
    """The same of an SNP report and of the quotes that have to come with it. Raises what the kind ``snp-tpm`` raises."""
    pieces = {**snp_tpm.together(report, quotes), "key": (key,)}
    verified = snp_tpm.verify(pieces, replace(context, nonce=nonce))
    return verified, verified.facts.bound_key
