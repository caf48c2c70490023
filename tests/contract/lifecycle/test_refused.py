"""A machine that is refused, on every cloud: kept without secrets or destroyed, as its document says, and its end is on record."""

from __future__ import annotations

import os
from typing import Any

import pytest

from evident.audit import farewell, keys
from evident.errors import PolicyRefused
from evident.lifecycle.journal import State


def said(life: Any, number: int = 1) -> farewell.Farewell:
    path = life.deployment().directory / f"farewell-{number}.json"
    return farewell.open_farewell(path.read_bytes(), [keys.load_or_create(life.home / "state", os.urandom).public]).farewell


def turn(life: Any) -> None:
    """Something else boots than the image."""
    for value in life.deployment().references.values:
        if value.register.startswith("pcr"):
            life.machine.tpm.set_pcr(value.algorithm, int(value.register.removeprefix("pcr")), bytes(len(value.value)))


def test_it_is_destroyed_where_the_document_says_so(life: Any) -> None:
    life.write(on_refusal="destroy")
    target = life.up()
    turn(life)
    answer = life.attest()
    assert answer.outcome.decision == "refused"
    assert (target.journal.state, life.cloud.live()) == (State.DESTROYED, [])
    found = said(life)
    assert (found.surveyed, found.platform, found.last.decision) == (True, life.platform, "refused")
    assert any(each.startswith(("instance ", "machine ")) for each in found.destroyed), found.destroyed
    assert any("destroyed, as specified" in each for each in life.said)


def test_it_is_kept_otherwise_and_is_not_taken_for_done(life: Any) -> None:
    target = life.up()
    turn(life)
    assert life.statement().decision == "refused"
    assert target.journal.state is State.QUARANTINED
    before = life.cloud.live()
    assert before
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        life.up()
    assert life.cloud.live() == before
    life.machine.boot(target.references)
    assert life.statement().decision == "accepted"


def test_a_crash_while_it_is_destroyed_is_finished_by_the_next_command(life: Any) -> None:
    life.write(on_refusal="destroy")
    target = life.up()
    turn(life)
    life.cloud.dies_at(9)
    assert not life.cloud.survives(life.attest)
    life.cloud.dies_at(None)
    assert target.journal.state in (State.QUARANTINED, State.DESTROYING)
    life.up()
    assert [path.name for path in target.directory.glob("farewell-*")] == ["farewell-1.json"]
    assert said(life).surveyed
    assert target.journal.state is State.LAUNCHED, "another machine of the same document"
