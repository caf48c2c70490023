"""Die at any moment of creating and removing: nothing is lost track of, nothing is made twice, nothing is left.

A moment is: before a call is sent, after it is carried out and before its answer is seen, before, in the middle of and after every
write of the journal.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from evident.platforms.aws.executor import Aws
from evident.platforms.resources import TAG_KEY, Stage

OWN = ("instance", "image", "snapshot", "security-group")


@pytest.fixture(autouse=True)
def _process_crashes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote outlives it without fsync; only the machine's own crash needs that, and it costs most of the time here."""

    def nothing(_: int) -> None:
        return None

    monkeypatch.setattr("os.fsync", nothing)


def keys(each: dict[str, Any]) -> list[str]:
    return [tag["Value"] for tag in each["tags"] if tag["Key"] == TAG_KEY]


def nothing_lost_or_doubled(owner: Any, fake: Any) -> None:
    """What exists carries a key of the journal; no key ever made two things of one kind; of each kind there is one."""
    written = {resource.key for resource in owner.journal().resources()}
    for each in fake.live():
        assert len(keys(each)) == 1
        assert set(keys(each)) <= written, each
    assert max(Counter((each["kind"], *keys(each)) for each in fake.objects.values()).values(), default=0) <= 1
    assert all(len(fake.live(kind)) <= 1 for kind in OWN)


def live_a_life(owner: Any, fake: Any, chance: random.Random, first: int) -> None:
    """Die at moment `first` of up and down, then a few times more anywhere; at last live."""
    fake.dies_at(first)
    assert not fake.survives(lambda: (owner.up(), owner.down()))
    nothing_lost_or_doubled(owner, fake)
    for _ in range(chance.randrange(3)):
        fake.time.now += chance.choice((0.0, 5.0, 3600.0))
        fake.dies_at(chance.randrange(1, 120))
        fake.survives(chance.choice((owner.up, owner.down)))
        nothing_lost_or_doubled(owner, fake)
    fake.dies_at(None)
    if chance.random() < 0.5:
        owner.up()
        assert [len(fake.live(kind)) for kind in OWN] == [1, 1, 1, 1]
        nothing_lost_or_doubled(owner, fake)
    owner.down()
    assert fake.live() == []
    assert {resource.stage for resource in owner.journal().resources()} <= {Stage.GONE}


@pytest.mark.slow
def test_200_random_moments(world: Any) -> None:
    owner, fake = world()
    fake.dies_at(None)
    owner.up()
    owner.down()
    total = fake.steps
    assert total > 150
    chance = random.Random(20261122)
    for _ in range(200):
        live_a_life(*world(), chance, chance.randrange(1, total + 1))


def test_without_tags_a_lost_answer_is_a_lost_machine(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: the same deaths, and things stay that nobody knows of."""

    def nothing(*_: object) -> tuple[()]:
        return ()

    left = 0
    for moment in range(1, 120, 2):
        owner, fake = world()
        fake.dies_at(moment)
        fake.survives(owner.up)
        fake.dies_at(None)
        with monkeypatch.context() as patched:
            patched.setattr(Aws, "find", nothing)
            owner.down()
        left += bool(fake.live())
    assert left


def test_without_a_line_before_the_call_things_are_made_twice(world: Any) -> None:
    """The check off: whoever has not written the key down asks with another one after the crash."""
    doubled = 0
    for moment in range(1, 120, 2):
        owner, fake = world()
        fake.dies_at(moment)
        fake.survives(owner.up)
        lines = owner.path.read_bytes().splitlines(keepends=True) if owner.path.exists() else []
        if lines and b'"stage": "asked"' in lines[-1]:
            owner.path.write_bytes(b"".join(lines[:-1]))
        fake.dies_at(None)
        owner.up()
        doubled += any(len(fake.live(kind)) > 1 for kind in OWN)
    assert doubled
