"""Die at any moment of creating and removing: nothing is lost track of, nothing is made twice, nothing is left.

A moment is: before a call is sent, after it is carried out and before its answer is seen, before, in the middle of and after every
write of the journal.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from typing import Any

import pytest

from evident.errors import Indeterminate
from evident.platforms.azure import requests
from evident.platforms.azure.executor import Azure
from evident.platforms.resources import TAG_KEY, Stage

OWN = ("virtualMachines", "networkInterfaces", "publicIPAddresses", "virtualNetworks", "networkSecurityGroups")
IMAGE = ("galleries", "images", "versions")


def standing(fake: Any, kind: str) -> list[dict[str, Any]]:
    """What is there and not on its way out."""
    return [each for each in fake.live(kind) if each.get("leaving") is None]


def nothing_lost_or_doubled(owner: Any, fake: Any) -> None:
    """What exists carries a key of the journal; no key ever made two things of one kind; of each kind there is one."""
    written = {resource.key for resource in owner.journal().resources()}
    assert {each["body"]["tags"][TAG_KEY] for each in fake.live()} <= written
    made = Counter((each["kind"], "of" in each, each["body"]["tags"][TAG_KEY]) for each in fake.live())
    assert max(made.values(), default=0) <= 1
    assert all(len(standing(fake, kind)) <= 1 for kind in (*OWN, *IMAGE))
    assert len([each for each in standing(fake, "disks") if "of" not in each]) <= 1


def live_a_life(owner: Any, fake: Any, chance: random.Random, first: int) -> None:
    """Die at moment `first` of up and down, then perhaps once more anywhere; at last live."""
    fake.dies_at(first)
    assert not fake.survives(lambda: (owner.up(), owner.down()))
    nothing_lost_or_doubled(owner, fake)
    for _ in range(chance.randrange(2)):
        fake.time.now += chance.choice((0.0, 5.0, 3600.0))
        fake.dies_at(chance.randrange(1, 300))
        fake.survives(chance.choice((owner.up, owner.down)))
        nothing_lost_or_doubled(owner, fake)
    fake.dies_at(None)
    if chance.random() < 0.4:
        owner.up()
        assert [len(standing(fake, kind)) for kind in (*OWN, *IMAGE)] == [1] * 8
        nothing_lost_or_doubled(owner, fake)
        whole = [each for each in standing(fake, "disks") if "of" not in each]
        assert requests.UPLOADED in whole[0]["body"]["tags"]
        assert len(whole[0]["pages"]) == 2
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
    assert total > 300
    chance = random.Random(20261122)
    for _ in range(200):
        live_a_life(*world(), chance, chance.randrange(1, total + 1))


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
