"""The one error tree.

    EvidentError                 exit  meaning
    ├── UsageError                  2  the caller asked for something that cannot be asked
    ├── NotAuthentic               10  a signature, chain, binding or replay does not hold
    ├── PolicyRefused              11  authentic, and the policy says no
    ├── Indeterminate              12  cannot be decided: something is missing or stale
    │   └── CollateralUnavailable  12  an endorsement could not be had (network, cache, outage)
    ├── Unsupported                20  well formed, and of a kind that Evident does not appraise
    └── Malformed                  30  the bytes are not what they claim to be

Every error carries at least one `Finding`: a stable code, where it was found, what was expected, what was found, and
what to do next. Exit codes follow ``docs/command-line.md``; an exception of any other class is an internal error (1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands between this evidence and acceptance.

    `code` is stable and dotted, from the general to the special (``snp.signature``, ``policy.debug``); `layer` is a
    layer of the TrustStatement, or ``input`` for what concerns the bytes or the call itself.
    """

    code: str
    layer: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code} [{self.layer}]: expected {self.expected}; found {self.found}. {self.remedy}"


class EvidentError(Exception):
    """Root of the tree; never raised itself."""

    exit_code: ClassVar[int] = 1
    decision: ClassVar[str] = "error"

    def __init__(self, *findings: Finding) -> None:
        if not findings:
            raise ValueError("an EvidentError carries at least one Finding")
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings
        self.claims: Mapping[str, Any] = {}
        """What the evidence says for itself where nothing vouches for it (a bare log); JSON-ready."""
        self.of_evidence = True
        """False where the fault is in a document of the caller's own: it says nothing of the evidence."""

    def with_claims(self, claims: Mapping[str, Any]) -> Self:
        """This error, with what the evidence says all the same."""
        self.claims = claims
        return self

    def followed_by(self, *more: Finding) -> Self:
        """The same error with `more` behind its findings: what came of it."""
        return type(self)(*self.findings, *more).with_claims(self.claims)

    @property
    def code(self) -> str:
        """The stable code of the leading finding."""
        return self.findings[0].code

    @classmethod
    def of(cls, code: str, *, expected: str, found: str, remedy: str, layer: str = "input") -> Self:
        """Build the error around a single finding."""
        return cls(Finding(code, layer, expected, found, remedy))


class UsageError(EvidentError):
    exit_code = 2
    decision = "usage"


class NotAuthentic(EvidentError):
    exit_code = 10
    decision = "not_authentic"


class PolicyRefused(EvidentError):
    exit_code = 11
    decision = "refused"


class Indeterminate(EvidentError):
    exit_code = 12
    decision = "indeterminate"


class CollateralUnavailable(Indeterminate):
    pass


class Unsupported(EvidentError):
    exit_code = 20
    decision = "unsupported"


class Malformed(EvidentError):
    exit_code = 30
    decision = "malformed"


def raise_all(kind: type[EvidentError], findings: Iterable[Finding]) -> None:
    """Raise `kind` over all `findings` at once; do nothing when there are none."""
    collected = tuple(findings)
    if collected:
        raise kind(*collected)
