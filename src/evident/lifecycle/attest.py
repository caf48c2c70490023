"""Ask a machine who it is: challenge, evidence, verification, appraisal, and a bundle that a stranger can replay.

1. A fresh challenge is written down (`challenges`), for this deployment and one answer.
2. The platform's collector brings the machine's answer.
3. The challenge is used up, whatever the answer; a TPM that quoted is asked a second question (`activation`).
4. Verification and appraisal decide under the deployment's policy and reference values.
5. Evidence, endorsements and outcome go into a signed bundle.
6. The journal says how it went; a refusal is answered (`refusal`): the machine gets no secrets, and is kept or destroyed.

An update examines the machine that it makes in the same way (1-5), before anything depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from evident.appraisal.policy import Policy
from evident.audit import bundle
from evident.audit.case import Case, decide
from evident.audit.keys import SigningKey
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import Fetcher, RecordingFetcher
from evident.endorsements.prefetch import remember_crls
from evident.errors import UsageError
from evident.lifecycle import activation, refusal, retire
from evident.lifecycle.answers import bundle_name, levels, state_after
from evident.lifecycle.challenges import Challenges
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.refusal import Refusal
from evident.platforms import registry
from evident.reference_values.model import ReferenceSet
from evident.reports.json_report import Outcome
from evident.verification.pieces import of_machine

_ANSWERS: Final = frozenset({State.LAUNCHED, State.ATTESTED, State.UNDECIDED, State.REFUSED, State.QUARANTINED, State.UPDATING, State.KEPT})
"""States of a deployment with a machine in charge."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who asks, and by whose word the answer is judged."""

    anchors: AnchorSet
    """Beside those that the platform itself has believed."""
    fetcher: Fetcher
    """Of endorsements, where the platform brings none of its own."""
    key: SigningKey
    """Of bundles."""
    cache: Cache | None = None
    """Where it is remembered how new the revocation lists were that were seen; None: nowhere."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How one question went."""

    outcome: Outcome
    """The statement, or the error that left none."""
    case: Case
    bundle: bytes
    bundle_path: Path
    refusal: Refusal | None
    """What was done about the machine, where it was refused."""
    certificates: tuple[bytes, ...] = ()
    """What the machine sent beside its evidence (`evident.platforms.driver.Collected`), unverified."""

    @property
    def said(self) -> dict[str, str]:
        """What the journal keeps of it."""
        found = self.outcome
        return {"decision": found.decision, "code": found.code, "bundle": self.bundle_path.name, **levels(found)}


def attest(target: Deployment, by: Verifier, *, policy: Policy | None = None) -> Answer:
    """Challenge `target` once, held to `policy` or else to its own.

    The decision is in the answer; raised are only usage errors (no such machine) and what the collector cannot do.
    """
    refusal.finish(target)
    retire.tidy(target)
    if target.journal.state not in _ANSWERS:
        raise UsageError.of(
            "deployment.not-running",
            expected=f"a launched deployment {target.name!r}",
            found=f"one on {target.platform} that is {target.journal.state}",  # its platform raises where there is none of this name
            remedy="Create it with `evident up`; `evident status` lists those that exist.",
        )
    answer = examine(target, by, policy=policy)
    state = state_after(answer.outcome.decision)
    target.record(state, **answer.said)
    answered = refusal.answer(target, answer.outcome, spare=policy is not None) if state is State.REFUSED else None
    return replace(answer, refusal=answered)


def examine(target: Deployment, by: Verifier, *, policy: Policy | None = None, references: ReferenceSet | None = None) -> Answer:
    """Challenge the machine that `target` is seen through, and keep its answer in a bundle; nothing follows from it yet.

    `references`: what should have been measured, where that is not all that is accepted of `target`. Else as `attest`.
    """
    surroundings = target.surroundings
    challenges = Challenges(surroundings.state / "challenges", clock=surroundings.clock, randomness=surroundings.randomness)
    driver = target.driver()
    nonce = challenges.issue(target.name)
    collected = driver.collect(target.machine, nonce)
    challenges.redeem(target.name, nonce)
    pieces = of_machine(collected.pieces)
    asked = activation.ask(pieces, collected.activate, surroundings.randomness)
    believed, at = driver.believed(target.machine), surroundings.clock()
    case = Case(
        kind=collected.kind,
        pieces=pieces,
        at=at,
        nonce=nonce,
        crl_floor=by.cache.crl_floors() if by.cache else {},
        unsafe=believed.unsafe,
        policy=policy or target.policy,
        references=(references or target.references).values,
        profile=registry.profile(driver.profile(target.machine), at.date()),
        activation=asked,
        named=driver.endorsement_key(target.machine) if asked else None,
    )
    recorded = RecordingFetcher(believed.fetcher or by.fetcher)
    outcome = decide(case, anchors=by.anchors.plus(*believed.anchors), fetcher=recorded)
    if by.cache:
        remember_crls(by.cache, recorded.recorded, by.anchors, pieces)
    packed = bundle.build(case, recorded, outcome, by.key)
    path = target.bundles / bundle_name(case)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    bundle.write(path, packed)
    return Answer(outcome, case, packed, path, None, collected.certificates)
