"""All deployments as their own records show them: nothing is asked of a machine or a cloud, and nothing is changed.

Of each, the journal and the bundles of its last two answers are read. A bundle counts only under a trusted signature, as the answer that
the journal names: its time and its challenge are in its file's name, its decision and code beside it. What is damaged is said of that
deployment, and hides no other.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from evident.audit import bundle
from evident.audit.keys import VerifyingKey
from evident.errors import EvidentError, NotAuthentic
from evident.files import read_private
from evident.lifecycle import quarantine, specification
from evident.lifecycle.answers import bundle_name
from evident.lifecycle.deployment import AT_BOOT, Deployment, deployments
from evident.lifecycle.drift import drift
from evident.lifecycle.journal import Event, State
from evident.platforms.driver import Surroundings
from evident.reports import json_report
from evident.reports.fleet import Fleet, Member, Standing
from evident.reports.json_report import Recorded

LATE: Final = 1.5
"""An answer is overdue after so many of its intervals: one that comes a little late is no alarm."""
_UNFINISHED: Final = {State.PLANNED: "up", State.DESTROYING: "down"}
"""State that a finished command never leaves behind, and the command; an update leaves a machine behind that is still being made."""


def fleet(around: Surroundings, *, trusted: tuple[VerifyingKey, ...], interval: timedelta, everything: bool = False) -> Fleet:
    """Every deployment of this state directory, by name; those that are over only with `everything`.

    `interval`: how often one has to answer whose specification does not say.
    """
    members = tuple(_member(each, trusted, interval) for each in deployments(around))
    return Fleet(around.clock(), tuple(each for each in members if everything or each.standing is not Standing.DESTROYED))


def latest(target: Deployment, trusted: tuple[VerifyingKey, ...]) -> Recorded | None:
    """The last answer of `target`, as its bundle records it; None before there was any. Raises as `_opened` does."""
    answers = [event for event in target.journal.events() if "bundle" in event.detail]
    return _opened(target, answers[-1], trusted) if answers else None


def _member(target: Deployment, trusted: tuple[VerifyingKey, ...], interval: timedelta) -> Member:
    known = Member(target.name, "unknown", Standing.DAMAGED, "", "")
    try:
        events = target.journal.events()
        known = replace(known, platform=target.platform)
        return _stands(target, _answered(target, events, trusted, known), events, interval)
    except EvidentError as error:
        first = error.findings[0]
        return replace(
            known,
            because=f"its records are damaged: expected {first.expected}, found {first.found} ({first.code})",
            todo=first.remedy,
            findings=error.findings,
        )


def _answered(target: Deployment, events: tuple[Event, ...], trusted: tuple[VerifyingKey, ...], known: Member) -> Member:
    """`known` with what the last answer of the machine that runs now says, and how it differs from the one before."""
    launched = max((number for number, event in enumerate(events) if event.state is State.LAUNCHED), default=0)
    answers = [event for event in events[launched:] if "bundle" in event.detail]
    if not answers:
        return known
    now = _opened(target, answers[-1], trusted)
    then = _opened(target, answers[-2], trusted) if len(answers) > 1 else None
    counted = [layer for layer in now.layers if layer.level is not None and layer.level <= max(now.levels.nominal, 1)]
    return replace(
        known,
        decision=now.decision,
        findings=now.findings,
        simulated=now.simulated,
        levels=now.levels,
        answered=answers[-1].at,
        age_seconds=int((target.surroundings.clock() - answers[-1].at).total_seconds()),
        compared_with=answers[-2].at if then else None,
        drift=drift(then, now) if then else (),
        trusts=tuple(dict.fromkeys(party for layer in counted for party in layer.trusted_parties)),
        residual=tuple(dict.fromkeys(sentence for layer in counted for sentence in layer.residual_trust)),
        bundle=str(target.bundles / answers[-1].detail["bundle"]),
    )


def _stands(target: Deployment, known: Member, events: tuple[Event, ...], interval: timedelta) -> Member:
    """`known` with its standing, and why."""
    said = specification.kept(target)
    due = said.reattest_seconds if said and said.reattest_seconds else int(interval.total_seconds())
    state = events[-1].state
    if state in (State.REVOKED, State.DESTROYED):
        return replace(known, standing=Standing(state), because=events[-1].detail.get("reason", ""))
    known = replace(known, interval_seconds=due)
    ask = f"Ask it: `evident attest {target.name}`."
    verb = "update" if target.generations.coming else _UNFINISHED.get(state)
    if verb is not None:
        began = max(event.at for event in events if event.state in (State.PLANNED, State.UPDATING, State.DESTROYING))
        because = f"`evident {verb}` was begun at {began:%Y-%m-%d %H:%M} UTC and is not done"
        todo = f"Let it finish, or repeat it. `evident down {target.name}` removes whatever there is."
        return replace(known, standing=Standing.UNFINISHED, because=because, todo=todo)
    held = quarantine.in_force(target) or (events[-1] if state is State.REFUSED else None)
    if held is not None:
        return replace(known, standing=Standing.REFUSED, because=_refused(held), todo=_remedies(known) or ask)
    if known.decision not in ("", "accepted"):
        because = "its last answer could not be decided on: " + ", ".join(dict.fromkeys(finding.code for finding in known.findings))
        return replace(known, standing=Standing.UNDECIDED, because=because, todo=_remedies(known) or ask)
    if known.age_seconds is None:
        booted = " it attested to its key server, not to you" if state is State.ATTESTED else " nothing is proved of it"
        return replace(known, standing=Standing.NEVER, because=f"since it was launched{booted}", todo=ask)
    if known.age_seconds > LATE * due:
        return replace(known, standing=Standing.OVERDUE, because="its last answer is older than it may be", todo=ask)
    return replace(known, standing=Standing.WELL, because="its last answer was accepted")


def _refused(held: Event) -> str:
    layer = f" at layer {held.detail['layer'].replace('_', ' ')}" if "layer" in held.detail else ""
    where = " by its key server, at boot" if held.detail.get("at") == AT_BOOT else "; it gets no secrets"
    return f"refused{layer} ({held.detail.get('code', 'no code')}) at {held.at:%Y-%m-%d %H:%M} UTC{where}"


def _remedies(known: Member) -> str:
    return " ".join(dict.fromkeys(finding.remedy for finding in known.findings))


def _opened(target: Deployment, event: Event, trusted: tuple[VerifyingKey, ...]) -> Recorded:
    """The outcome that the bundle of `event` records.

    Raises `NotAuthentic` ``fleet.other-answer`` where it is another answer's, and what reading and checking a bundle raises.
    """
    name = event.detail["bundle"]
    held = bundle.open_bundle(read_private(target.bundles / name), trusted)
    recorded = json_report.read(held.result)
    found = (bundle_name(held.case), recorded.decision, recorded.code)
    expected = (name, event.detail.get("decision"), event.detail.get("code"))
    if found != expected:
        raise NotAuthentic.of(
            "fleet.other-answer",
            expected="the answer that the journal names: " + ", ".join(map(str, expected)),
            found=", ".join(found),
            remedy=f"Somebody exchanged files of {target.name}: restore them, and attest it again.",
        )
    return recorded
