"""Die at any moment of creating and removing: nothing is lost track of, nothing is made twice, nothing is left.

A moment is: before a request is sent, after it is carried out and before its answer is seen, before, in the middle of and after every
write of the journal. The requests are the real SDK's; only the socket is left out.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.crashes import Crashes, Thing, die_everywhere
from tests.contract.lifecycle import stages

from evident.platforms.gcp.executor import Gcp

PARTS = 4


@pytest.fixture(autouse=True)
def _process_crashes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote outlives it without fsync; only the machine's own crash needs that, and it costs much of the time here."""

    def nothing(_: int) -> None:
        return None

    monkeypatch.setattr("os.fsync", nothing)


def things(tags: Any, google: Any) -> list[Thing]:
    """A network's rules are parts of it: they have no tags of their own, and are not there without it."""
    networks = {each.name for each in google.live("network")}
    assert {each.body["network"].rpartition("/")[2] for each in google.live("firewall")} <= networks
    return [(each.kind, tags(each.kind, each.body)) for each in google.live() if each.kind != "firewall" and each.ending is None]


def made(google: Any) -> Counter[Any]:
    return Counter(each for each in google.made if each[0] != "firewall")


@pytest.fixture
def tags(world: Any) -> Any:
    _, google = world()
    return type(google).answer.__globals__["tags"]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_200_random_moments(tmp_path: Path, world: Any, tags: Any, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    owner, google = world()
    order = replace(owner.order, openings=owner.order.openings[:1])  # beside the rule that closes: more of them add no new kind of moment
    crashes = Crashes(tmp_path / "lives", "gcp", order, monkeypatch, lambda cloud: stages.plug_gcp(cloud, monkeypatch))
    die_everywhere(crashes, type(google), functools.partial(things, tags), made, part=part, of=PARTS)


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
