"""The journal survives a crash at every byte, and never says what did not happen."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evident import files
from evident.errors import Malformed, UsageError
from evident.lifecycle.journal import NEXT, Event, Journal, State

AT = datetime(2026, 6, 2, tzinfo=UTC)
LIFE = (State.PLANNED, State.LAUNCHED, State.ATTESTED, State.REFUSED, State.ATTESTED, State.DESTROYING, State.DESTROYED, State.PLANNED)


def events(states: tuple[State, ...] = LIFE) -> tuple[Event, ...]:
    return tuple(Event(AT + timedelta(seconds=index), state, {"n": str(index)}) for index, state in enumerate(states))


def written(path: Path, states: tuple[State, ...] = LIFE) -> Journal:
    journal = Journal(path)
    for event in events(states):
        journal.append(event)
    return journal


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    journal = written(tmp_path / "new" / "journal.jsonl")
    assert journal.events() == events()
    assert journal.state is State.PLANNED
    assert journal.path.stat().st_mode & 0o777 == 0o600


def test_no_journal_is_no_events(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert (journal.events(), journal.state) == ((), None)


def test_a_crash_at_every_byte_loses_at_most_the_last_event(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole", LIFE[:3]).path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(whole) + 1):
        path = tmp_path / f"torn-{cut}"
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert Journal(path).events() == events()[:complete]
        follower = Event(AT, sorted(NEXT[LIFE[complete - 1] if complete else None])[0])
        Journal(path).append(follower)
        assert Journal(path).events() == (*events()[:complete], follower)
        assert path.read_bytes().startswith(b"".join(lines[:complete]))


def test_a_journal_beyond_all_bounds_is_not_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = written(tmp_path / "journal.jsonl", LIFE[:3])
    monkeypatch.setattr(files, "MAX_JOURNAL_BYTES", journal.path.stat().st_size - 1)
    with pytest.raises(UsageError) as refused:
        journal.events()
    assert refused.value.code == "journal.unusable"


def test_only_what_may_follow_is_written(tmp_path: Path) -> None:
    ways: dict[State | None, tuple[State, ...]] = {None: ()}
    while len(ways) < len(State) + 1:
        for known in list(ways):
            for following in NEXT[known]:
                ways.setdefault(following, (*ways[known], following))
    for number, (state, following) in enumerate(itertools.product(ways, State)):
        journal = written(tmp_path / str(number), ways[state])
        event = Event(AT, following)
        if following in NEXT[state]:
            journal.append(event)
            assert journal.state is following
            continue
        with pytest.raises(UsageError, match=r"deployment\.state"):
            journal.append(event)
        assert journal.events() == events(ways[state])


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [b"\n", *lines],
        lambda lines: [lines[0], b"{}\n", *lines[1:]],
        lambda lines: [lines[0], b"\x00\x00\n", *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[0].replace(b"planned", b"plotted"), *lines[1:]],
        lambda lines: [lines[0].replace(b'"at"', b'"at": "2026-06-02T00:00:00Z", "at"'), *lines[1:]],
    ],
)
def test_damage_is_said_so(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = written(tmp_path / "journal").path
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(Malformed, match=r"journal\.damaged"):
        Journal(path).events()
    with pytest.raises(Malformed, match=r"journal\.damaged"):
        Journal(path).append(Event(AT, State.DESTROYING))


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    for act in (Journal(tmp_path / "journal").events, lambda: Journal(tmp_path / "journal").append(Event(AT, State.PLANNED))):
        with pytest.raises(UsageError, match=r"journal\.unusable"):
            act()


def test_writers_take_turns(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal", (State.PLANNED, State.LAUNCHED))

    def write() -> None:
        for _ in range(20):
            Journal(journal.path).append(Event(AT, State.ATTESTED))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.events()) == 2 + 80
