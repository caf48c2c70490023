"""The two folds over the layers: nominal and trustworthy attestation level (Scopelliti et al., SysTEX 2024, section 5).

One set of functions serves real evidence and a platform's profile, so what `explain` promises before a deployment and what
a statement says after it cannot come from different rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from evident.appraisal.degrees import LEVEL_LAYERS, Levels, Verifiability

Carrier = Literal["tee", "vtpm", "none"]
Symbol = Literal["●", "◐", "○"]

SYMBOL_WORDS: Mapping[str, str] = MappingProxyType(
    {"●": "verifiable without trusting the provider", "◐": "verifiable, trusting the provider", "○": "not verifiable"}
)


@dataclass(frozen=True, slots=True)
class Basis:
    """Everything that the folds read."""

    fresh: bool
    """A vendor-signed report carries the verifier's own challenge."""
    degrees: Mapping[str, int]
    """Layer of `LEVEL_LAYERS` to its own degree of verifiability (0-4)."""
    carriers: Mapping[str, Carrier]
    """Layer to what measured it; what is not named was measured by the TEE."""
    vtpm_location: str = "none"
    """``hypervisor``, ``host``, ``paravisor``, ``svsm``, ``chip``, ``unknown``, ``none``."""
    vtpm_anchored: bool = False
    """The vTPM's key is bound by the TEE's report, and its code is in the launch measurement."""


def settle(degrees: Mapping[str, int]) -> dict[str, int]:
    """Monotone: nothing above a layer that does not hold is worth anything (TB-18, AL-11)."""
    settled: dict[str, int] = {}
    holds = True
    for layer in LEVEL_LAYERS:
        holds = holds and degrees.get(layer, 0) >= Verifiability.LINK
        settled[layer] = degrees.get(layer, 0) if holds else 0
    return settled


def needs_provider(basis: Basis) -> dict[str, bool]:
    """Layer to: could the infrastructure provider alone make it lie unnoticed? Also says it of the ``vtpm``.

    A root of trust that is not fresh could be a replay. Any other layer stands without the provider only when its value was
    recomputed from a binary that the verifier holds, or from source, and what measured and carried it stands without it too.
    """
    needs = {"root_of_trust": not basis.fresh or basis.degrees.get("root_of_trust", 0) < Verifiability.LINK}
    needs["firmware"] = needs["root_of_trust"] or basis.degrees.get("firmware", 0) < Verifiability.BINARY
    inside = basis.vtpm_location in ("paravisor", "svsm") and basis.vtpm_anchored
    needs["vtpm"] = needs["firmware"] or not inside
    below = "firmware"
    for layer in LEVEL_LAYERS[2:]:
        carrier = basis.carriers.get(layer, "tee")
        carried = carrier == "none" or (carrier == "vtpm" and needs["vtpm"])
        needs[layer] = needs[below] or carried or basis.degrees.get(layer, 0) < Verifiability.BINARY
        below = layer
    return needs


def levels(degrees: Mapping[str, int], needs: Mapping[str, bool]) -> Levels:
    """The highest level whose layers up to it all hold, with and without the provider; 0 when not even the first does."""
    nominal = trustworthy = 0
    for number, layer in enumerate(LEVEL_LAYERS, start=1):
        if degrees.get(layer, 0) < Verifiability.LINK:
            break
        nominal = number
        if trustworthy == number - 1 and not needs[layer]:
            trustworthy = number
    return Levels(nominal, trustworthy)


def symbol(degree: int, provider_needed: bool) -> Symbol:
    """The paper's three symbols; `SYMBOL_WORDS` says them."""
    if degree < Verifiability.LINK:
        return "○"
    return "◐" if provider_needed else "●"
