"""The TrustStatement: what is proven of each layer, who vouches for it, and whom one still has to trust.

Computed by `appraisal.appraise`, rendered by `reports`, replayed by `audit`. Nothing here is typed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from evident.appraisal.degrees import Levels, Verifiability
from evident.errors import Finding


@dataclass(frozen=True, slots=True)
class Caveat:
    """A coded remark on a layer, with a remedy, or "You cannot change this." where there is none."""

    code: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Component:
    """A named part of a layer with its digest, as far as it is known."""

    name: str
    digest: str
    algorithm: str
    status: Literal["matched", "differs", "unreferenced", "asserted"]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    level: int | None
    """The attestation level that this layer carries (1..4); None beside the levels."""
    verifiability: Verifiability
    summary: str
    """One sentence for a manager."""
    endorsers: tuple[str, ...]
    """Chain of parties whose word it rests on."""
    residual_trust: tuple[str, ...]
    """Who could still lie without being noticed, in words."""
    trusted_parties: tuple[str, ...]
    """The same parties by the names that ``accepted_trust`` uses."""
    needs_provider: bool
    """Could the infrastructure provider alone make this layer lie unnoticed?"""
    freshness: str
    evidence: tuple[str, ...]
    """Which bytes say so: ``report MEASUREMENT (0x090-0x0bf)``."""
    components: tuple[Component, ...] = ()
    caveats: tuple[Caveat, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the five questions of "Why do you trust your CVM?" (Kuznetsov, FOSDEM 2025)."""

    question: str
    answer: Literal["yes", "no", "unknown"]
    because: str
    evidence: tuple[str, ...]
    residual_trust: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustStatement:
    decision: Literal["accepted", "refused", "indeterminate"]
    code: str
    """``accepted``, or the code of the leading finding."""
    platform: str
    """Platform id of the profile that was appraised against, ``unknown`` when none was given."""
    technology: str | None
    simulated: bool
    at: datetime
    """The time at which everything was judged."""
    authentic: bool | None
    revocation: Literal["good", "revoked", "unknown"]
    levels: Levels
    layers: tuple[Layer, ...]
    questions: tuple[Answer, ...]
    findings: tuple[Finding, ...]
    """Everything that stands between this evidence and acceptance; empty when accepted."""
    headline: Mapping[str, str]
    """The first screen: ``use`` (may I use it?), ``proven``, ``trust`` (whom do I still trust?), ``todo``."""
    claims: Mapping[str, Any]
    steps: tuple[str, ...]
    """The verification steps that held, in order, each in words."""
    unsafe: tuple[str, ...]
    policy_name: str
    policy_sha256: str
    reference_sha256: str
    profile: str
    """``qemu-snp as of 2026-11-22``; empty when none."""
    endorsers: tuple[str, ...] = ()
    kind: str = ""
    identities: Mapping[str, str] = field(default_factory=dict)
    """What tells this machine from others, by the names of `evident.appraisal.identities`, hex or text."""
    extra: Mapping[str, Any] = field(default_factory=dict)
