"""Which machine is in charge, being made or replaced: what the journal's lines say, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evident.errors import Malformed
from evident.lifecycle.generations import Coming, Generations, read
from evident.lifecycle.journal import Event, State
from evident.platforms.driver import whose

AT = datetime(2026, 6, 2, tzinfo=UTC)
UNTIL = "2026-06-02T01:00:00Z"
FIRST = (Event(AT, State.PLANNED), Event(AT, State.LAUNCHED))
BEGUN = Event(AT, State.UPDATING, {"generation": "2", "window": "3600"})
TAKEN_OVER = Event(AT, State.LAUNCHED, {"generation": "2", "until": UNTIL})


def after(*events: Event) -> Generations:
    return read((*FIRST, *events))


def test_the_first_machine_is_in_charge_until_another_takes_over() -> None:
    for events in ((), FIRST[:1], FIRST):
        assert (read(events).charge, read(events).coming, read(events).replaced) == (1, None, {})
    assert (after(BEGUN).charge, after(BEGUN).coming) == (1, Coming(2, timedelta(hours=1)))
    assert (after(BEGUN, TAKEN_OVER).charge, after(BEGUN, TAKEN_OVER).coming) == (2, None)
    assert after(BEGUN, TAKEN_OVER).replaced == {1: AT + timedelta(hours=1)}


@pytest.mark.parametrize("end", [State.KEPT, State.REVOKED, State.DESTROYING])
def test_an_update_that_was_ended_makes_nothing_more(end: State) -> None:
    found = after(BEGUN, Event(AT, end))
    assert (found.charge, found.coming, found.replaced) == (1, None, {})


def test_answers_in_between_are_those_of_the_machine_in_charge() -> None:
    before, during, later = (Event(AT, State.ATTESTED, {"n": str(number)}) for number in range(3))
    found = after(before, BEGUN, during, TAKEN_OVER, later)
    assert [event.detail["n"] for event in found.events[1] if event.state is State.ATTESTED] == ["0", "1"]
    assert found.events[2] == (TAKEN_OVER, later)


def test_another_life_begins_with_the_first_machine() -> None:
    over = (Event(AT, State.DESTROYING), Event(AT, State.DESTROYED))
    found = after(BEGUN, TAKEN_OVER, *over, *FIRST)
    assert (found.charge, found.replaced, found.events) == (1, {}, {1: (FIRST[1],)})


@pytest.mark.parametrize(
    "event",
    [
        Event(AT, State.UPDATING, {"generation": "two"}),
        Event(AT, State.UPDATING, {"window": "-1"}),
        Event(AT, State.LAUNCHED, {"generation": "2"}),
        Event(AT, State.LAUNCHED, {"generation": "2", "until": "soon"}),
    ],
)
def test_what_cannot_be_read_is_damage(event: Event) -> None:
    with pytest.raises(Malformed):
        after(event)


def test_a_machines_directory_says_whose_it_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("deployments")
    assert whose(root / "shop" / "machine") == ("shop", 1)
    assert whose(root / "shop" / "generation_12" / "machine") == ("shop", 12)
    assert whose(root / "generation" / "machine") == ("generation", 1)
