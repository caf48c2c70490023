"""Reference values against what was measured, register by register and bank by bank.

The alternatives for one register in one bank are a set, any one of which may match; the strongest that matches counts. A stronger one that
does not match beside a weaker one that does is an honest mismatch: the degree is what holds, and both digests are shown (AT-60).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evident.appraisal.degrees import YOU
from evident.reference_values.model import ReferenceValue, Strength

if TYPE_CHECKING:  # whoever only asks what a value is worth has no facts to compare it with
    from evident.verification.facts import BootChain, Facts

_PCR = re.compile(r"pcr(0|[1-9][0-9]?)", re.ASCII)
_DIGEST_BYTES = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}


def worth(value: ReferenceValue) -> int:
    """The degree that a matching value gives. What somebody else says to have recomputed or rebuilt is their word (CL-07)."""
    return int(value.strength if value.endorser == YOU else min(value.strength, Strength.ENDORSED))


@dataclass(frozen=True, slots=True)
class RegisterMatch:
    """What the reference values say of one register, or one stage of the boot."""

    register: str
    found: tuple[bytes, ...]
    """What the evidence has: one value of a register, every value of a stage that occurs more than once."""
    matched: ReferenceValue | None
    """The strongest value that matches; None when none does."""
    refuted: tuple[ReferenceValue, ...]
    """Values that do not match: all of them when `matched` is None, else those stronger than `matched`."""

    @property
    def layers(self) -> frozenset[str]:
        if self.matched is not None:
            return frozenset(self.matched.layers)
        return frozenset(layer for value in self.refuted for layer in value.layers)


def measured(facts: Facts, register: str, algorithm: str) -> tuple[bytes, ...]:
    """Authentic values of `register` in `algorithm`; empty when the evidence has none."""
    if register.startswith("stage."):
        return _stage_digests(facts.boot, register.removeprefix("stage."), algorithm)
    if facts.tee is not None and register in facts.tee.registers:
        return (facts.tee.registers[register],)
    if (named := _PCR.fullmatch(register)) and facts.vtpm is not None:
        value = facts.vtpm.pcrs.get(algorithm, {}).get(int(named[1]))
        return () if value is None else (value,)
    if facts.boot is not None and len(facts.boot.registers.get(register, b"")) == _DIGEST_BYTES.get(algorithm):
        return (facts.boot.registers[register],)
    return ()


def _stage_digests(boot: BootChain | None, name: str, algorithm: str) -> tuple[bytes, ...]:
    if boot is None:
        return ()
    return tuple(stage.digest for stage in boot.stages if stage.name == name and stage.algorithm == algorithm)


def match(facts: Facts, references: Iterable[ReferenceValue]) -> tuple[RegisterMatch, ...]:
    """One `RegisterMatch` per register, and bank of it, that has reference values and that the evidence has.

    Values of two banks are no alternatives: each bank has to match, or a collision in the weaker one would do.
    """
    alternatives: dict[tuple[str, str], list[ReferenceValue]] = {}
    for reference in references:
        if measured(facts, reference.register, reference.algorithm):
            one_bank = facts.tee is not None and reference.register in facts.tee.registers
            alternatives.setdefault((reference.register, "" if one_bank else reference.algorithm), []).append(reference)
    return tuple(_match_register(facts, register, values) for (register, _), values in alternatives.items())


def _match_register(facts: Facts, register: str, values: list[ReferenceValue]) -> RegisterMatch:
    found = measured(facts, register, values[0].algorithm)
    accepted = {digest: [value for value in values if value.value == digest] for digest in found}
    if not all(accepted.values()):  # a stage that occurs twice must match twice
        return RegisterMatch(register, found, None, tuple(values))
    best = [max(candidates, key=lambda value: (worth(value), value.endorser == YOU)) for candidates in accepted.values()]
    matched = min(best, key=worth)
    stronger = tuple(value for value in values if worth(value) > worth(matched) and value.value not in found)
    return RegisterMatch(register, found, matched, stronger)
