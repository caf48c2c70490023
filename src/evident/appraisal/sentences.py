"""The level layers in words for people: summary, endorsers, and who could still lie unnoticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evident.appraisal.degrees import LEVEL_LAYERS, Verifiability
from evident.appraisal.layers import Ground
from evident.appraisal.profile import Profile
from evident.appraisal.statement import Caveat, Layer
from evident.verification.verified import Verified

UNKNOWN_PROVIDER = "the infrastructure provider"

_TITLES = {
    "root_of_trust": "The hardware",
    "firmware": "The firmware and initial state",
    "boot_chain": "The boot chain",
    "root_filesystem": "The root file system",
}


@dataclass(frozen=True, slots=True)
class Cast:
    """The parties of one appraisal by name."""

    vendor: str
    provider: str
    vtpm_operator: str | None
    """Who runs or wrote the vTPM that measured the boot; None when no layer rests on one."""


def cast(verified: Verified[Any], profile: Profile | None) -> Cast:
    facts = verified.facts
    operator = facts.vtpm.operator if facts.vtpm else None
    holder = facts.tee.key_holder if facts.tee else None
    if profile is not None and profile.provider != "you":
        provider = profile.provider
    elif profile is not None:
        provider = "whoever runs the host"
    else:
        provider = holder or UNKNOWN_PROVIDER
    if profile is not None and facts.vtpm and facts.vtpm.location == "host":
        operator = provider  # whoever runs the host runs what nothing else vouches for
    return Cast(facts.tee.vendor if facts.tee else "nobody", provider, operator)


def level_layers(
    verified: Verified[Any], profile: Profile | None, grounds: Mapping[str, Ground], degrees: Mapping[str, int], needs: Mapping[str, bool]
) -> tuple[Layer, ...]:
    """The four level layers of the statement; `degrees` are settled, those of `grounds` are each layer's own."""
    parties = cast(verified, profile)
    trusted: tuple[str, ...] = (parties.vendor,) if verified.facts.tee else ()
    chain: tuple[str, ...] = verified.endorsers
    layers = []
    for level, name in enumerate(LEVEL_LAYERS, start=1):
        ground = grounds[name]
        trusted = tuple(dict.fromkeys((*trusted, *_new_parties(ground, parties, verified, trusted))))
        if ground.endorser is not None:
            chain = tuple(dict.fromkeys((*verified.endorsers, *_carriers(ground, parties), ground.endorser)))
        elif name != "root_of_trust":
            chain = (*verified.endorsers, *_carriers(ground, parties))
        degree = Verifiability(degrees[name])
        layers.append(
            Layer(
                name=name,
                level=level,
                verifiability=degree,
                summary=_summary(
                    ground,
                    degree,
                    needs[name],
                    parties,
                    from_vtpm=verified.facts.freshness.carried_by == "vtpm",
                    simulated=verified.simulated,
                ),
                endorsers=chain,
                residual_trust=_residual(ground, degree, needs[name], parties, verified, profile),
                trusted_parties=trusted,
                needs_provider=needs[name],
                freshness=_freshness(verified),
                evidence=ground.evidence,
                components=ground.components,
                caveats=(*_undone(ground, degree), *ground.caveats),
            )
        )
    return tuple(layers)


def _carriers(ground: Ground, parties: Cast) -> tuple[str, ...]:
    return (f"vTPM of {parties.vtpm_operator}",) if ground.carrier == "vtpm" and parties.vtpm_operator else ()


def _new_parties(ground: Ground, parties: Cast, verified: Verified[Any], below: Sequence[str]) -> tuple[str, ...]:
    """Whose word this layer adds to those below it."""
    added: list[str] = []
    if ground.layer == "root_of_trust":
        if verified.facts.freshness.carried_by == "vtpm" and parties.vtpm_operator:
            added.append(parties.vtpm_operator)
        return tuple(added)
    if ground.carrier == "vtpm" and parties.vtpm_operator:
        added.append(parties.vtpm_operator)
    if ground.endorser is not None and ground.degree < Verifiability.BINARY:
        added.append(ground.endorser)
    if ground.endorser is None and ground.degree == Verifiability.LINK:
        added.append(parties.provider)
    return tuple(party for party in added if party not in below)


