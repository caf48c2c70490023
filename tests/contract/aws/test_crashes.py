"""Die at any moment of creating and removing: nothing is lost track of, nothing is made twice, nothing is left.

A moment is: before a call is sent, after it is carried out and before its answer is seen, before, in the middle of and after every
write of the journal.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.crashes import Crashes, Thing, die_everywhere
from tests.contract.lifecycle import stages

from evident.platforms.aws.executor import Aws
from evident.platforms.opening import Opening
from evident.platforms.order import AGENT_PORT
from evident.platforms.resources import TAG_KEY

OWN = ("instance", "image", "snapshot", "security-group")
PARTS = 4


@pytest.fixture(autouse=True)
def _process_crashes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote outlives it without fsync; only the machine's own crash needs that, and it costs most of the time here."""

    def nothing(_: int) -> None:
        return None

    monkeypatch.setattr("os.fsync", nothing)


def things(fake: Any) -> list[Thing]:
    return [(each["kind"], {tag["Key"]: tag["Value"] for tag in each["tags"]}) for each in fake.live() if each["state"] != "shutting-down"]


def made(fake: Any) -> Counter[Any]:
    tags = {name: {tag["Key"]: tag["Value"] for tag in each["tags"]} for name, each in fake.objects.items()}
    return Counter((each["kind"], tags[name][TAG_KEY]) for name, each in fake.objects.items())


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_200_random_moments(tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    owner, fake = world()
    order = replace(owner.order, openings=(Opening("in", "tcp", AGENT_PORT, "203.0.113.0/24"),))
    crashes = Crashes(tmp_path / "lives", "aws", order, monkeypatch, lambda cloud: stages.plug_aws(cloud, monkeypatch))
    die_everywhere(crashes, lambda: type(fake)(type(fake.time)()), things, made, part=part, of=PARTS)


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
