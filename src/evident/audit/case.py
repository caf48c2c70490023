"""One decision and everything it depends on, so that anybody can make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from evident import codec
from evident.appraisal.appraise import appraise
from evident.appraisal.policy import STRICT, Policy
from evident.appraisal.profile import Profile
from evident.audit import canonical
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetcher
from evident.errors import EvidentError
from evident.reference_values import endorsed, programs
from evident.reference_values.model import ReferenceSet, ReferenceValue
from evident.reports.json_report import Outcome
from evident.verification import kinds
from evident.verification.context import ChainCache, Context
from evident.verification.credential import Activation, NamedKey
from evident.verification.pieces import Pieces

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be decided. Trust anchors are not part of it: they are the reader's own, and so are endorsements as they are fetched."""

    kind: str
    pieces: Pieces
    at: datetime
    """The clock of the decision."""
    nonce: bytes | None = None
    report_data: bytes | None = None
    crl_floor: Mapping[str, int] = field(default_factory=dict)
    unsafe: frozenset[str] = frozenset()
    policy: Policy = STRICT
    references: tuple[ReferenceValue, ...] = ()
    profile: Profile | None = None
    activation: Activation | None = None
    named: NamedKey | None = None

    def context(self, anchors: AnchorSet, fetcher: Fetcher, chain_cache: ChainCache | None = None) -> Context:
        """What verification depends on besides the pieces."""
        return Context(
            at=self.at,
            anchors=anchors,
            fetcher=fetcher,
            nonce=self.nonce,
            report_data=self.report_data,
            crl_floor=self.crl_floor,
            unsafe=self.unsafe,
            activation=self.activation,
            named=self.named,
            chain_cache=chain_cache,
        )


def decide(case: Case, *, anchors: AnchorSet, fetcher: Fetcher, chain_cache: ChainCache | None = None) -> Outcome:
    """Verify and appraise: the statement, or the error that ended the work before there was one (returned, not raised).

    The statement names policy and reference values by the digests of their canonical forms (`canonical.digest`).
    """
    policy, references = _settled(Policy, case.policy), _settled(ReferenceSet, ReferenceSet(1, case.references))
    try:
        pieces = programs.held_against(case.pieces, references.values)
        verified = kinds.verify(case.kind, pieces, case.context(anchors, fetcher, chain_cache))
        return appraise(
            verified,
            policy=policy,
            references=(*references.values, *endorsed.of(verified)),
            profile=case.profile and _settled(Profile, case.profile),
            policy_sha256=canonical.digest(policy),
            reference_sha256=canonical.digest(references) if references.values else "",
        )
    except EvidentError as error:
        return error


def _settled(kind: type[T], value: T) -> T:
    """`value` as it comes back from its canonical form: what was decided on is what can be recorded, down to the order of members."""
    return codec.decode(kind, codec.loads(canonical.dumps(codec.encode(value)), "case"), "case")
