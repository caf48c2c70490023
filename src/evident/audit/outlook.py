"""A bundle looked at from later: the same evidence, policy and reference values, judged at other times and with newer endorsements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from evident.appraisal.forecast import Change, Judgement, changes
from evident.appraisal.statement import TrustStatement
from evident.audit.bundle import Bundle
from evident.audit.case import Case, decide
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched, Fetcher, RecordingFetcher, StaticFetcher
from evident.errors import EvidentError
from evident.verification import kinds
from evident.verification.context import ChainCache
from evident.verification.facts import Tee

RENEWED = frozenset({"collateral", "tcb-info", "qe-identity", "tcb-chain", "pck-crl", "root-crl", "crl"})
"""Roles of endorsements that their vendors replace in weeks: taken from the cache where it has them."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What lies ahead of one machine."""

    tee: Tee | None
    recorded: Judgement
    """As the bundle decided, at its time."""
    present: Judgement
    """Now, with the endorsements at hand."""
    changes: tuple[Change, ...]


class NewestFirst:
    """What the cache has before what the bundle recorded; never the network."""

    def __init__(self, cached: Callable[[str], Fetched | None], recorded: Mapping[str, Fetched]) -> None:
        self._cached = cached
        self._recorded = StaticFetcher(recorded)

    def fetch(self, url: str, *, limit: int) -> Fetched:
        found = self._cached(url)
        if found is None or len(found.body) > limit:
            return self._recorded.fetch(url, limit=limit)
        return found


def outlook(bundle: Bundle, *, cached: Callable[[str], Fetched | None], anchors: AnchorSet, now: datetime, until: datetime) -> Outlook:
    """The outlook of the machine in `bundle`; `cached` gives what is cached of a URL.

    Evidence that is not authentic is judged as such, and raises nothing.
    """
    now, until = now.replace(microsecond=0), until.replace(microsecond=0)
    as_recorded = StaticFetcher(bundle.fetched, bundle.failed)
    fetcher, keep = NewestFirst(cached, bundle.fetched), ChainCache()
    case = _renewed(bundle.case, cached, anchors, now)

    def judge(at: datetime) -> Judgement:
        return _judge(replace(case, at=at), fetcher, anchors, keep)[0]

    present, tee = _judge(replace(case, at=now), fetcher, anchors, keep)
    recorded, then = _judge(bundle.case, as_recorded, anchors, None)
    return Outlook(tee or then, recorded, present, changes(judge, now, until))


def _renewed(case: Case, cached: Callable[[str], Fetched | None], anchors: AnchorSet, now: datetime) -> Case:
    """`case` without the endorsements that the cache has newer ones of: each is dropped where the cache has all that is then asked for."""
    for role in sorted(RENEWED & case.pieces.keys()):
        less = replace(case, pieces={name: given for name, given in case.pieces.items() if name != role})
        asked = [_asked(replace(variant, at=now), cached, anchors) for variant in (case, less)]
        instead = asked[1] - asked[0]
        if instead and all(cached(url) is not None for url in instead):
            case = less
    return case


def _asked(case: Case, cached: Callable[[str], Fetched | None], anchors: AnchorSet) -> set[str]:
    recorder = RecordingFetcher(NewestFirst(cached, {}))
    _judge(case, recorder, anchors, None)
    return {*recorder.recorded, *recorder.failed}


def _judge(case: Case, fetcher: Fetcher, anchors: AnchorSet, cache: ChainCache | None) -> tuple[Judgement, Tee | None]:
    outcome = decide(case, anchors=anchors, fetcher=fetcher, chain_cache=cache)
    tee = _tee(case, fetcher, anchors, cache) if isinstance(outcome, TrustStatement) else None
    status, advisories = (tee.tcb_status, tee.advisories) if tee else (None, ())
    return Judgement(outcome.decision, status, advisories, outcome.findings), tee


def _tee(case: Case, fetcher: Fetcher, anchors: AnchorSet, cache: ChainCache | None) -> Tee | None:
    try:
        return kinds.verify(case.kind, case.pieces, case.context(anchors, fetcher, cache)).facts.tee
    except EvidentError:
        return None
