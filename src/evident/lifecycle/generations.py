"""Which machines a deployment has, by its journal alone: one in charge, perhaps one that an update makes beside it, and those replaced.

Machines are numbered from 1 in each life of a deployment. An update records UPDATING with the number of the machine that it makes. The line
that says LAUNCHED with that number puts it in charge, all at once; the line that says KEPT leaves everything with the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from evident import codec
from evident.errors import Malformed
from evident.lifecycle.journal import Event, State


@dataclass(frozen=True, slots=True)
class Coming:
    """A machine that an update is making, until it is accepted or given up."""

    number: int
    window: timedelta
    """For how long the machine before it is accepted beside it."""


@dataclass(frozen=True, slots=True)
class Generations:
    charge: int
    """Number of the machine that answers for the deployment."""
    coming: Coming | None
    replaced: Mapping[int, datetime]
    """Number of each machine before it, and until when that is accepted too."""
    events: Mapping[int, tuple[Event, ...]]
    """Number to what happened while that machine was in charge, its launch first."""


def read(events: Iterable[Event]) -> Generations:
    """Of the life that `events`, a whole journal, end in. Raises `Malformed` where what stands beside an event cannot be read."""
    charge, coming = 1, None
    replaced: dict[int, datetime] = {}
    told: dict[int, list[Event]] = {1: []}
    for event in events:
        if event.state is State.PLANNED:
            charge, coming, replaced, told = 1, None, {}, {1: []}
        elif event.state is State.UPDATING:
            coming = Coming(_number(event, "generation", charge + 1), timedelta(seconds=_number(event, "window", 0)))
        elif event.state is State.LAUNCHED:
            following = _number(event, "generation", charge)
            if following != charge:
                replaced[charge] = codec.decode(datetime, event.detail.get("until"), "journal")
            charge, coming, told[following] = following, None, []
        elif event.state in (State.KEPT, State.REVOKED, State.DESTROYING):
            coming = None
        told[charge].append(event)
    return Generations(charge, coming, replaced, {number: tuple(of) for number, of in told.items()})


def _number(event: Event, name: str, otherwise: int) -> int:
    text = event.detail.get(name, str(otherwise))
    if not text.isascii() or not text.isdecimal():
        raise Malformed.of("journal.damaged", expected=f"{name}: a number", found=repr(text), remedy="Restore the journal from a backup.")
    return int(text)
