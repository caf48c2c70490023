"""What differs when a measured launch digest is not the expected one.

A digest does not say what went into it. But a `LaunchTemplate` predicts it for other inputs, and inputs that reproduce the measured
digest exactly are, by the collision resistance of SHA-384, the inputs that were launched. So the reference is varied within
bounds (components stated by the guest, no kernel-hash table, other vCPUs, type, features, VMM) with the fewest changes first; what no
variation reproduces is put down to the firmware.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from evident.errors import Finding
from evident.reference_values import vmsa
from evident.reference_values.kernel_hashes import STAGES, KernelHashes, command_line_hash
from evident.reference_values.model import ReferenceValue
from evident.reference_values.snp_launch import LaunchTemplate

T = TypeVar("T")

MAX_SEARCHED_VCPUS = 512
SEARCHED_FEATURES = (0x1, 0x21, 0x201, 0x221)
"""SEV_FEATURES that Linux sets for SNP guests: SNP active, with debug swap (0x20) and secure TSC (0x200)."""

_NAMES = {"kernel": "kernel", "initrd": "initial RAM disk", "cmdline": "kernel command line"}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why `measured` is not the reference value."""

    findings: tuple[Finding, ...]
    """One per differing input, the code's last part naming it: ``launch.kernel``, ``launch.vcpus``, ``launch.firmware``..."""
    explained: bool
    """True when the findings are proved: with exactly these inputs changed, the reference reproduces the measured digest."""

    def spares(self, layer: str) -> bool:
        """True when `layer` is proved to be as the reference says, although the digest differs."""
        return self.explained and all(finding.layer != layer for finding in self.findings)


def explain_mismatch(
    reference: ReferenceValue, measured: bytes, stated: Mapping[str, bytes] | None, command_line: str | None = None
) -> Mismatch:
    """Name the inputs in which the launch behind `measured` differs from `reference`.

    `stated` are digests by stage name as guest or host state them (`StatedLaunch.components`), `command_line` its text. Both are untrusted:
    they count only where they reproduce `measured`. Without a template in `reference`, or without a match, the firmware is named.
    """
    if not reference.template:
        return Mismatch((_firmware(reference, measured, stated, searched=False),), explained=False)
    template = LaunchTemplate.parse(reference.template)
    for candidate in _candidates(template, stated or {}):
        for vcpus, digest in enumerate(candidate.digests_by_vcpus(_vcpu_bound(template)), start=1):
            if digest == measured:
                launched = candidate.with_vcpus(vcpus)
                return Mismatch(tuple(_differences(template, launched, reference.command_line, command_line)), explained=True)
    return Mismatch((_firmware(reference, measured, stated, searched=True),), explained=False)


def _vcpu_bound(template: LaunchTemplate) -> int:
    if template.reset_eip or template.svsm_entry is not None:
        return max(MAX_SEARCHED_VCPUS, template.vcpus)
    return 1


def _candidates(template: LaunchTemplate, stated: Mapping[str, bytes]) -> Iterator[LaunchTemplate]:
    """Variations of `template`, those with fewest changes first."""
    if template.svsm_entry is not None:
        vmms, features = [template.vmm], [template.guest_features]
    else:
        vmms = _first(template.vmm, vmsa.VMMS)
        features = _first(template.guest_features, SEARCHED_FEATURES)
    signatures = _first(template.vcpu_signature, vmsa.VCPU_TYPES.values())
    variations = []
    for hashes, vmm, signature, feature in product(_hash_variants(template, stated), vmms, signatures, features):
        if vmsa.VMMS[vmm].rdx is not None and signature != template.vcpu_signature:
            continue  # this VMM's register state does not depend on the vCPU type
        changes = sum(
            (
                _changed_stages(template.hashes, hashes),
                vmm != template.vmm,
                signature != template.vcpu_signature,
                feature != template.guest_features,
            )
        )
        variations.append((changes, replace(template, hashes=hashes, vmm=vmm, vcpu_signature=signature, guest_features=feature)))
    variations.sort(key=lambda variation: variation[0])
    return (candidate for _, candidate in variations)


def _first(value: T, others: Iterable[T]) -> list[T]:
    return list(dict.fromkeys((value, *others)))


