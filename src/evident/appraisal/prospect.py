"""What a platform would let anyone prove, before anything is deployed: a profile through the folds of real statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from evident.appraisal.degrees import LEVEL_LAYERS, YOU, Levels, Verifiability
from evident.appraisal.folds import Basis, levels, needs_provider, settle
from evident.appraisal.profile import Profile

VENDORS: Mapping[str, str] = MappingProxyType({"snp": "AMD", "tdx": "Intel"})
_HARDWARE: Mapping[str, str] = MappingProxyType({"snp": "AMD-SP", "tdx": "TDX module"})


@dataclass(frozen=True, slots=True)
class Outlook:
    """One layer as a good machine there would show it, at best."""

    layer: str
    level: int | None
    verifiability: Verifiability
    needs_provider: bool
    endorser: str
    """Chain of words: ``AMD-SP``; ``vTPM, endorsed by X``; then who vouches for the value."""
    because: str
    residual_trust: str
    unreviewable_inside: bool
    """Code of the provider runs inside the TEE, and nobody can rebuild it (the first root cause of Scopelliti et al., section 6.2)."""
    provider_in_path: bool
    """A component of the provider, outside the TEE, is in the path of the attestation (the second)."""
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prospect:
    """A platform before deployment."""

    platform: str
    title: str
    as_of: date
    simulated: bool
    levels: Levels
    layers: tuple[Outlook, ...]
    conclusions: tuple[str, ...]
    notes: tuple[str, ...]


def basis(profile: Profile) -> Basis:
    """The profile as the folds read it."""
    return Basis(
        fresh=profile.report_fresh.value,
        degrees={name: profile.layers[name].best.value for name in LEVEL_LAYERS},
        carriers={name: profile.layers[name].measured_by.value for name in LEVEL_LAYERS},
        vtpm_location=profile.vtpm.location.value,
        vtpm_anchored=profile.vtpm.measured.value,
    )


def current(profiles: Iterable[Profile], at: date) -> tuple[Profile, ...]:
    """Of every platform its newest profile that is not younger than `at`."""
    newest: dict[str, Profile] = {}
    for profile in profiles:
        if profile.as_of <= at and (profile.id not in newest or newest[profile.id].as_of < profile.as_of):
            newest[profile.id] = profile
    return tuple(newest.values())


def prospect(profile: Profile) -> Prospect:
    """What a good machine there would prove, and whom one would still trust."""
    reached = profile_levels(profile)
    names = (*LEVEL_LAYERS, "userspace")
    return Prospect(
        platform=profile.id,
        title=profile.title,
        as_of=profile.as_of,
        simulated=profile.simulated,
        levels=reached,
        layers=tuple(outlook(profile, name) for name in names),
        conclusions=tuple(_conclusions(profile, reached)),
        notes=tuple(note.value for note in profile.notes),
    )


def profile_levels(profile: Profile) -> Levels:
    read = basis(profile)
    return levels(settle(read.degrees), needs_provider(read))


def measured_by(profile: Profile, layer: str) -> str:
    """Whose word a measurement of `layer` is, in the poster's words."""
    carrier = profile.layers[layer].measured_by.value
    if carrier == "tee":
        return hardware(profile)
    if carrier == "none":
        return "nobody"
    return f"vTPM by {vtpm_endorser(profile)}"


def vtpm_endorser(profile: Profile) -> str:
    """Whose word the vTPM is: the secure processor's, or the party that must be believed."""
    return profile.vtpm.endorser.value if needs_provider(basis(profile))["vtpm"] else hardware(profile)


def hardware(profile: Profile) -> str:
    """The part of the chip that signs, as the poster names it."""
    return _HARDWARE.get(profile.technology, "nobody")


def trusted_parties(profile: Profile) -> Mapping[str, tuple[str, ...]]:
    """Level layer to the parties beside the chip's maker and yourself on whose word it rests, with everything below it.

    The rules are those of a real statement (`sentences`): who runs the vTPM that measured a layer; who vouches for a value that nobody
    recomputed; and the provider where there is no value to compare with.
    """
    trusted: tuple[str, ...] = ()
    parties: dict[str, tuple[str, ...]] = {}
    for layer in LEVEL_LAYERS:
        facts = profile.layers[layer]
        if layer != "root_of_trust":
            if facts.measured_by.value == "vtpm":
                trusted += (profile.vtpm.endorser.value,)
            if facts.best.value == Verifiability.REFERENCE:
                trusted += (facts.endorser.value,)
            if facts.best.value == Verifiability.LINK:
                trusted += (profile.provider,)
        trusted = tuple(party for party in dict.fromkeys(trusted) if party != YOU)
        parties[layer] = trusted
    return parties


