"""The appraisal policy: typed, versioned, small, and strict where it is silent.

One policy appraises every technology: vendor words occur only as keys of `technologies`. Read with
`codec.decode(Policy, ..., "policy")`; the published schema is `schemas/policy.json`, generated from these classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evident.appraisal.degrees import BESIDE_LAYERS, LEVEL_LAYERS
from evident.errors import Malformed

_NUMBER = re.compile(r"[0-9]{1,5}")
_CENTURY = 100 * 365 * 24 * 3600


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


def _wrong(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"policy.{problem}", expected=expected, found=found, remedy="Correct the policy; `evident policy lint` checks it.")


def parse_tcb(text: str) -> Mapping[str, int]:
    """``snp=20,microcode=210`` as component to number; `Malformed` for anything else, lest a denial be lost in silence."""
    numbers: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if not name.isidentifier() or not _NUMBER.fullmatch(number) or name in numbers:
            raise _wrong("deny-tcb", "component=number,component=number", repr(text))
        numbers[name] = int(number)
    return numbers


@dataclass(frozen=True, slots=True)
class RequiredLevels:
    nominal: int = field(default=2, metadata=_doc("Lowest nominal attestation level (0-4) that is accepted."))
    trustworthy: int = field(default=0, metadata=_doc("Lowest level (0-4) reached without trusting the infrastructure provider."))
    verifiability: Mapping[str, int] = field(
        default_factory=lambda: {"root_of_trust": 1, "firmware": 2},
        metadata=_doc("Layer to lowest degree of verifiability (0-4). Strict default: nothing is accepted on first sight."),
    )

    def __post_init__(self) -> None:
        for name, value in (("nominal", self.nominal), ("trustworthy", self.trustworthy), *self.verifiability.items()):
            if not 0 <= value <= 4:
                raise _wrong("levels", f"{name} from 0 to 4", str(value))
        for layer in self.verifiability:
            if layer not in LEVEL_LAYERS + BESIDE_LAYERS:
                raise _wrong("levels.layer", "one of " + ", ".join(LEVEL_LAYERS + BESIDE_LAYERS), layer)


@dataclass(frozen=True, slots=True)
class Freshness:
    require_challenge: bool = field(default=True, metadata=_doc("The evidence must be bound to the verifier's own challenge."))
    accept_per_boot: bool = field(default=False, metadata=_doc("Accept evidence made once per boot (no challenge inside)."))
    maximum_age_seconds: int | None = field(default=None, metadata=_doc("Oldest evidence accepted, for evidence that carries a time."))

    def __post_init__(self) -> None:
        if self.maximum_age_seconds is not None and not 0 <= self.maximum_age_seconds <= _CENTURY:
            raise _wrong("freshness", f"maximum_age_seconds from 0 to {_CENTURY}", str(self.maximum_age_seconds))


@dataclass(frozen=True, slots=True)
class RevocationRule:
    unknown: Literal["indeterminate", "accept-unsafe"] = field(
        default="indeterminate",
        metadata=_doc("What an unknown revocation status means. `accept-unsafe` shows in the statement."),
    )


@dataclass(frozen=True, slots=True)
class TechnologyRules:
    """Rules for one technology (`snp`, `tdx`)."""

    minimum_tcb: Mapping[str, Mapping[str, int]] = field(
        default_factory=dict,
        metadata=_doc("Product (or `any`) to component to lowest security version, demanded of every TCB in the evidence."),
    )
    tcb_status: tuple[str, ...] = field(default=(), metadata=_doc("Accepted vendor TCB statuses; empty means only the vendor's best."))
    accepted_advisories: tuple[str, ...] = field(default=(), metadata=_doc("Advisory ids that do not stand in the way."))
    settings: Mapping[str, bool] = field(
        default_factory=dict,
        metadata=_doc("Named switches that must have this value, e.g. `policy.smt: false`, `platform.ciphertext_hiding: true`."),
    )
    registers: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=_doc("Signed register or identity value to the hex values accepted, e.g. `id_key_digest`, `mrseam`."),
    )
    report_keys: tuple[str, ...] = field(default=(), metadata=_doc("Accepted kinds of signing key, e.g. [`vcek`]; empty accepts all."))
    maximum_privilege_level: int | None = field(
        default=None, metadata=_doc("Highest (least privileged) level the report may be asked from.")
    )
    minimum_guest_svn: int | None = field(default=None, metadata=_doc("Lowest guest security version number."))


@dataclass(frozen=True, slots=True)
class Deny:
    """Machines and versions known to be bad (published key extractions; AT-58)."""

    identities: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=_doc("Identity or signed register (`hwid`, `chip_id`, `csp_id`, `fmspc`...) to denied values."),
    )
    tcb: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=_doc("Product (or `any`) to denied TCBs, each as `component=number,component=number`."),
    )

    def __post_init__(self) -> None:
        for denied in self.tcb.values():
            for text in denied:
                parse_tcb(text)


@dataclass(frozen=True, slots=True)
class Policy:
    version: Literal[1] = field(metadata=_doc("Version of the policy format."))
    name: str = field(default="strict", metadata=_doc("Shown in the statement."))
    levels: RequiredLevels = field(default_factory=RequiredLevels, metadata=_doc("What must be proven."))
    accepted_trust: tuple[str, ...] = field(
        default=(),
        metadata=_doc("Parties whose word you take beside the silicon vendor and yourself, by the names that statements show."),
    )
    freshness: Freshness = field(default_factory=Freshness, metadata=_doc("How evidence must be tied to the challenge."))
    revocation: RevocationRule = field(default_factory=RevocationRule, metadata=_doc("Strictness of revocation."))
    allow_debug: bool = field(default=False, metadata=_doc("Accept guests whose memory the host may read."))
    allow_migration: bool = field(default=False, metadata=_doc("Accept guests that a migration agent may export."))
    migration_agents: tuple[str, ...] = field(default=(), metadata=_doc("Migration agents (report id, hex) accepted by name."))
    allow_simulated: bool = field(default=False, metadata=_doc("Accept evidence of a simulator's TEST root. Never for production."))
    allowed_identities: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=_doc(
            "Identity or signed register (`chip_id`, `id_key_digest`, `project_id`...) to the only values accepted: your own machines. "
            "Evidence without it is refused."
        ),
    )
    deny: Deny = field(default_factory=Deny, metadata=_doc("Machines and versions refused whatever else holds."))
    required_components: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=_doc("Boot stage (`kernel`, `initrd`) to accepted digests (hex), beside the reference values."),
    )
    minimum_rebuilders: int = field(
        default=1, metadata=_doc("How many distinct trusted signers must have built an image before its values count as rebuilt.")
    )
    forbidden_command_line: tuple[str, ...] = field(
        default=(
            "init=",
            "rdinit=",
            "rd.break",
            "systemd.debug-shell",
            "systemd.debug_shell",
            "rd.shell",
            "break",
            "ima=off",
            "ima_appraise=off",
            "ima_appraise=fix",
            "ima_appraise=log",
            *("single", "s", "S", "1", "rescue", "rd.rescue"),
            *("emergency", "rd.emergency", "-b"),
            "systemd.unit=rescue.target",
            "systemd.unit=emergency.target",
            "rd.systemd.unit=rescue.target",
            "rd.systemd.unit=emergency.target",
            "systemd.run=",
            "systemd.verity=no",
            "systemd.verity=0",
            "rd.systemd.verity=no",
            "rd.systemd.verity=0",
        ),
        metadata=_doc("Kernel parameters that are refused wherever the command line is known."),
    )
    allowed_agents: tuple[str, ...] | None = field(
        default=None,
        metadata=_doc(
            "Provisioning agents that the measured image may contain; an empty list allows none, null does not ask. "
            "Known only where the reference value was made from the image's files."
        ),
    )
    technologies: Mapping[str, TechnologyRules] = field(default_factory=dict, metadata=_doc("Rules by technology: `snp`, `tdx`."))


STRICT = Policy(version=1)
"""What applies when no policy is given."""


def least_degrees(policy: Policy) -> dict[str, int]:
    """Layer to the lowest degree that the policy accepts, of those of which it demands anything."""
    least = {name: degree for name, degree in policy.levels.verifiability.items() if degree > 0}
    for layer in LEVEL_LAYERS[: max(policy.levels.nominal, policy.levels.trustworthy)]:
        least[layer] = max(least.get(layer, 0), 1)
    return least
