"""Die at any moment of creating and removing: nothing is lost track of, nothing is made twice, nothing is left.

A moment is: before a call is sent, after it is carried out and before its answer is seen, before, in the middle of and after every
write of the journal.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.contract.crashes import Crashes, Thing, die_everywhere
from tests.contract.lifecycle import stages

from evident.errors import Indeterminate
from evident.platforms.azure.executor import Azure
from evident.platforms.resources import TAG_KEY

OWN = ("virtualMachines", "networkInterfaces", "publicIPAddresses", "virtualNetworks", "networkSecurityGroups")
PARTS = 4


def standing(fake: Any, kind: str) -> list[dict[str, Any]]:
    """What is there and not on its way out."""
    return [each for each in fake.live(kind) if each.get("leaving") is None]


def kind(each: dict[str, Any]) -> str:
    """Disks that come with a machine are of their own."""
    return f"{each['kind']} of a machine" if "of" in each else str(each["kind"])


def things(fake: Any) -> list[Thing]:
    return [(kind(each), each["body"]["tags"]) for each in fake.live() if each.get("leaving") is None]


def made(fake: Any) -> Counter[Any]:
    return Counter((kind(each), each["body"]["tags"][TAG_KEY]) for each in fake.live())


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_200_random_moments(tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    owner, fake = world()
    crashes = Crashes(tmp_path / "lives", "azure", owner.order, monkeypatch, lambda cloud: stages.plug_azure(cloud, monkeypatch))
    die_everywhere(crashes, lambda: type(fake)(type(fake.time)(), quick=True), things, made, part=part, of=PARTS)


@pytest.fixture
def after_each_creation(world: Any) -> list[int]:
    """The moments of an undisturbed `up` when something was just ordered, and the answer not yet seen."""
    owner, fake = world()
    moments, handle = [], fake.handle

    def noting(method: str, *rest: Any) -> Any:
        answer = handle(method, *rest)
        if method == "PUT":
            moments.append(fake.steps)
        return answer

    fake.handle = noting
    owner.up()
    assert len(moments) >= 10
    return moments


def test_without_tags_a_lost_answer_is_a_lost_machine(world: Any, after_each_creation: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: the same deaths, and things stay that nobody knows of."""

    def nothing(*_: object) -> tuple[()]:
        return ()

    left = 0
    for moment in after_each_creation:
        owner, fake = world()
        fake.dies_at(moment)
        assert not fake.survives(owner.up)
        fake.dies_at(None)
        with monkeypatch.context() as patched:
            patched.setattr(Azure, "find", nothing)
            owner.down()
        left += bool(fake.live())
    assert left


def test_without_a_line_before_the_call_things_are_made_twice(world: Any, after_each_creation: list[int]) -> None:
    """The check off: whoever has not written the key down asks under another name after the crash."""
    doubled = 0
    for moment in after_each_creation:
        owner, fake = world()
        fake.dies_at(moment)
        fake.survives(owner.up)
        lines = owner.path.read_bytes().splitlines(keepends=True)
        if b'"stage": "asked"' in lines[-1]:
            owner.path.write_bytes(b"".join(lines[:-1]))
            fake.dies_at(None)
            with contextlib.suppress(Indeterminate):  # a second machine is refused: the network interface is the first one's
                owner.up()
            doubled += any(len(standing(fake, kind)) > 1 for kind in OWN)
    assert doubled


def test_a_disk_whose_access_ended_by_itself_is_uploaded_anew(world: Any) -> None:
    owner, fake = expired(world)
    owner.up()
    assert [len(each["pages"]) for each in fake.live("disks") if "of" not in each] == [2]


def test_without_the_mark_half_an_image_passes_for_the_image(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: a disk that can no longer be written to is believed to be whole, and launched from."""
    owner, fake = expired(world)
    monkeypatch.setattr(Azure, "_upload", lambda *_: None)
    owner.up()
    assert fake.one("versions")
    assert [len(each["pages"]) for each in fake.live("disks") if "of" not in each] == [0]


def expired(world: Any) -> tuple[Any, Any]:
    """Somebody whose upload was broken off until its access had ended."""
    owner, fake = world()
    fake.faults["PUT page"] = [fake.handle.__globals__["Refusal"]("AuthenticationFailed", status=403)]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.timeout"
    fake.one("disks")["body"]["properties"]["diskState"] = "Unattached"
    return owner, fake
