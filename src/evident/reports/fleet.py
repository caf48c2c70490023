"""All deployments on one screen: who is well, who is not and why, how old each answer is, what drifted, whom each still trusts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evident import codec
from evident.appraisal.degrees import Levels
from evident.errors import Finding
from evident.reports import html
from evident.reports.text import STYLE, WIDTH, banner, heading, printed
from evident.reports.view import SOME_SIMULATED, Tone, clean


class Standing(StrEnum):
    """How a deployment stands; each but the first, and the last two, asks something of its owner."""

    WELL = "well"
    """Its last answer was accepted, and is not overdue."""
    OVERDUE = "overdue"
    """Its last answer was accepted, and a newer one should be there."""
    NEVER = "never attested"
    UNDECIDED = "undecided"
    UNFINISHED = "unfinished"
    """A command that changes it was cut short."""
    REFUSED = "refused"
    """In quarantine."""
    DAMAGED = "damaged"
    """What is on record of it cannot be read, or is not what was recorded."""
    REVOKED = "revoked"
    DESTROYED = "destroyed"


_TONES: Mapping[Standing, Tone] = MappingProxyType({Standing.WELL: "good", Standing.REFUSED: "bad", Standing.DAMAGED: "bad"})
OVER = frozenset({Standing.REVOKED, Standing.DESTROYED})
"""Ended by its owner: it asks for nothing more."""


@dataclass(frozen=True, slots=True)
class Member:
    """One deployment."""

    name: str
    platform: str
    standing: Standing
    because: str
    """Why it stands so, in a sentence."""
    todo: str
    """What its owner should do; empty when nothing."""
    decision: str = ""
    """Of the last answer; empty before there was any."""
    findings: tuple[Finding, ...] = ()
    """Of the last answer, or of what is damaged."""
    simulated: bool = False
    levels: Levels | None = None
    """Of the last answer; None before there was any."""
    answered: datetime | None = None
    age_seconds: int | None = None
    interval_seconds: int | None = None
    """How often it has to answer."""
    compared_with: datetime | None = None
    """The answer before, against which `drift` is said; None where there is none."""
    drift: tuple[str, ...] = ()
    trusts: tuple[str, ...] = ()
    """Parties, by the names that ``accepted_trust`` uses."""
    residual: tuple[str, ...] = ()
    """What they could do without being noticed, in words."""
    bundle: str = ""
    """Path of the last answer's bundle."""

    @property
    def tone(self) -> Tone:
        return _TONES.get(self.standing, "unsure")


@dataclass(frozen=True, slots=True)
class Fleet:
    at: datetime
    members: tuple[Member, ...]

    @property
    def asked(self) -> tuple[Member, ...]:
        """Those that are not over."""
        return tuple(member for member in self.members if member.standing not in OVER)

    @property
    def well(self) -> bool:
        return all(member.standing is Standing.WELL for member in self.asked)

    @property
    def headline(self) -> str:
        if not self.asked:
            return "No deployments."
        good = sum(member.standing is Standing.WELL for member in self.asked)
        if self.well:
            return f"All {good} are well." if good > 1 else "The one deployment is well."
        return f"{good} of {len(self.asked)} are well."


def document(fleet: Fleet) -> dict[str, Any]:
    """The JSON form."""
    return {"at": codec.format_time(fleet.at), "well": fleet.well, "deployments": [codec.encode(member) for member in fleet.members]}


def render_html(fleet: Fleet) -> str:
    """The page."""
    own = {"heading": f"{fleet.at:%Y-%m-%d %H:%M} UTC", "level": _levels, "freshness": _freshness, "some_simulated": SOME_SIMULATED}
    return html.page("fleet.html.j2", fleet=fleet, **own)


def render_text(fleet: Fleet, *, width: int = WIDTH, color: bool = False) -> str:
    """For people, in lines of at most `width` columns."""
    return printed(_parts(fleet), width=width, color=color)


def duration(seconds: float) -> str:
    """In the largest unit that leaves two figures at most, or days: ``90 s``, ``45 min``, ``20 h``, ``12 days``."""
    for size, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"


def _parts(fleet: Fleet) -> Iterator[RenderableType]:
    if any(member.simulated for member in fleet.members):
        yield banner(SOME_SIMULATED)
    yield Text.assemble((fleet.headline, f"bold {STYLE['good' if fleet.well else 'bad']}"), f"  {fleet.at:%Y-%m-%d %H:%M} UTC")
    if not fleet.members:
        yield Text("`evident up` creates one.")
        return
    yield Padding(_table(fleet.members), (1, 0, 0, 0))
    needy = [member for member in fleet.asked if member.standing is not Standing.WELL]
    if needy:
        yield heading("What needs you")
        for member in needy:
            yield Text.assemble((f"{clean(member.name)}: ", "bold"), clean(member.because))
            yield Padding(Text(clean(member.todo)), (0, 0, 0, 3))
    drifted = [member for member in fleet.members if member.drift]
    if drifted:
        yield heading("Drift since the answer before")
        for member in drifted:
            before = f" ({member.compared_with:%Y-%m-%d %H:%M} UTC)" if member.compared_with else ""
            yield Text.assemble((clean(member.name), "bold"), before)
            for change in member.drift:
                yield Padding(Text(clean(change)), (0, 0, 0, 3))


def _table(members: tuple[Member, ...]) -> Table:
    table = Table(box=box.HORIZONTALS, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, expand=True, show_lines=True)
    for title, ratio in (("Deployment", 15), ("Standing", 11), ("Proven", 17), ("Last answer", 17), ("Still trusted", 20)):
        table.add_column(title, ratio=ratio, overflow="fold")
    for member in members:
        name = Text.assemble((clean(member.name), "bold"), f"\non {clean(member.platform)}")
        standing = Text(str(member.standing), style=f"bold {STYLE[member.tone]}")
        if member.simulated:
            standing.append("\nSIMULATED", style="bold magenta")
        table.add_row(name, standing, _levels(member), _freshness(member), clean(", ".join(member.trusts)) or "nobody is named")
    return table


def _levels(member: Member) -> str:
    if member.levels is None:
        return "nothing"
    return f"level {member.levels.nominal} of 4, level {member.levels.trustworthy} without the provider"


def _freshness(member: Member) -> str:
    if member.age_seconds is None:
        return "none"
    due = f", due every {duration(member.interval_seconds)}" if member.interval_seconds else ""
    drift = "" if member.compared_with is None else "; nothing drifted" if not member.drift else f"; {len(member.drift)} drifted"
    return f"{duration(member.age_seconds)} ago{due}{drift}"
