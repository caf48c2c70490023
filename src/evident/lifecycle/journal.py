"""What happened to a deployment, in order: one JSON line per event, on disk before the next thing is done.

A line counts once its newline is there. A crash in the middle of a write leaves a torn last line: it is not read, and the next
write removes it. Anything else that cannot be read is damage, and said so.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from evident import codec
from evident.errors import Malformed, UsageError

MAX_JOURNAL_BYTES = 64 * 1024 * 1024


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
    """Its last answer was refused: give it no secrets."""
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


_ANSWERED = frozenset({State.ATTESTED, State.UNDECIDED, State.REFUSED})
NEXT: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.PLANNED}),
    State.PLANNED: frozenset({State.PLANNED, State.LAUNCHED, State.DESTROYING}),
    State.LAUNCHED: _ANSWERED | {State.DESTROYING},
    **{state: _ANSWERED | {State.DESTROYING} for state in _ANSWERED},
    State.DESTROYING: frozenset({State.DESTROYING, State.DESTROYED}),
    State.DESTROYED: frozenset({State.PLANNED}),
}
"""State to the states that may follow; PLANNED and DESTROYING may be entered again after a crash."""


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    state: State
    detail: Mapping[str, str] = field(default_factory=dict)


class Journal:
    """The journal at `path`; made with its first event."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self) -> tuple[Event, ...]:
        """Every event, oldest first. Raises `Malformed` ``journal.damaged``."""
        try:
            with self.path.open("rb") as stream:
                data = stream.read(MAX_JOURNAL_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unusable(error) from None
        events: list[Event] = []
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
            try:
                event = codec.decode(Event, codec.loads(line, "journal"), "journal")
            except Malformed as error:
                raise self._damaged(number, error.findings[0].found) from None
            if event.state not in NEXT[events[-1].state if events else None]:
                raise self._damaged(number, f"{event.state} after {events[-1].state if events else 'nothing'}")
            events.append(event)
        return tuple(events)

    @property
    def state(self) -> State | None:
        """The last event's state; None before the first."""
        events = self.events()
        return events[-1].state if events else None

    def append(self, event: Event) -> None:
        """Add `event`; it is on disk when this returns. Raises `UsageError` ``deployment.state`` when it may not follow."""
        with self._locked() as descriptor:
            last = self.state
            if event.state not in NEXT[last]:
                raise UsageError.of(
                    "deployment.state",
                    expected="one of: " + (", ".join(sorted(NEXT[last])) or "nothing more"),
                    found=f"{event.state} while the deployment is {last or 'not there'}",
                    remedy="Look at `evident status`; create it first, or destroy it before creating it anew.",
                )
            data = self.path.read_bytes()
            os.ftruncate(descriptor, data.rfind(b"\n") + 1)  # a torn last line
            line = json.dumps(codec.encode(event), sort_keys=True).encode() + b"\n"
            if os.write(descriptor, line) != len(line):
                raise self._unusable(OSError(0, "the line was not written whole"))
            os.fsync(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The journal open for appending, by one process at a time."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)
            self._sync_directory()
        except OSError as error:
            raise self._unusable(error) from None

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _damaged(self, line: int, found: str) -> Malformed:
        return Malformed.of(
            "journal.damaged",
            expected=f"an event that may stand in line {line} of {self.path}",
            found=found,
            remedy="Restore the file from a backup; until then look after the machine by the platform's own means.",
        )

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError.of(
            "journal.unusable",
            expected=f"a journal that can be read and written at {self.path}",
            found=error.strerror or type(error).__name__,
            remedy="Check permissions and free space, or point EVIDENT_HOME elsewhere.",
        )
