"""The four layers that carry levels, each judged by its own evidence: its degree, what it rests on, and what is wrong with it.

`Ground` is what one layer says for itself; whether it counts is for the folds (`folds.settle`), which see the layers below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evident.appraisal import boot_differences
from evident.appraisal.degrees import Verifiability
from evident.appraisal.differences import Difference, nearest
from evident.appraisal.folds import Carrier
from evident.appraisal.matching import RegisterMatch, match, worth
from evident.appraisal.observations import observations
from evident.appraisal.remarks import Remark, refusal
from evident.appraisal.statement import Caveat, Component
from evident.appraisal.threat import CAVEATS, said
from evident.reference_values.model import ReferenceValue
from evident.reference_values.snp_reference import root_in_initrd, verity_root_hash
from evident.verification.facts import BootChain, Facts, Stage
from evident.verification.verified import Verified

State = Literal["holds", "broken", "mismatch", "no-reference", "not-covered"]

NOT_BOOT_STAGES = frozenset({"firmware", "firmware-application", "verity_root_hash"})
"""Names of stages that belong to another layer."""

SECURE_BOOT_REGISTERS = frozenset({"pcr7", "rtmr0"})
"""Where Secure Boot's keys are measured; without a reference value for them, its state is a claim (AT-47)."""

UNPROVEN_LINE = "log.command-line-unproven"
SHA1_ONLY = "log.sha1-only"


