"""Die at any moment of creating and removing: nothing is lost track of, nothing is made twice, nothing is left.

A moment is: before a request is sent, after it is carried out and before its answer is seen, before, in the middle of and after every
write of the journal. The requests are the real SDK's; only the socket is left out.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from evident.platforms.gcp.executor import Gcp
from evident.platforms.resources import Stage

OWN = ("instance", "image", "bucket", "network", "subnetwork")
KEPT = ("instance", "image", "network", "subnetwork")
LIVES, PARTS = 200, 10


@pytest.fixture(autouse=True)
def _process_crashes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote outlives it without fsync; only the machine's own crash needs that, and it costs much of the time here."""

    def nothing(_: int) -> None:
        return None

    monkeypatch.setattr("os.fsync", nothing)


def nothing_lost_or_doubled(owner: Any, google: Any, tags: Any) -> None:
    """What exists carries a key of the journal, or is a rule in such a network; no key ever made two things; of each kind there is one."""
    written = {resource.key for resource in owner.journal().resources()}
    for each in google.live():
        if each.kind == "firewall":
            assert each.body["network"].rpartition("/")[2] in {network.name for network in google.live("network")}
        else:
            assert tags(each.kind, each.body)["evident-key"] in written, each.name
    assert max(Counter(made for made in google.made if made[0] != "firewall").values(), default=0) <= 1
    assert all(len(google.live(kind)) <= 1 for kind in OWN)


def fewer_openings(owner: Any) -> None:
    """One firewall rule beside the one that closes: more of them add no new kind of moment."""
    owner.order = replace(owner.order, openings=owner.order.openings[:1])


def live_a_life(owner: Any, google: Any, chance: random.Random, first: int, tags: Any) -> None:
    """Die at moment `first` of up and down, then perhaps again anywhere; at last live."""
    fewer_openings(owner)
    google.dies_at(first)
    assert not google.survives(lambda: (owner.up(), owner.down()))
    nothing_lost_or_doubled(owner, google, tags)
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        google.time.now += chance.choice((0.0, 5.0, 3600.0))
        google.dies_at(chance.randrange(1, 120))
        google.survives(chance.choice((owner.up, owner.down)))
        nothing_lost_or_doubled(owner, google, tags)
    google.dies_at(None)
    if chance.random() < 0.3:
        owner.up()
        assert [len(google.live(kind)) for kind in KEPT] == [1, 1, 1, 1]
        assert google.live("bucket") == []
        nothing_lost_or_doubled(owner, google, tags)
    owner.down()
    assert google.live() == []
    assert {resource.stage for resource in owner.journal().resources()} <= {Stage.GONE}


@pytest.fixture
def tags(request: pytest.FixtureRequest, world: Any) -> Any:
    _, google = world()
    return type(google).answer.__globals__["tags"]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_200_random_moments(world: Any, tags: Any, part: int) -> None:
    owner, google = world()
    google.dies_at(None)
    fewer_openings(owner)
    owner.up()
    owner.down()
    total = google.steps
    assert total > 150
    chance = random.Random(20261122 + part)
    for _ in range(LIVES // PARTS):
        live_a_life(*world(), chance, chance.randrange(1, total + 1), tags)


@pytest.mark.parametrize("tags_are_read", [True, False])
def test_without_tags_a_lost_answer_is_a_lost_machine(
    owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch, tags_are_read: bool
) -> None:
    """The check off: the same death, and a machine stays that nobody knows of."""
    google.dies_after("instances.insert")
    assert not google.survives(owner.up)
    google.dies_at(None)
    if not tags_are_read:

        def nothing(*_: object) -> tuple[()]:
            return ()

        monkeypatch.setattr(Gcp, "find", nothing)
    owner.down()
    assert [each.kind for each in google.live("instance")] == ([] if tags_are_read else ["instance"])


@pytest.mark.parametrize("line_is_kept", [True, False])
def test_without_a_line_before_the_call_things_are_made_twice(owner: Any, google: Any, line_is_kept: bool) -> None:
    """The check off: whoever has not written the key down asks with another one after the crash."""
    google.dies_after("instances.insert")
    assert not google.survives(owner.up)
    google.dies_at(None)
    if not line_is_kept:
        lines = owner.path.read_bytes().splitlines(keepends=True)
        assert b'"stage": "asked"' in lines[-1]
        owner.path.write_bytes(b"".join(lines[:-1]))
    owner.up()
    assert len(google.live("instance")) == (1 if line_is_kept else 2)
