"""Platform profiles: dated, sourced facts about what a platform lets anyone verify.

The types live here because appraisal reads them; the facts live in ``platforms/<name>/profile.py``. A profile is never
evidence: it says what a good machine there *could* prove and whom one would still trust, and names parties in the statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Generic, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A value with where it comes from."""

    value: T
    source: str
    """Document and section, URL or repository and commit: what a reader needs to check it."""
    note: str = ""
    confidence: Literal["high", "medium", "low"] = "high"


@dataclass(frozen=True, slots=True)
class VtpmProfile:
    kind: Fact[str]
    """In the words of Pontes et al. table 1: ``SVSM-vTPM``, ``IBM SWTPM fork``, ``custom``...; ``none``."""
    location: Fact[Literal["hypervisor", "paravisor", "svsm", "host", "none"]]
    measured: Fact[bool]
    """Is the vTPM's code part of the launch measurement?"""
    endorser: Fact[str]
    """Whose word its key is."""
    verifiability: Fact[int]
    """Degree (0-4) at which its code can be verified."""


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """How far one layer can be verified there, at best, with the customer's own reproducible image where that applies."""

    best: Fact[int]
    """Highest attainable degree of verifiability (0-4)."""
    endorser: Fact[str]
    """``you``, or the party that vouches for the value at that degree."""
    measured_by: Fact[Literal["tee", "vtpm", "none"]]


@dataclass(frozen=True, slots=True)
class Profile:
    """Facts of one platform at one date."""

    id: str
    """``qemu-snp``, ``qemu-svsm``, ``snpguard``, ``microcvm``, ``simulated``, or a cloud and its technology."""
    title: str
    as_of: date
    provider: str
    """The infrastructure provider's name as ``accepted_trust`` uses it; ``you`` on your own host."""
    technology: Literal["snp", "tdx", "none"]
    report_source: Fact[Literal["device", "vtpm", "svsm"]]
    """Through what the report reaches the guest (PT-05)."""
    report_fresh: Fact[bool]
    """Can the verifier's own challenge be put into a vendor-signed report?"""
    report_key_holder: Fact[str]
    """``AMD``/``Intel`` when the key never leaves the chip, else who holds it (VLEK)."""
    launch_covers: Fact[tuple[str, ...]]
    """Components in the launch measurement (PT-01), e.g. ``firmware``, ``paravisor``, ``svsm``, ``kernel``, ``initrd``, ``cmdline``."""
    launch_reproducible: Fact[bool]
    """PT-02."""
    vtpm: VtpmProfile
    layers: Mapping[str, LayerProfile]
    """Keyed by the four level layers plus ``userspace``."""
    disk_key: Fact[tuple[str, ...]]
    """Ways to bring a disk key (PT-06)."""
    provisioning_attested: Fact[bool]
    residual: Mapping[str, str] = field(default_factory=dict)
    """Layer to the residual-trust sentence for people."""
    notes: tuple[Fact[str], ...] = ()
    published: Mapping[str, Fact[str]] = field(default_factory=dict)
    """What others printed of this platform, by table and row (``scopelliti.nominal``), to hold against what is computed."""
    column: str = ""
    """Its heading in the tables that it occurs in."""
    simulated: bool = False
    """True for a simulator: whatever is computed from it is said of no hardware."""


def own_image_layers(
    firmware: LayerProfile, *, measured_by: Literal["tee", "vtpm"], runtime: bool, source: str
) -> Mapping[str, LayerProfile]:
    """The layers of a platform that boots the customer's own reproducible image over `firmware`.

    `runtime`: something outlives the boot and measures what is loaded (a vTPM's PCRs).
    """
    image: LayerProfile = LayerProfile(Fact(4, source), Fact("you", source), Fact(measured_by, source))
    nothing: LayerProfile = LayerProfile(Fact(0, source), Fact("nobody", source), Fact("none", source))
    return {
        "root_of_trust": LayerProfile(Fact(1, source), Fact("the vendor", source), Fact("tee", source)),
        "firmware": firmware,
        "boot_chain": image,
        "root_filesystem": image,
        "userspace": LayerProfile(Fact(4, source), Fact("you", source), Fact("vtpm", source)) if runtime else nothing,
    }