BOOT_PCRS = frozenset({4, 8, 9, 11, 12, 13, 14})
"""What boot loaders, kernels and their parameters are measured into (TCG PFP 1.06, 2.3.4; systemd.io/TPM2_PCR_MEASUREMENTS)."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One layer by its own evidence."""

    layer: str
    degree: int
    state: State
    carrier: Carrier = "tee"
    matched: tuple[ReferenceValue, ...] = ()
    command_lines: tuple[str, ...] = ()
    """Command lines that are known to have been measured."""
    components: tuple[Component, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    evidence: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def endorser(self) -> str | None:
        """Whose word the weakest matching value is; None when nothing was compared."""
        weakest = min(self.matched, key=worth, default=None)
        return weakest.endorser if weakest else None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A layer against the reference values that settle it."""

    state: State
    matched: tuple[ReferenceValue, ...] = ()
    spared: tuple[ReferenceValue, ...] = ()
    """Values that differ elsewhere, and are proved to hold for this layer."""
    matches: tuple[RegisterMatch, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def degree(self) -> int:
        values = (*self.matched, *self.spared)
        return min(worth(value) for value in values) if self.state == "holds" and values else 0


def root_of_trust(verified: Verified[Any], remarks: Sequence[Remark], breaking: frozenset[str], compared: bool) -> Ground:
    """A genuine, up-to-date TEE. `compared`: a minimum of the policy, or the vendor's own status, was held against its TCB."""
    tee = verified.facts.tee
    caveats = [CAVEATS["side-channels"], CAVEATS["physical"], CAVEATS["replay"], CAVEATS["software-inside"]]
    if tee is None:
        return Ground("root_of_trust", 0, "not-covered", caveats=(_no_tee(),))
    if tee.key_holder is not None:
        caveats.insert(0, _cloud_key(tee.key_holder, tee.report_key))
    if not compared:
        caveats.insert(0, _no_minimum(tee.product))
    if verified.facts.freshness.carried_by == "vtpm":
        caveats.insert(0, _static_report(verified.facts))
    caveats.extend(observations(tee))
    broken = any(remark.refuses and remark.finding.code in breaking for remark in remarks)
    degree = 0 if broken else Verifiability.REFERENCE if compared else Verifiability.LINK
    return Ground(
        "root_of_trust",
        int(degree),
        "broken" if broken else "holds",
        caveats=tuple(caveats),
        evidence=(f"signature of the {tee.report_key.upper()} over the whole report", verified.facts.freshness.how),
    )


def firmware(facts: Facts, references: Sequence[ReferenceValue]) -> Ground:
    """Everything in the launch measurement."""
    if facts.tee is None:
        return Ground("firmware", 0, "not-covered")
    comparison = _compare(facts, "firmware", references)
    launch = facts.tee.registers.get("launch", b"")
    status: Literal["matched", "differs", "unreferenced"] = "matched" if comparison.state == "holds" else "differs"
    if comparison.state in ("no-reference", "not-covered"):
        comparison, status = _Comparison("no-reference"), "unreferenced"
    return Ground(
        "firmware",
        comparison.degree if comparison.state != "no-reference" else int(Verifiability.LINK),
        comparison.state,
        matched=(*comparison.matched, *comparison.spared),
        components=(Component("launch measurement", launch.hex(), "sha384", status),),
        caveats=(*_honest_mismatches(comparison), _once()),
        evidence=("launch measurement in the signed report",),
        remarks=_mismatch_remarks("firmware", comparison, None),
    )


def boot_chain(facts: Facts, references: Sequence[ReferenceValue], below: Ground) -> Ground:
    """Boot loader, kernel, initrd and command line: by the launch measurement itself, or by a replayed log."""
    comparison = _compare(facts, "boot_chain", references)
    values = (*comparison.matched, *comparison.spared)
    boot = facts.boot
    by_launch = [value for value in values if value.register == "launch"]
    stages = _boot_stages(facts)
    degree, state, caveats = comparison.degree, comparison.state, [*_honest_mismatches(comparison)]
    unlogged = _unlogged(facts)
    carrier = _chain_carrier(boot, values, unlogged)
    if state == "holds" and not by_launch:
        uncovered = [stage for stage in (*stages, *unlogged) if not _covered(stage, comparison.matches)]
        if uncovered:
            degree, state = min(degree, int(Verifiability.LINK)), "no-reference"
            caveats.append(_uncovered(uncovered))
    elif state in ("no-reference", "not-covered"):
        degree = int(Verifiability.LINK) if stages else 0
        unexplained = state == "no-reference" and _launch_unexplained(facts, references)
        state = "no-reference" if stages or unlogged or unexplained else "not-covered"
        if unlogged:
            caveats.append(_told_by_no_log(unlogged, facts))
    if boot is not None:
        caveats.extend(said(code) for code in boot.caveats)
        if not by_launch and SHA1_ONLY in boot.caveats:
            degree = min(degree, int(Verifiability.LINK))
    if state == "holds" and not stages and not any(value.components.keys() - NOT_BOOT_STAGES for value in values):
        caveats.append(_stages_unnamed())
    if (
        boot is not None
        and boot.secure_boot is not None
        and not any(result.register in SECURE_BOOT_REGISTERS for result in comparison.matches)
    ):
        caveats.append(_secure_boot_claim(boot.secure_boot))
    if state == "not-covered":
        caveats.append(_kernel_not_measured())
    lines = [value.command_line for value in by_launch if value.command_line is not None and value in comparison.matched]
    if boot is not None and boot.command_line is not None and UNPROVEN_LINE not in boot.caveats:
        lines.append(boot.command_line)
    return Ground(
        "boot_chain",
        degree,
        state,
        carrier=carrier,
        matched=values,
        command_lines=tuple(lines),
        components=_stage_components(stages, comparison.matches, values),
        caveats=tuple(caveats),
        evidence=_boot_evidence(facts, bool(by_launch)),
        remarks=_mismatch_remarks("boot_chain", comparison, below),
    )


def root_filesystem(facts: Facts, references: Sequence[ReferenceValue], chain: Ground) -> Ground:
    """A dm-verity root hash in a measured place, or an initrd that is all of it; everything else about the file system is unknown."""
    comparison = _compare(facts, "root_filesystem", references)
    values = (*comparison.matched, *comparison.spared)
    stages = [stage for stage in facts.boot.stages if stage.name == "verity_root_hash"] if facts.boot else []
    hashes = {stage.digest for stage in stages} | {found for line in chain.command_lines if (found := verity_root_hash(line))}
    named = {digest for value in values if (digest := _root_hash_of(value))}
    lines = (*chain.command_lines, *(value.command_line or "" for value in values))
    whole = any(map(root_in_initrd, lines)) and any("initrd" in value.components for value in chain.matched)
    degree, state, caveats = comparison.degree, comparison.state, [*_honest_mismatches(comparison)]
    if state == "holds" and not (hashes | named or whole):
        degree, state = 0, "not-covered"
    elif state in ("no-reference", "not-covered"):
        degree = int(Verifiability.LINK) if len(hashes) == 1 else 0
        state = "no-reference" if hashes or chain.state == "no-reference" else "not-covered"
    if state == "not-covered":
        caveats.append(_no_root_hash())
    status: Literal["matched", "unreferenced"] = "matched" if state == "holds" else "unreferenced"
    return Ground(
        "root_filesystem",
        degree,
        state,
        carrier=chain.carrier,
        matched=values,
        components=tuple(Component("verity root hash", digest.hex(), "sha256", status) for digest in sorted(hashes | named)),
        caveats=tuple(caveats),
        evidence=_root_evidence(hash_named=bool(hashes | named), in_initrd=whole and state == "holds"),
        remarks=_mismatch_remarks("root_filesystem", comparison, chain),
    )


def _root_evidence(*, hash_named: bool, in_initrd: bool) -> tuple[str, ...]:
    if hash_named:
        return ("dm-verity root hash in the measured command line",)
    return ("the measured initrd, which is all of it (evident.mode=microcvm)",) if in_initrd else ()


def _compare(facts: Facts, layer: str, references: Sequence[ReferenceValue]) -> _Comparison:
    values = [value for value in references if layer in value.layers]
    matches = match(facts, values)
    if not matches:
        return _Comparison("not-covered" if values else "no-reference")
    spared, differences = [], []
    for result in matches:
        if result.matched is not None:
            continue
        by_launch = result.register == "launch"
        difference = (
            nearest(result.refuted, result.found[0], facts.stated_launch)
            if by_launch
            else boot_differences.nearest(result.refuted, facts.boot)
        )
        if difference is not None and difference.spares(layer):
            spared.append(difference.reference)
        if difference is not None:
            differences.append(difference)
    matched = tuple(result.matched for result in matches if result.matched is not None)
    holds = len(matched) + len(spared) == len(matches)
    return _Comparison("holds" if holds else "mismatch", matched, tuple(spared), matches, tuple(differences))


def _mismatch_remarks(layer: str, comparison: _Comparison, below: Ground | None) -> tuple[Remark, ...]:
    """Findings of this layer alone: what the same difference says of a layer below is reported there."""
    if comparison.state != "mismatch":
        return ()
    findings = [finding for difference in comparison.differences for finding in difference.findings if finding.layer == layer]
    if not findings and comparison.differences and below is not None and below.state == "mismatch":
        return ()
    told = {difference.reference.register for difference in comparison.differences} if findings else set()
    silent = [result for result in comparison.matches if result.matched is None and result.register not in told]
    return (*(Remark(finding, refuses=True) for finding in findings), *(_mismatch(layer, result) for result in silent))


def _mismatch(layer: str, result: RegisterMatch) -> Remark:
    expected = "; ".join(f"{value.value.hex()} ({value.description}, by {value.endorser})" for value in result.refuted[:4])
    return refusal(
        "reference.mismatch",
        layer,
        expected=f"{result.register} among {len(result.refuted)} reference values: {expected}",
        found=", ".join(digest.hex() for digest in result.found),
        remedy="Find out which build runs; if it is meant, record its reference value, otherwise refuse this machine.",
    )


def _honest_mismatches(comparison: _Comparison) -> tuple[Caveat, ...]:
    """A weaker value matched although a stronger one exists: say so, with both digests (AT-60)."""
    return tuple(
        Caveat(
            "reference.stronger-value-differs",
            f"{result.register} is {result.matched.value.hex()}, vouched for by {result.matched.endorser}; a stronger value "
            f"({stronger.description}) would be {stronger.value.hex()}.",
            "Ask why the published build is not the one that runs, or record the build that does.",
        )
        for result in comparison.matches
        if result.matched is not None
        for stronger in result.refuted
    )


def _boot_stages(facts: Facts) -> list[Stage]:
    return [stage for stage in facts.boot.stages if stage.name not in NOT_BOOT_STAGES] if facts.boot else []


def _chain_carrier(boot: BootChain | None, values: Sequence[ReferenceValue], unlogged: Sequence[Stage]) -> Carrier:
    """Who vouches for the boot chain's registers: PCRs are the vTPM's word, with a log or without one."""
    if any(value.register == "launch" for value in values):
        return "tee"
    if any(value.register.startswith("pcr") for value in values):
        return "vtpm"
    if boot is None:
        return "vtpm" if unlogged else "tee"
    return boot.measured_by


def _unlogged(facts: Facts) -> list[Stage]:
    """Quoted registers of the boot that no log explains: what was measured into them could have made up the others."""
    if facts.boot is not None or facts.vtpm is None:
        return []
    bank = next((name for name in ("sha256", "sha384", "sha512", "sha1") if name in facts.vtpm.pcrs), None)
    registers = facts.vtpm.pcrs[bank] if bank else {}
    return [
        Stage(f"pcr{index}", value, bank or "", "measured, and told by no log", recomputable=False, register=f"pcr{index}")
        for index, value in sorted(registers.items())
        if index in BOOT_PCRS and value.strip(b"\0")
    ]


def _covered(stage: Stage, matches: Iterable[RegisterMatch]) -> bool:
    return any(result.matched is not None and result.register in (stage.register, f"stage.{stage.name}") for result in matches)


def _stage_components(stages: Iterable[Stage], matches: Sequence[RegisterMatch], values: Iterable[ReferenceValue]) -> tuple[Component, ...]:
    components = []
    for stage in stages:
        refuted = any(result.matched is None and result.register in (stage.register, f"stage.{stage.name}") for result in matches)
        bare: Literal["unreferenced", "asserted"] = "unreferenced" if stage.recomputable else "asserted"
        status: Literal["matched", "differs", "unreferenced", "asserted"]
        status = "matched" if _covered(stage, matches) else "differs" if refuted else bare
        components.append(Component(stage.name, stage.digest.hex(), stage.algorithm, status, stage.description))
    for value in values:
        if value.register == "launch":
            parts = ((name, digest) for name, digest in value.components.items() if name not in NOT_BOOT_STAGES)
            components.extend(Component(name, digest.hex(), "sha256", "matched") for name, digest in parts)
    return tuple(dict.fromkeys(components))


def _launch_unexplained(facts: Facts, references: Sequence[ReferenceValue]) -> bool:
    """Nobody knows what the launch measurement covers: a reference value may yet show that the kernel is in it."""
    return facts.tee is not None and not any(value.register == "launch" for value in references)


def _root_hash_of(value: ReferenceValue) -> bytes | None:
    if value.command_line is not None:
        return verity_root_hash(value.command_line)
    if value.register == "stage.verity_root_hash":
        return value.value
    return value.components.get("verity_root_hash")


def _boot_evidence(facts: Facts, by_launch: bool) -> tuple[str, ...]:
    if by_launch:
        return ("kernel hashes inside the launch measurement",)
    if facts.boot is not None:
        carrier = "registers of the TEE's report" if facts.boot.measured_by == "tee" else "PCRs of the vTPM's quote"
        names = sorted(facts.boot.registers, key=lambda name: (len(name), name))
        return (f"boot log replayed to the {carrier} ({', '.join(names)})",)
    return ()


def _no_tee() -> Caveat:
    return Caveat("root.none", "Nothing here is signed by a trusted execution environment.", "Use a confidential VM.")


def _cloud_key(holder: str, key: str) -> Caveat:
    return Caveat(
        "vlek.cloud-not-chip",
        f"The report is signed with a {key.upper()} issued to {holder}: it proves a genuine chip in that cloud, not which one.",
        "Where it matters which machine it is, use a dedicated host whose chip signs with its own key.",
    )


def _no_minimum(product: str) -> Caveat:
    return Caveat(
        "tcb.no-minimum",
        f"No minimum TCB for {product} was demanded: the platform's firmware may be old.",
        "Set technologies.*.minimum_tcb in the policy to the versions that the vendor's current bulletins name.",
    )


def _static_report(facts: Facts) -> Caveat:
    operator = facts.vtpm.operator if facts.vtpm else "the vTPM's operator"
    return Caveat(
        "root.static-report",
        f"The hardware report was made at boot and is the same for everybody; only the vTPM run by {operator} answered your challenge. "
        "Versions in the report are those of boot time.",
        "Ask for a report with your own data in it, where the platform offers one.",
    )


def _stages_unnamed() -> Caveat:
    return Caveat(
        "boot.stages-unnamed",
        "The measurement matches as a whole; neither a log nor the reference value names kernel, initrd and command line.",
        "Collect the boot log too, or record the reference value with its components.",
    )


def _secure_boot_claim(enabled: bool) -> Caveat:
    return Caveat(
        "boot.secure-boot-unreferenced",
        f"Secure Boot is {'on' if enabled else 'off'}, but whose keys it obeys has not been compared: it adds nothing to the level.",
        "Record a reference value for the register of the Secure Boot keys (pcr7).",
    )


def _once() -> Caveat:
    return Caveat(
        "launch.once",
        "The launch measurement is taken once: it does not follow what happens at run time.",
        "Attest regularly, and measure user space.",
    )


def _kernel_not_measured() -> Caveat:
    return Caveat(
        "boot.not-covered",
        "Nothing in this evidence measures kernel, initrd and command line: the host could have started any.",
        "Launch with kernel hashes, or collect the vTPM's quote and boot log too.",
    )


def _told_by_no_log(stages: Sequence[Stage], facts: Facts) -> Caveat:
    operator = facts.vtpm.operator if facts.vtpm else ""
    return Caveat(
        "boot.unlogged",
        f"What was booted is measured in {', '.join(stage.name for stage in stages)} of the vTPM of {operator}; no log names it, and no "
        "reference value says what it should be.",
        "Collect the boot log too, or record reference values for these registers.",
    )


def _uncovered(stages: Sequence[Stage]) -> Caveat:
    return Caveat(
        "boot.stage-unreferenced",
        "No reference value covers: " + ", ".join(dict.fromkeys(stage.name for stage in stages)) + ".",
        "Record reference values for these stages, or for the registers that they are measured in.",
    )


def _no_root_hash() -> Caveat:
    return Caveat(
        "rootfs.no-root-hash",
        "No dm-verity root hash is in a measured command line: the host could have put any root file system there.",
        "Build the image with dm-verity and its root hash in the kernel command line or the UKI.",
    )
