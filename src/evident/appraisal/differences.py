"""A launch measurement that no reference value equals: which component differs, and which layers still stand all the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from evident.appraisal.cmdline import without_root_hash
from evident.appraisal.matching import worth
from evident.errors import Finding
from evident.reference_values.mismatch import explain_mismatch
from evident.reference_values.model import ReferenceValue
from evident.reference_values.snp_reference import verity_root_hash
from evident.verification.facts import StatedLaunch

MAX_EXPLAINED = 4
"""Reference values that are varied in search of an explanation: the search costs thousands of hashes for each."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The nearest reference value, and what is wrong against it."""

    reference: ReferenceValue
    findings: tuple[Finding, ...]
    explained: bool
    """True when the findings are proved by reproducing the measurement; only then can a layer be spared."""

    def spares(self, layer: str) -> bool:
        return self.explained and layer in self.reference.layers and all(finding.layer != layer for finding in self.findings)


def nearest(references: Iterable[ReferenceValue], found: bytes, stated: StatedLaunch | None) -> Difference | None:
    """The reference value that explains `found` with the fewest differences; None without any reference value."""
    candidates = sorted(references, key=lambda value: (not value.template, -worth(value)))[:MAX_EXPLAINED]
    differences = [_difference(candidate, found, stated) for candidate in candidates]
    return min(differences, key=lambda difference: (not difference.explained, len(difference.findings)), default=None)


def _difference(reference: ReferenceValue, found: bytes, stated: StatedLaunch | None) -> Difference:
    components = stated.components if stated else None
    command_line = stated.command_line if stated else None
    mismatch = explain_mismatch(reference, found, components, command_line)
    findings = mismatch.findings
    if mismatch.explained and _only_root_hash(findings, reference.command_line, command_line):
        findings = tuple(_as_root_hash(finding) for finding in findings)
    return Difference(reference, findings, mismatch.explained)


def _only_root_hash(findings: tuple[Finding, ...], expected: str | None, found: str | None) -> bool:
    """Do the two command lines differ in nothing but the file system that they name?"""
    if expected is None or found is None or [finding.code for finding in findings] != ["launch.cmdline"]:
        return False
    named = verity_root_hash(expected), verity_root_hash(found)
    return None not in named and without_root_hash(expected) == without_root_hash(found)


def _as_root_hash(finding: Finding) -> Finding:
    return replace(
        finding,
        code="launch.root-hash",
        layer="root_filesystem",
        remedy="Boot the expected root file system, or record a reference value for this one if the change was yours.",
    )
