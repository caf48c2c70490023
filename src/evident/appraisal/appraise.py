"""Appraisal (RFC 9334, section 8.3): verified evidence, reference values and a policy become a TrustStatement.

1. Evidence that no verification procedure vouches for, or whose procedure left out a required step, is refused outright.
2. The policy's rules are held against the facts (`rules`).
3. Each level layer is judged by its own evidence (`layers`), then settled on those below it, then folded (`folds`).
4. What the policy demands of the layers is held against them (`requirements`).
5. Every independent finding is kept. A refusal outweighs any number of open points; with neither, the evidence is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from evident.appraisal import beside, identities, layers, rules, sentences, threat
from evident.appraisal.degrees import Verifiability
from evident.appraisal.folds import Basis, levels, needs_provider, settle
from evident.appraisal.headline import headline
from evident.appraisal.layers import Ground
from evident.appraisal.policy import Policy, TechnologyRules
from evident.appraisal.profile import Profile
from evident.appraisal.questions import answers
from evident.appraisal.remarks import Remark
from evident.appraisal.requirements import demand
from evident.appraisal.statement import Layer, TrustStatement
from evident.errors import Finding, NotAuthentic
from evident.reference_values.model import ReferenceValue
from evident.verification.remarks import remark
from evident.verification.verified import Verified


def appraise(
    verified: Verified[Any],
    *,
    policy: Policy,
    references: tuple[ReferenceValue, ...] = (),
    profile: Profile | None = None,
    policy_sha256: str = "",
    reference_sha256: str = "",
) -> TrustStatement:
    """The statement on `verified` under `policy`. Pure: the time is that of the verification.

    Raises `TypeError` for anything that is not a `Verified`, and `NotAuthentic` when a required step did not run.
    """
    if not isinstance(verified, Verified):
        raise TypeError("appraisal accepts verified evidence only")
    _all_steps(verified)
    facts = verified.facts
    judged = (
        *rules.judge(verified, policy),
        *rules.vtpm_code(verified, references),
        *rules.vtpm_elsewhere(verified, profile),
        *rules.unquoted(verified, references),
    )
    grounds = _grounds(verified, policy, references, judged)
    basis = Basis(
        fresh=facts.tee is not None and facts.freshness.scope == "challenge" and facts.freshness.carried_by == "tee",
        degrees={name: ground.degree for name, ground in grounds.items()},
        carriers={name: ground.carrier for name, ground in grounds.items()},
        vtpm_location=facts.vtpm.location if facts.vtpm else "none",
        vtpm_anchored=facts.vtpm is not None
        and facts.vtpm.anchor == "tee"
        and not _codes(judged) & {"vtpm.privilege-level", "vtpm.service-module-unknown", "vtpm.elsewhere"},
    )
    degrees, needs = settle(basis.degrees), needs_provider(basis)
    reached = levels(degrees, needs)
    parties = sentences.cast(verified, profile)
    level_layers = sentences.level_layers(verified, profile, grounds, degrees, needs)
    beside_them = beside.beside(verified, policy, parties.provider, needs["vtpm"], grounds)
    all_layers = tuple(_remembering(layer, facts.caveats) for layer in (*level_layers, *beside_them))
    remarks = (
        *judged,
        *_open_points(verified, policy),
        *(remark for ground in grounds.values() for remark in ground.remarks),
        *beside.userspace_remarks(facts, policy),
        *demand(policy, facts, grounds, all_layers, reached, (parties.vendor,)),
    )
    decision, findings = _decide(remarks)
    fresh = facts.freshness.scope == "challenge"
    return TrustStatement(
        decision=decision,
        code=findings[0].code if findings else "accepted",
        platform=profile.id if profile else "unknown",
        technology=facts.technology,
        simulated=verified.simulated,
        at=verified.at,
        authentic=True,
        revocation=verified.revocation,
        levels=reached,
        layers=all_layers,
        questions=answers(grounds, all_layers, simulated=verified.simulated, fresh=fresh),
        findings=findings,
        headline=headline(decision, reached, all_layers, findings, simulated=verified.simulated),
        claims=facts.claims,
        steps=tuple(step.statement for step in verified.steps),
        unsafe=(*verified.unsafe, *_unsafe(verified, policy)),
        policy_name=policy.name,
        policy_sha256=policy_sha256,
        reference_sha256=reference_sha256,
        profile=f"{profile.id} as of {profile.as_of.isoformat()}" if profile else "",
        endorsers=verified.endorsers,
        kind=facts.kind,
        identities={name: value for name, value in facts.identities.items() if name in identities.NAMES},
        extra=_extra(verified, policy, level_layers),
    )


def _all_steps(verified: Verified[Any]) -> None:
    missing = sorted(verified.required - {step.id for step in verified.steps})
    if missing:
        raise NotAuthentic.of(
            "verification.step-missing",
            expected=f"every step of the procedure {verified.procedure}",
            found="not run: " + ", ".join(missing),
            remedy="This is a defect of the verifier, or somebody removed a check: do not believe its results.",
        )


def _grounds(verified: Verified[Any], policy: Policy, references: Sequence[ReferenceValue], judged: Sequence[Remark]) -> dict[str, Ground]:
    facts = verified.facts
    rule = policy.technologies.get(facts.tee.technology, TechnologyRules()) if facts.tee else TechnologyRules()
    compared = facts.tee is not None and (
        facts.tee.tcb_status is not None or bool(rule.minimum_tcb.get(facts.tee.product) or rule.minimum_tcb.get("any"))
    )
    firmware = layers.firmware(facts, references)
    chain = layers.boot_chain(facts, references, firmware)
    grounds = (
        layers.root_of_trust(verified, judged, rules.BREAKS_ROOT, compared),
        firmware,
        chain,
        layers.root_filesystem(facts, references, chain),
    )
    return {ground.layer: ground for ground in grounds}


def _remembering(layer: Layer, codes: Sequence[str]) -> Layer:
    """The layer with the remarks of verification that concern it and that it does not carry yet."""
    own = {caveat.code for caveat in layer.caveats}
    added = tuple(threat.said(code) for code in codes if remark(code).layer == layer.name and code not in own)
    return replace(layer, caveats=(*layer.caveats, *added)) if added else layer


def _codes(remarks: Sequence[Remark]) -> set[str]:
    return {remark.finding.code for remark in remarks}


def _open_points(verified: Verified[Any], policy: Policy) -> tuple[Remark, ...]:
    return tuple(Remark(point, refuses=False) for point in verified.open_points if not rules.overruled(point.code, policy))


def _decide(remarks: Sequence[Remark]) -> tuple[Literal["accepted", "refused", "indeterminate"], tuple[Finding, ...]]:
    refusals = [remark.finding for remark in remarks if remark.refuses]
    left_open = [remark.finding for remark in remarks if not remark.refuses]
    findings = tuple(dict.fromkeys((*refusals, *left_open)))
    return ("refused" if refusals else "indeterminate" if left_open else "accepted"), findings


def _unsafe(verified: Verified[Any], policy: Policy) -> tuple[str, ...]:
    """Unsafe choices of the policy that made a difference here."""
    facts = verified.facts
    tee = facts.tee
    chosen = {
        "policy.revocation-unknown": policy.revocation.unknown == "accept-unsafe" and verified.revocation == "unknown",
        "policy.no-challenge": not policy.freshness.require_challenge and facts.freshness.scope != "challenge",
        "policy.per-boot": policy.freshness.accept_per_boot and facts.freshness.scope == "boot",
        "policy.allow-debug": policy.allow_debug and tee is not None and tee.debug,
        "policy.allow-migration": policy.allow_migration and tee is not None and tee.migratable,
        "policy.allow-simulated": policy.allow_simulated and verified.simulated,
    }
    return tuple(name for name, used in chosen.items() if used)


def _extra(verified: Verified[Any], policy: Policy, level_layers: Sequence[Layer]) -> Mapping[str, Any]:
    freshness = verified.facts.freshness
    root = "the paravisor's or provider's vTPM" if freshness.carried_by == "vtpm" else "the TEE"
    return {
        "threat_model": threat.model(),
        "procedure": verified.procedure,
        "root": root,
        "accepted_trust": list(policy.accepted_trust),
        "standing": {layer.name: _standing(layer) for layer in level_layers},
    }


def _standing(layer: Layer) -> str:
    """Blind trust told from trustworthiness: every layer is in exactly one of three lists (CL-01)."""
    if layer.verifiability < Verifiability.LINK:
        return "unknown"
    return "asserted by others" if layer.needs_provider else "verified by you"
