"""The journal of resources: whole or torn, never wrong unnoticed. Creation and removal are shown in tests/contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.errors import Malformed
from evident.platforms.resources import Resource, ResourceJournal, Stage

AT = datetime(2026, 6, 1, tzinfo=UTC)
ASKED = Resource("instance", "evident-shop-1", "key-1", {"evident-key": "key-1"}, "a-cloud/1", "00", Stage.ASKED)
STEPS = (
    ASKED,
    replace(ASKED, stage=Stage.MADE, id="i-1"),
    replace(ASKED, stage=Stage.READY, id="i-1"),
    replace(ASKED, stage=Stage.LEAVING, id="i-1"),
    replace(ASKED, stage=Stage.GONE, id="i-1"),
)


def journal(path: Path) -> ResourceJournal:
    return ResourceJournal(path, lambda: AT)


def test_the_last_step_of_each_is_what_is_known(tmp_path: Path) -> None:
    kept = journal(tmp_path / "machine" / "resources.jsonl")
    assert kept.resources() == ()
    other = replace(ASKED, key="key-2")
    kept.write(ASKED)
    kept.write(other)
    for step in STEPS[1:]:
        kept.write(step)
        assert kept.resources() == (step, other)


def test_a_crash_at_every_byte_loses_at_most_the_last_step(tmp_path: Path) -> None:
    kept = journal(tmp_path / "whole")
    for step in STEPS[:3]:
        kept.write(step)
    whole = (tmp_path / "whole").read_bytes()
    for cut in range(len(whole) + 1):
        path = tmp_path / "torn"
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert journal(path).resources() == ((STEPS[complete - 1],) if complete else ())


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [b"{}\n", *lines],
        lambda lines: [lines[0], lines[0]],
        lambda lines: lines[1:],
        lambda lines: [lines[0].replace(b"asked", b"asking")],
        lambda lines: [b"\xff\n", *lines[1:]],
    ],
)
def test_damage_is_said(tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]) -> None:
    kept = journal(tmp_path / "resources.jsonl")
    for step in STEPS[:2]:
        kept.write(step)
    lines = (tmp_path / "resources.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "resources.jsonl").write_bytes(b"".join(damage(lines)))
    with pytest.raises(Malformed) as caught:
        kept.resources()
    assert caught.value.code == "journal.damaged"
