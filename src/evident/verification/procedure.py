"""Verification procedures: numbered steps, run in order, every independent failure reported at once.

A procedure is a tuple of `Step`. The function of a step gets the state of this one verification and

* returns None when its statement holds,
* returns an `Open` when it could not be decided although authenticity stands without it (no CRL, no challenge): the evidence
  is authentic, and the decision is left to appraisal,
* raises `NotAuthentic` when it does not hold; the other steps still run, except those that need this one,
* raises `Indeterminate` when authenticity itself cannot be decided (no certificate to be had),
* raises `Malformed` or `Unsupported`, which ends the procedure.

Steps only check; what they check is put into the state before they run, or by a step that others `needs`. Leaving a step
out of a procedure therefore leaves exactly its check undone, and shows: `Verified.required` still names it, and appraisal refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from evident.errors import Finding, Indeterminate, NotAuthentic, UsageError
from evident.verification.context import UNSAFE_OPTIONS, Context
from evident.verification.facts import Facts
from evident.verification.verified import _TOKEN, Revocation, StepRecord, Verified

S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Open:
    """A point that a step could not decide; `waived_by` names the unsafe option that lets it pass, visibly."""

    finding: Finding
    waived_by: str


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """One numbered check over the state `S` of a verification."""

    id: str
    """Stable and dotted, such as ``snp.chain``."""
    statement: str
    """What holds once the step has passed, for a reader of the report."""
    run: Callable[[S], Open | None]
    needs: tuple[str, ...] = ()
    """Steps without which this one means nothing; when one of them fails, this one is not run."""
    held: StepRecord = field(init=False, repr=False, compare=False)
    """The record of its passing, made once for all verifications."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", StepRecord(self.id, self.statement))


@dataclass(frozen=True, slots=True)
class Procedure(Generic[S]):
    """A named procedure. `required` stays complete even where a test leaves steps out."""

    name: str
    steps: tuple[Step[S], ...]
    required: frozenset[str]

    @classmethod
    def of(cls, name: str, *steps: Step[S]) -> Procedure[S]:
        """The procedure that consists of `steps`, all of them required."""
        return cls(name, steps, frozenset(step.id for step in steps))


@dataclass(frozen=True, slots=True)
class Trail:
    """What running a procedure left behind: the only thing that `issue` makes a `Verified` of."""

    procedure: str
    required: frozenset[str]
    records: tuple[StepRecord, ...]
    open_points: tuple[Finding, ...]
    waived: tuple[Finding, ...]
    """Points that would be open, let pass by an unsafe option."""
    unsafe: tuple[str, ...]
    """The unsafe options that were needed."""


def run(procedure: Procedure[S], state: S, context: Context) -> Trail:
    """Run all steps over `state`.

    Raises `NotAuthentic` with the findings of every step that failed (and, last, which steps were not run for it),
    `Indeterminate` when none failed and one could not be decided, `Malformed` or `Unsupported` at once,
    `UsageError` for an unsafe option that does not exist.
    """
    _known_options(context.unsafe)
    records: list[StepRecord] = []
    refuted: list[Finding] = []
    undecided: list[Finding] = []
    open_points: list[Finding] = []
    waived: list[Finding] = []
    unsafe: list[str] = []
    unmet: dict[str, tuple[str, ...]] = {}
    for step in procedure.steps:
        if unmet and (missing := tuple(need for need in step.needs if need in unmet)):
            unmet[step.id] = missing
            continue
        try:
            left = step.run(state)
        except NotAuthentic as failure:
            refuted.extend(failure.findings)
            unmet[step.id] = ()
            continue
        except Indeterminate as failure:
            undecided.extend(failure.findings)
            unmet[step.id] = ()
            continue
        if left is None:
            records.append(step.held)
            continue
        records.append(StepRecord(step.id, f"Left open: {left.finding.expected}.", open=True))
        if left.waived_by in context.unsafe:
            waived.append(left.finding)
            unsafe.append(left.waived_by)
        else:
            open_points.append(left.finding)
    if refuted or undecided:
        kind = NotAuthentic if refuted else Indeterminate
        raise kind(*refuted, *undecided, *_not_run(procedure.name, unmet))
    return Trail(procedure.name, procedure.required, tuple(records), tuple(open_points), tuple(waived), tuple(unsafe))


def issue(
    trail: Trail,
    *,
    evidence: E,
    facts: Facts,
    context: Context,
    revocation: Revocation,
    simulated: bool,
    endorsers: tuple[str, ...],
) -> Verified[E]:
    """The `Verified` that a trail earned; `simulated`: a TEST root is behind some part of it, which an unsafe option let pass.

    Evidence in several pieces joins the trails of its parts first (`composite.join`).
    """
    return Verified(
        evidence=evidence,
        facts=facts,
        procedure=trail.procedure,
        required=trail.required,
        steps=trail.records,
        at=context.at,
        revocation=revocation,
        simulated=simulated,
        endorsers=endorsers,
        open_points=trail.open_points,
        unsafe=tuple(dict.fromkeys((*trail.unsafe, *(("simulated-root",) if simulated else ())))),
        _token=_TOKEN,
    )


def _known_options(unsafe: frozenset[str]) -> None:
    unknown = sorted(unsafe.difference(UNSAFE_OPTIONS))
    if unknown:
        raise UsageError.of(
            "unsafe.unknown",
            expected="unsafe options among " + ", ".join(UNSAFE_OPTIONS),
            found=", ".join(unknown),
            remedy="Leave it out, or name an option that exists.",
        )


def _not_run(name: str, unmet: dict[str, tuple[str, ...]]) -> tuple[Finding, ...]:
    skipped = {step: needs for step, needs in unmet.items() if needs}
    if not skipped:
        return ()
    found = "; ".join(f"{step} (needs {', '.join(needs)})" for step, needs in skipped.items())
    return (
        Finding(
            f"{name}.steps-not-run",
            "input",
            "every step of the procedure run",
            f"not run: {found}",
            "Settle the findings above first; these steps mean nothing without them.",
        ),
    )
