"""What happened to a deployment, in order: one JSON line per event, on disk before the next thing is done.

What a crash in the middle of a write leaves is not read (`evident.files.Lines`). Anything else that cannot be read is damage, and
said so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from evident import codec
from evident.errors import Malformed, UsageError
from evident.files import Lines


class State(StrEnum):
    """Where a deployment is in its life."""

    PLANNED = "planned"
    """Ordered; whether anything was made is not known until it is launched or destroyed."""
    LAUNCHED = "launched"
    ATTESTED = "attested"
    """Its last answer was accepted."""
    UNDECIDED = "undecided"
    """Its last answer could not be decided on."""
    REFUSED = "refused"
    """Its last answer was refused; it is about to be quarantined."""
    QUARANTINED = "quarantined"
    """Its answer was refused, and it gets no secrets until it attests again; whether it is kept or destroyed stands beside it."""
    UPDATING = "updating"
    """Another machine is being made beside it; the number of that, and for how long both are to be accepted, stand beside it."""
    KEPT = "kept"
    """An update was given up: the machine before it stays in charge. Why stands beside it."""
    REVOKED = "revoked"
    """Nothing of it is accepted any more."""
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


_RUNS = frozenset({State.ATTESTED, State.UNDECIDED, State.REFUSED, State.QUARANTINED, State.UPDATING, State.REVOKED, State.DESTROYING})
_UPDATED = frozenset({State.LAUNCHED, State.KEPT})
"""How an update ends. Until then the machine before it answers on."""
NEXT: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.PLANNED}),
    State.PLANNED: frozenset({State.PLANNED, State.LAUNCHED, State.DESTROYING}),
    **dict.fromkeys(_UPDATED, _RUNS),
    **dict.fromkeys((State.ATTESTED, State.UNDECIDED, State.REFUSED, State.QUARANTINED, State.UPDATING), _RUNS | _UPDATED),
    State.REVOKED: frozenset({State.REVOKED, State.DESTROYING}),
    State.DESTROYING: frozenset({State.DESTROYING, State.DESTROYED}),
    State.DESTROYED: frozenset({State.PLANNED}),
}
"""State to the states that may follow; PLANNED, QUARANTINED, UPDATING, REVOKED and DESTROYING may be entered again after a crash."""


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    state: State
    detail: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """The journal at `path`; made with its first event."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = Lines(path)

    def events(self) -> tuple[Event, ...]:
        """Every event, oldest first. Raises `Malformed` ``journal.damaged``."""
        events: list[Event] = []
        for number, line in enumerate(self._lines.read(), start=1):
            try:
                event = codec.decode(Event, codec.loads(line, "journal"), "journal")
            except Malformed as error:
                raise self._lines.damaged(number, error.findings[0].found) from None
            if event.state not in NEXT[events[-1].state if events else None]:
                raise self._lines.damaged(number, f"{event.state} after {events[-1].state if events else 'nothing'}")
            events.append(event)
        return tuple(events)

    @property
    def state(self) -> State | None:
        """The last event's state; None before the first."""
        events = self.events()
        return events[-1].state if events else None

    def append(self, event: Event) -> None:
        """Add `event`; it is on disk when this returns. Raises `UsageError` ``deployment.state`` when it may not follow."""
        with self._lines.appending() as add:
            last = self.state
            if event.state not in NEXT[last]:
                raise UsageError.of(
                    "deployment.state",
                    expected="one of: " + (", ".join(sorted(NEXT[last])) or "nothing more"),
                    found=f"{event.state} while the deployment is {last or 'not there'}",
                    remedy="Look at `evident status`; create it first, or destroy it before creating it anew.",
                )
            add(codec.encode(event))
