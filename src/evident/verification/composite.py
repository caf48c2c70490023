"""Evidence in several pieces: its parts are verified by their own procedures, and every part's refusal is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from evident.errors import Finding, Indeterminate, NotAuthentic
from evident.verification.procedure import Procedure, Trail
from evident.verification.verified import Verified

T = TypeVar("T")
S = TypeVar("S")


class Parts:
    """Runs the parts of one verification; `settle` raises what they refused, all at once."""

    def __init__(self) -> None:
        self._refuted: list[Finding] = []
        self._undecided: list[Finding] = []

    def run(self, part: Callable[[], T]) -> T | None:
        """What `part` gives, or None when it refused or could not decide; `Malformed` and `Unsupported` pass through."""
        try:
            return part()
        except NotAuthentic as failure:
            self._refuted.extend(failure.findings)
        except Indeterminate as failure:
            self._undecided.extend(failure.findings)
        return None

    def settle(self) -> None:
        """Raise `NotAuthentic` when a part was refuted, `Indeterminate` when one was left undecided."""
        findings = (*self._refuted, *self._undecided)
        if findings:
            raise (NotAuthentic if self._refuted else Indeterminate)(*findings)


def in_layer(layer: str, check: Callable[[], T]) -> T:
    """What `check` gives; what it refuses concerns `layer`, for certificates do not know what they are used for."""
    try:
        return check()
    except (NotAuthentic, Indeterminate) as failure:
        raise type(failure)(*(replace(finding, layer=layer) for finding in failure.findings)) from failure


def leave_out(procedure: Procedure[S], without: frozenset[str]) -> Procedure[S]:
    """`procedure` without some steps; what it requires stays complete, so that appraisal refuses the result (AT-68)."""
    return replace(procedure, steps=tuple(step for step in procedure.steps if step.id not in without))


def without_steps(procedure: Procedure[S], *ids: str) -> Procedure[S]:
    """`procedure` for a composition whose own steps take the place of `ids`: they are not required either."""
    return Procedure.of(procedure.name, *(step for step in procedure.steps if step.id not in ids))


def trail_of(verified: Verified[Any]) -> Trail:
    """What the procedure of a part left behind."""
    return Trail(verified.procedure, verified.required, verified.steps, verified.open_points, (), verified.unsafe)


def join(name: str, trails: Iterable[Trail]) -> Trail:
    """One trail of the whole verification `name`."""
    parts = tuple(trails)
    return Trail(
        name,
        frozenset().union(*(trail.required for trail in parts)),
        tuple(record for trail in parts for record in trail.records),
        tuple(finding for trail in parts for finding in trail.open_points),
        tuple(finding for trail in parts for finding in trail.waived),
        tuple(dict.fromkeys(option for trail in parts for option in trail.unsafe)),
    )
