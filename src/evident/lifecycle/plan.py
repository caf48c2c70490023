"""Before anything is created: where a document would be deployed and why, what would be made, what it could prove, and what is missing.

    made = plan(specification, at=today)
    made.chosen.unmet            empty: `up` may go ahead

Nothing is asked of any cloud, and no SDK is needed: the profiles say what is provable, the outlines what would be made.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from evident.appraisal.prospect import Prospect
from evident.errors import PolicyRefused, UsageError
from evident.lifecycle.place import Place, items, look, otherwise, places
from evident.lifecycle.specification import ANY, Specification, Technology
from evident.lifecycle.unmet import Unmet, unmet
from evident.platforms import registry
from evident.platforms.outline import Item


@dataclass(frozen=True, slots=True)
class Option:
    """One place, weighed."""

    platform: str
    technology: Technology
    simulated: bool
    prospect: Prospect
    trust: tuple[str, ...]
    """Whom one would have to trust there, beside the chip's maker and oneself, for all that is proven."""
    unproven: tuple[str, ...]
    """What it will not prove, in sentences."""
    resources: tuple[Item, ...]
    """Empty where settings are missing that they depend on."""
    unmet: tuple[Unmet, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    chosen: Option
    because: str
    others: tuple[Option, ...]
    """The other places that the document allows."""

    def check(self) -> None:
        """Raises `PolicyRefused` with everything that is unmet."""
        if self.chosen.unmet:
            raise PolicyRefused(*(each.finding for each in self.chosen.unmet))


def plan(specification: Specification, *, at: date, platform: str | None = None, spire: Path | None = None) -> Plan:
    """Weigh every place that the document allows; `platform`, or ``any``, takes the place of the document's own. `spire`: as in
    `Surroundings`.

    Raises `UsageError` ``platform.unknown``, ``plan.nowhere``.
    """
    asked = (platform,) if platform else specification.platforms
    freely, names = ANY in asked, _names(asked)
    known = look(specification, spire)
    everywhere = places(specification, known, at, tuple(registry.OUTLINES))
    allowed = [each for name in names for each in everywhere if each.platform == name and not (freely and each.profile.simulated)]
    if not allowed:
        raise UsageError.of(
            "plan.nowhere",
            expected=f"a platform with technology {specification.technology}",
            found=", ".join(names),
            remedy="Ask for another technology, or another platform.",
        )
    weighed = []
    for each in allowed:
        elsewhere = (*otherwise(specification, each, known, at), *(other for other in everywhere if other is not each))
        weighed.append(_weigh(specification, each, unmet(specification, each, known, elsewhere)))
    best = min(weighed, key=_rank) if freely else _preferred(weighed)
    others = tuple(each for each in weighed if each is not best)
    return Plan(specification.name, best, _because(best, others, freely=freely), others)


def _names(asked: Sequence[str]) -> tuple[str, ...]:
    for name in asked:
        if name != ANY and name not in registry.OUTLINES:
            near = difflib.get_close_matches(name, (*registry.OUTLINES, ANY), n=1, cutoff=0.5)
            raise UsageError.of(
                "platform.unknown",
                expected="a platform among " + ", ".join((*registry.OUTLINES, ANY)),
                found=repr(name),
                remedy=f"Did you mean {near[0]!r}?" if near else "Choose one.",
            )
    if ANY in asked:
        return tuple(registry.OUTLINES)
    return tuple(dict.fromkeys(asked))


def _weigh(specification: Specification, place: Place, missing: tuple[Unmet, ...]) -> Option:
    return Option(
        place.platform,
        place.technology,
        place.simulated,
        place.prospect,
        place.parties,
        tuple(_unproven(specification, place)),
        items(specification, place),
        missing,
    )


def _unproven(specification: Specification, place: Place) -> list[str]:
    said = []
    for each in place.prospect.layers:
        layer = each.layer.replace("_", " ")
        if not each.verifiability:
            said.append(f"the {layer}: {each.because}")
        elif each.needs_provider:
            whom = " and ".join(place.trust.get(each.layer, ())) or place.profile.provider
            said.append(f"the {layer} without the word of {whom}")
    if not place.profile.provisioning_attested.value:
        said.append("what is handed to the machine at its start (user data, metadata)")
    if specification.disks.reopened_by != "key-server":
        said.append(f"the machine when it starts again: its disk opens by its {specification.disks.reopened_by}, and nobody is asked")
    return said


def _rank(option: Option) -> tuple[int, int, int, int, int]:
    """Smaller is better: nothing unmet, hardware, then what is proven without the provider, with it, and how strongly."""
    levels = option.prospect.levels
    degrees = sum(int(each.verifiability) for each in option.prospect.layers)
    return (len(option.unmet), option.simulated, -levels.trustworthy, -levels.nominal, -degrees)


def _preferred(weighed: Sequence[Option]) -> Option:
    """The first platform of the list where nothing is unmet, with its best technology; else the first."""
    first = next((each.platform for each in weighed if not each.unmet), weighed[0].platform)
    return min((each for each in weighed if each.platform == first), key=_rank)


def _because(best: Option, others: Sequence[Option], *, freely: bool) -> str:
    levels = best.prospect.levels
    reached = f"level {levels.nominal} of 4 can be proven there, {levels.trustworthy} without the provider's word"
    if not others:
        return f"the only place asked for: {reached}"
    good = [each for each in others if not each.unmet]
    if best.unmet:
        return (
            f"nowhere that the document allows is every requirement met; {'this comes closest' if freely else 'this is your first choice'}"
        )
    if not freely:
        return f"the first of your choices where every requirement is met: {reached}"
    rest = ", ".join(_short(each) for each in good) or "nowhere else are all requirements met"
    return f"{reached}, more than or as much as anywhere else that meets every requirement ({rest})"


def _short(option: Option) -> str:
    levels = option.prospect.levels
    return f"{option.platform} {option.technology}: {levels.nominal}, {levels.trustworthy}"