def outlook(profile: Profile, layer: str) -> Outlook:
    """One layer of the profile with the reason for what is said of it."""
    facts = profile.layers[layer]
    needs = needs_provider(basis(profile))
    if layer == "userspace":
        carried = facts.measured_by.value == "vtpm" and needs["vtpm"]
        needed = facts.best.value < Verifiability.BINARY or carried
    else:
        needed = needs[layer]
    degree = Verifiability(facts.best.value)
    endorsers = dict.fromkeys((measured_by(profile, layer), facts.endorser.value))
    sources = (facts.best.source, profile.report_fresh.source if layer == "root_of_trust" else facts.measured_by.source)
    return Outlook(
        layer=layer,
        level=LEVEL_LAYERS.index(layer) + 1 if layer in LEVEL_LAYERS else None,
        verifiability=degree,
        needs_provider=needed,
        endorser=_root_endorser(profile) if layer == "root_of_trust" else "; ".join(endorsers),
        because=_because(profile, layer, degree, needed),
        residual_trust=profile.residual.get(layer, "Nobody beside the chip's maker and yourself." if not needed else "The provider."),
        unreviewable_inside=_unreviewable_inside(profile, layer),
        provider_in_path=_provider_in_path(profile, layer),
        sources=tuple(dict.fromkeys(sources)),
    )


def _unreviewable_inside(profile: Profile, layer: str) -> bool:
    by_inner_vtpm = profile.layers[layer].measured_by.value == "vtpm" and profile.vtpm.location.value in ("paravisor", "svsm")
    return not profile.launch_reproducible.value and (layer == "firmware" or by_inner_vtpm)


def _provider_in_path(profile: Profile, layer: str) -> bool:
    return profile.layers[layer].measured_by.value == "vtpm" and profile.vtpm.location.value in ("hypervisor", "host")


def _inside_sentence(note: str) -> str:
    """A note as a clause: without its stop, and small unless it begins with a name in capitals."""
    clause = note.rstrip(".")
    return clause if clause[1:2].isupper() else clause[:1].lower() + clause[1:]


def _root_endorser(profile: Profile) -> str:
    vendor, holder = VENDORS.get(profile.technology, "nobody"), profile.report_key_holder.value
    return vendor if holder == vendor else f"{vendor}, by a key issued to {holder}"


def _because(profile: Profile, layer: str, degree: Verifiability, needed: bool) -> str:
    facts = profile.layers[layer]
    if layer == "root_of_trust":
        return _inside_sentence(profile.report_fresh.note) or (
            "your own challenge goes into a vendor-signed report" if not needed else "no vendor-signed report answers your own challenge"
        )
    parts = [degree.words]
    if facts.best.note:
        parts.append(_inside_sentence(facts.best.note))
    if facts.measured_by.value == "vtpm":
        where = profile.vtpm.location.value
        bound = ", bound by the hardware's report" if profile.vtpm.measured.value else ", which the hardware's report does not bind"
        parts.append(f"measured by the vTPM in the {where}{bound}")
    elif facts.measured_by.value == "tee":
        parts.append("measured by the hardware")
    if needed and degree >= Verifiability.BINARY:
        parts.append("so the value is known, but the provider could report it of anything")
    return "; ".join(parts)


def _conclusions(profile: Profile, reached: Levels) -> Iterator[str]:
    """Derived, not typed: the release rule is that a disk key leaves at trustworthy level 3 or more (AL-10, PT-15, PT-16)."""
    if reached.trustworthy >= len(LEVEL_LAYERS):
        yield "Fully verifiable by remote parties, without the provider."
    if reached.trustworthy >= 3:
        yield "A disk key of your own can be released to it without trusting the provider."
    elif reached.trustworthy >= 2:
        yield "Usable securely if user-controlled disk encryption is not mandatory: a disk key released to it rests on the provider's word."
    else:
        yield "No disk key of your own can be released to it without trusting the provider."
    if _unreviewable_inside(profile, "firmware"):
        yield "Firmware that nobody outside can rebuild from its source runs inside the VM."
    if _provider_in_path(profile, "boot_chain"):
        yield "A component of the provider, outside the VM, is in the path of the attestation."