def _hash_variants(template: LaunchTemplate, stated: Mapping[str, bytes]) -> list[KernelHashes | None]:
    """As expected, as stated (what is not stated: as expected), and none at all."""
    variants: list[KernelHashes | None] = [template.hashes]
    expected = template.hashes.components() if template.hashes else {}
    merged = {**expected, **{stage: digest for stage, digest in stated.items() if stage in STAGES and len(digest) == 32}}
    if template.hash_table_gpa is not None and merged.keys() == set(STAGES):
        variants.append(KernelHashes.from_components(merged))
    variants.append(None)
    return list(dict.fromkeys(variants))


def _changed_stages(expected: KernelHashes | None, found: KernelHashes | None) -> int:
    if expected is None or found is None:
        return 0 if expected is found else len(STAGES)
    ours, theirs = expected.components(), found.components()
    return sum(ours[stage] != theirs[stage] for stage in STAGES)


def _differences(expected: LaunchTemplate, found: LaunchTemplate, wanted_line: str | None, stated_line: str | None) -> Iterator[Finding]:
    yield from _stage_differences(expected.hashes, found.hashes, wanted_line, stated_line)
    for code, ours, theirs, remedy in (
        (
            "vcpus",
            str(expected.vcpus),
            str(found.vcpus),
            "Launch with the expected number of vCPUs, or record a reference value for this one.",
        ),
        (
            "vcpu-type",
            _type_name(expected),
            _type_name(found),
            "Launch with the expected vCPU type, or record a reference value for this one.",
        ),
        (
            "guest-features",
            f"{expected.guest_features:#x}",
            f"{found.guest_features:#x}",
            "The host's kernel sets these; record a reference value for its version.",
        ),
        ("vmm", expected.vmm, found.vmm, "Record a reference value for this VMM (`evident measure snp --vmm`)."),
    ):
        if ours != theirs:
            yield Finding(f"launch.{code}", "firmware", f"{code.replace('-', ' ')} {ours}", theirs, remedy)


def _type_name(template: LaunchTemplate) -> str:
    names = [name for name, signature in vmsa.VCPU_TYPES.items() if signature == template.vcpu_signature]
    return f"{template.vcpu_signature:#x}" + (f" ({names[0]})" if names else "")


def _stage_differences(
    expected: KernelHashes | None, found: KernelHashes | None, wanted_line: str | None, stated_line: str | None
) -> Iterator[Finding]:
    if expected is None and found is None:
        return
    if found is None:
        yield Finding(
            "launch.kernel-hashes-absent",
            "boot_chain",
            "kernel, initrd and command line in the launch measurement",
            "the digest of a launch without kernel-hash table: any kernel could have been started",
            "Launch with kernel-hashes=on (QEMU 6.2 or later) and a firmware that checks them.",
        )
        return
    if expected is None:
        yield Finding(
            "launch.kernel-hashes-unexpected",
            "boot_chain",
            "a launch without kernel hashes",
            f"kernel {found.kernel.hex()}",
            "Record a reference value that includes the kernel.",
        )
        return
    ours, theirs = expected.components(), found.components()
    for stage in STAGES:
        if ours[stage] == theirs[stage]:
            continue
        wanted, got = ours[stage].hex(), theirs[stage].hex()
        if stage == "cmdline" and wanted_line is not None and stated_line is not None and command_line_hash(stated_line) == theirs[stage]:
            wanted, got = parameter_difference(wanted_line, stated_line)
        remedy = f"Launch with the expected {_NAMES[stage]}, or record a reference value for this one if the change was yours."
        yield Finding(f"launch.{stage}", "boot_chain", f"{_NAMES[stage]} {wanted}", got, remedy)


def parameter_difference(expected: str, found: str) -> tuple[str, str]:
    """The parameters of two command lines that the other lacks, or both lines where only order or repetition differs."""
    ours, theirs = expected.split(), found.split()
    missing = [parameter for parameter in ours if parameter not in theirs]
    added = [parameter for parameter in theirs if parameter not in ours]
    if not missing and not added:
        return repr(expected), repr(found)
    return " ".join(missing) or "no further parameter", " ".join(added) or "nothing in its place"


def _firmware(reference: ReferenceValue, measured: bytes, stated: Mapping[str, bytes] | None, *, searched: bool) -> Finding:
    unstated = searched and reference.components.keys() & set(STAGES) and not (stated and set(STAGES) <= stated.keys())
    doubt = "; or another kernel, initrd or command line, which nobody stated" if unstated else ""
    return Finding(
        "launch.firmware",
        "firmware",
        f"{reference.description}: {reference.value.hex()}",
        f"{measured.hex()}, which no variation of the expected launch explains: another firmware{doubt}",
        "Measure the firmware that the host really uses (`evident measure snp`), or refuse this host.",
    )