def _summary(ground: Ground, degree: Verifiability, provider_needed: bool, parties: Cast, *, from_vtpm: bool, simulated: bool) -> str:
    title = _TITLES[ground.layer]
    if ground.degree > degree:
        return f"{title} would hold by its own evidence, but a layer below it does not."
    if ground.state == "broken":
        return f"{title} is not what the policy takes for a genuine, up-to-date TEE."
    if ground.state == "mismatch":
        return f"{title} is not what was expected."
    if ground.state == "not-covered":
        return f"{title} is not covered by this evidence."
    if ground.layer == "root_of_trust" and from_vtpm:
        genuine = f"The hardware's report is genuine {parties.vendor}'s, made at boot"
        return f"{genuine}; the root of what is fresh here is the vTPM of {parties.vtpm_operator}."
    if ground.layer == "root_of_trust":
        fresh = "" if provider_needed else " and answered your own challenge"
        return f"{title} is {'simulated' if simulated else f'genuine {parties.vendor} hardware'}{fresh}."
    without = f" with the word of {parties.provider}" if provider_needed else f" without the word of {parties.provider}"
    words = {
        Verifiability.NONE: "has not been compared with anything",
        Verifiability.LINK: "is authentically reported, but nobody has compared it with anything",
        Verifiability.REFERENCE: f"matches a value that {ground.endorser} vouches for",
        Verifiability.BINARY: "matches a value recomputed from the binary",
        Verifiability.SOURCE: "matches a value rebuilt from source",
    }
    return f"{title} {words[degree]}{without if degree >= Verifiability.REFERENCE else ''}."


def _residual(
    ground: Ground, degree: Verifiability, provider_needed: bool, parties: Cast, verified: Verified[Any], profile: Profile | None
) -> tuple[str, ...]:
    sentences: list[str] = []
    facts = verified.facts
    if verified.simulated and ground.layer == "root_of_trust":
        sentences.append("This is a simulator: it proves nothing about any hardware, and whoever runs it can say anything.")
    if ground.layer == "root_of_trust" and facts.tee is not None:
        if not verified.simulated:
            sentences.append(f"{parties.vendor}, which made the chip and issues its keys.")
        if facts.tee.key_holder:
            sentences.append(
                f"{facts.tee.key_holder}, which decides which of its machines use the key: the report names the cloud, not the chip."
            )
        if facts.freshness.scope != "challenge":
            sentences.append("Whoever recorded this evidence earlier could replay it.")
        elif provider_needed and parties.vtpm_operator:
            sentences.append(f"{parties.vtpm_operator}, whose vTPM alone answered your challenge.")
    elif degree == Verifiability.NONE:
        sentences.append(f"{parties.provider}, who could have put anything here.")
    elif degree == Verifiability.LINK:
        sentences.append(f"{parties.provider}, or whoever built this: the value is stable, and nobody has said what it stands for.")
    elif degree == Verifiability.REFERENCE:
        sentences.append(f"{ground.endorser}, on whose word the value is right.")
    elif degree == Verifiability.BINARY:
        sentences.append("Whoever wrote the binary: it was recomputed, not read.")
    else:
        sentences.append("The authors of the source and of the tools that built it.")
    if ground.carrier == "vtpm" and ground.layer != "root_of_trust" and parties.vtpm_operator and provider_needed:
        sentences.append(f"{parties.vtpm_operator}, whose vTPM carries the measurement.")
    unread = ground.layer == "firmware" and degree < Verifiability.SOURCE
    if profile is not None and ground.layer in profile.residual and (provider_needed or unread or profile.simulated):
        sentences.append(profile.residual[ground.layer])
    return tuple(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _freshness(verified: Verified[Any]) -> str:
    freshness = verified.facts.freshness
    scope = {"challenge": "for this challenge", "boot": "per boot", "unknown": "not known"}[freshness.scope]
    return f"{scope}: {freshness.how}"


def _undone(ground: Ground, degree: Verifiability) -> tuple[Caveat, ...]:
    if ground.degree <= degree:
        return ()
    return (
        Caveat(
            "layer.undone-below",
            "Its own evidence holds, but it counts for nothing while a layer below does not.",
            "Settle the lowest layer that fails first.",
        ),
    )
