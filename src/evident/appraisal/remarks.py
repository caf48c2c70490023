"""What a rule leaves behind: a finding, and whether it refuses or leaves the decision open."""

from __future__ import annotations

from dataclasses import dataclass

from evident.errors import Finding


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding with its weight: a refusal outweighs any number of open points."""

    finding: Finding
    refuses: bool


def refusal(code: str, layer: str, *, expected: str, found: str, remedy: str) -> Remark:
    """Something that was looked at and is wrong."""
    return Remark(Finding(code, layer, expected, found, remedy), refuses=True)


def open_point(code: str, layer: str, *, expected: str, found: str, remedy: str) -> Remark:
    """Something that could not be looked at: missing or stale."""
    return Remark(Finding(code, layer, expected, found, remedy), refuses=False)
