"""`Verified[T]`: evidence that passed a verification procedure, and the only thing that appraisal accepts.

It cannot be built outside this room: the constructor asks for a token that only the runner in `procedure` uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, Literal, TypeVar

from evident.errors import Finding
from evident.verification.facts import Facts

T = TypeVar("T", covariant=True)

Revocation = Literal["good", "revoked", "unknown"]

_TOKEN: Final = object()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One numbered step of a procedure that ran, and was not refuted."""

    id: str
    """Stable, such as ``snp.chain``; the appraisal demands every id of the procedure."""
    statement: str
    """What now holds, for a reader of the report; of an open step, what could not be decided."""
    open: bool = False
    """True when the step left a point open (see `Verified.open_points` and `Verified.unsafe`)."""


@dataclass(frozen=True, slots=True)
class Verified(Generic[T]):
    """Authentic evidence of type `T`, the facts it establishes, and how they were established."""

    evidence: T
    facts: Facts
    procedure: str
    """Name of the procedure: ``snp``, ``tdx``, ``azure-snp``..."""
    required: frozenset[str]
    """Step ids that the procedure consists of; appraisal refuses when `steps` lacks one (AT-68)."""
    steps: tuple[StepRecord, ...]
    at: datetime
    """The time at which validity was judged."""
    revocation: Revocation
    simulated: bool
    """True when any anchor in the chain is a simulator's TEST root."""
    endorsers: tuple[str, ...]
    """The chain of parties, the root first: ``AMD``, ``AMD-SP``..."""
    open_points: tuple[Finding, ...] = ()
    """What could not be decided (no CRL, no challenge): the decision is indeterminate unless the policy says otherwise."""
    unsafe: tuple[str, ...] = ()
    """Unsafe options that were in force; the statement shows them."""
    _token: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._token is not _TOKEN:
            raise TypeError("only a verification procedure can make a Verified")
