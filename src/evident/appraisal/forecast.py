"""When will a decision change, and why? The decision itself, made again for later times and with newer endorsements.

Nothing here models expiry or revocation: `changes` asks the real procedure ("judge") at times until a horizon and closes in on every
moment at which its answer changes. Only what the next update of a vendor will do has no date; `next_update` tells it from how far each
component is above what the vendor asks now (`Tee.headroom`), from a TCB that the machine runs without reporting it yet, and from the
newest TCB that other machines of the same product report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evident.errors import Finding
from evident.verification.facts import Tee

STEP = timedelta(days=7)
"""No window of a vendor's documents is shorter, so no two changes hide each other between two steps."""
PRECISION = timedelta(seconds=1)
RUNS = ("committed", "current")
"""TCBs that a machine may run without reporting them: the provider raises the reported one when it likes."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided for one machine at one time."""

    decision: str
    tcb_status: str | None
    advisories: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(finding.code for finding in self.findings)

    def same_as(self, other: Judgement) -> bool:
        return (self.decision, self.tcb_status, self.codes) == (other.decision, other.tcb_status, other.codes)


@dataclass(frozen=True, slots=True)
class Change:
    """From `at` on another judgement holds."""

    at: datetime
    before: Judgement
    after: Judgement

    @property
    def because(self) -> tuple[Finding, ...]:
        """What stands in the way after the change and did not before; what no longer does, where nothing is new."""
        new = tuple(finding for finding in self.after.findings if finding.code not in self.before.codes)
        return new or tuple(finding for finding in self.before.findings if finding.code not in self.after.codes)

    @property
    def advisories(self) -> tuple[str, ...]:
        """Those that count from now on."""
        return tuple(advisory for advisory in self.after.advisories if advisory not in self.before.advisories)


def changes(judge: Callable[[datetime], Judgement], start: datetime, end: datetime, *, step: timedelta = STEP) -> tuple[Change, ...]:
    """Every change of `judge` between `start` and `end`, each to the second at which the new answer holds."""
    found: list[Change] = []
    at, present = start, judge(start)
    while at < end:
        later = min(at + step, end)
        answer = judge(later)
        while not present.same_as(answer):
            moment, first = _first_other(judge, at, present, later, answer)
            found.append(Change(moment, present, first))
            at, present = moment, first
        at = later
    return tuple(found)


def _first_other(
    judge: Callable[[datetime], Judgement], start: datetime, before: Judgement, end: datetime, after: Judgement
) -> tuple[datetime, Judgement]:
    while end - start > PRECISION:
        middle = start + timedelta(seconds=(end - start) // PRECISION // 2)
        answer = judge(middle)
        if answer.same_as(before):
            start = middle
        else:
            end, after = middle, answer
    return end, after


def newest_reported(machines: Iterable[Tee]) -> Mapping[tuple[str, str], Mapping[str, int]]:
    """Technology and product to the highest number that any of `machines` reports, component by component."""
    newest: dict[tuple[str, str], dict[str, int]] = {}
    for tee in machines:
        known = newest.setdefault((tee.technology, tee.product), {})
        for name, number in tee.tcb.get("reported", {}).items():
            known[name] = max(number, known.get(name, 0))
    return newest


def next_update(tee: Tee, newest: Mapping[tuple[str, str], Mapping[str, int]] | None = None) -> tuple[str, ...]:
    """In sentences, what has no date yet: what the vendor's next update, or the provider's, will change for this machine."""
    return (*_published_levels(tee), *_reported(tee), *_beside_others(tee, newest or {}))


def _published_levels(tee: Tee) -> Sequence[str]:
    short = sorted(name for name, spare in tee.headroom.items() if spare < 0)
    exact = sorted(name for name, spare in tee.headroom.items() if spare == 0)
    if short:
        lacking = ", ".join(f"{name} by {-tee.headroom[name]}" for name in short)
        known = f" ({', '.join(tee.advisories)})" if tee.advisories else ""
        return (f"below the vendor's best level already: {lacking}{known}; with the next update its level may be withdrawn",)
    if exact:
        return (f"out of date as soon as the next update raises one of: {', '.join(exact)}",)
    return ("above the vendor's best level in every component: the next update changes nothing unless it raises by more than one",)[
        : 1 if tee.headroom else 0
    ]


def _reported(tee: Tee) -> Sequence[str]:
    reported = tee.tcb.get("reported", {})
    for name in RUNS:
        ahead = {part: number for part, number in tee.tcb.get(name, {}).items() if number > reported.get(part, number)}
        if ahead:
            told = ", ".join(f"{part} {reported[part]} to {number}" for part, number in sorted(ahead.items()))
            return (f"runs a newer TCB than it reports ({name}): when the provider reports it, {told}, with another signing key",)
    return ()


def _beside_others(tee: Tee, newest: Mapping[tuple[str, str], Mapping[str, int]]) -> Sequence[str]:
    reported, known = tee.tcb.get("reported", {}), newest.get((tee.technology, tee.product), {})
    behind = {part: number for part, number in known.items() if number > reported.get(part, number)}
    if not behind:
        return ()
    told = ", ".join(f"{part} {reported[part]} of {number}" for part, number in sorted(behind.items()))
    return (f"reports less than other machines of this product: {told}; refused once your minimum is raised to theirs",)
