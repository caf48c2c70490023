"""Deployments whose owner's process dies at any moment of `up`, `update` and `down`: on any cloud in memory, through the whole lifecycle.

A moment is: before a call is sent; after it is carried out, before its answer is seen; before, in the middle of and after every line of a
journal; before and after every file that is replaced. One undisturbed life is lived, and at each of the chosen moments all that a dead
process leaves is put aside: its files, and the cloud as it was. From there somebody carries on. (To live up to the moment again for each
of them finds the same, and takes twice as long.)
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evident import files
from evident.errors import PolicyRefused
from evident.lifecycle import bring_up, farewell, retire, succession
from evident.lifecycle.deployment import Deployment, deployment
from evident.lifecycle.journal import State
from evident.platforms import agent
from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import JOURNAL
from evident.platforms.driver import Surroundings
from evident.platforms.order import AGENT_PORT, Disk, Order
from evident.platforms.resources import TAG_ID, TAG_KEY, ResourceJournal

HOUR = timedelta(hours=1)
Thing = tuple[str, Mapping[str, str]]
"""Kind and tags."""


class Household:
    """Somebody with one deployment on `platform`; every command is another process, with the same files and the same cloud."""

    def __init__(self, home: Path, platform: str, cloud: Any, order: Order) -> None:
        self.home, self.platform, self.cloud, self.order = home, platform, cloud, order
        self._random = itertools.count(1)

    @property
    def around(self) -> Surroundings:
        return Surroundings(self.home / "state", self.cloud.time.wall, self._randomness, lambda _: None)

    def _randomness(self, count: int) -> bytes:
        return hashlib.shake_256(f"{self.home} {next(self._random)}".encode()).digest(count)

    @property
    def target(self) -> Deployment:
        return deployment("shop", self.around)

    def ordered(self, image: str) -> Order:
        return replace(self.order, disks=(Disk(f"{self.order.disks[0].path}.{image}", read_only=True),))

    def up(self) -> None:
        bring_up.up(self.target, self.platform, self.ordered("one"))

    def update(self, *, refused: bool = False) -> None:
        """To another image; the machine of a `refused` one does not prove itself."""
        image = "refused" if refused else "two"
        prove = _refused if refused else None
        with pytest.raises(PolicyRefused, match=r"update\.kept") if refused else contextlib.nullcontext():
            succession.update(self.target, self.ordered(image), window=HOUR, prove=prove)

    def carry_on(self) -> None:
        """What `up` does with whatever there is."""
        state = self.target.journal.state
        if state is State.DESTROYING:
            self.down()
        if self.target.generations.coming is not None:
            self.update()
        elif self.target.journal.state in (None, State.PLANNED, State.DESTROYED):
            self.up()
        else:
            retire.finish(self.target)

    def down(self) -> None:
        if self.target.journal.state is not None:
            farewell.down(self.target)

    def live(self) -> None:
        """A whole life: another image, a refused one, the end."""
        self.up()
        self.update()
        self.cloud.time.now += 2 * HOUR.total_seconds()
        self.update(refused=True)
        self.down()

    def written(self) -> set[str]:
        """Every key that stands in a journal of resources."""
        journals = [ResourceJournal(each.machine / JOURNAL, self.around.clock) for each in self.target.machines()]
        return {resource.key for journal in journals for resource in journal.resources()}


def _refused(_: Deployment) -> Any:
    raise PolicyRefused.of("a.refusal", expected="another machine", found="this one", remedy="None.")


def _twin(cloud: Any) -> Any:
    """The cloud as it is now, whatever becomes of the other."""
    made = copy.copy(cloud)
    for name, value in vars(cloud).items():
        if name != "step":
            setattr(made, name, [] if name in ("calls", "answers") else copy.deepcopy(value))
    made.dies_at(None)
    return made


class Crashes:
    """Dies for whoever lives on `platform`; see the module. `plug` has the platform's driver talk to a cloud in memory."""

    def __init__(self, home: Path, platform: str, order: Order, monkeypatch: pytest.MonkeyPatch, plug: Callable[[Any], None]) -> None:
        self._home, self._platform, self._order, self._plug = home, platform, order, plug
        self._numbers = itertools.count(1)
        self._cloud: Any = None
        self._pace = 1.0
        content = Path(order.disks[0].path).read_bytes()
        for image in ("one", "two", "refused"):
            Path(f"{order.disks[0].path}.{image}").write_bytes(content + image.encode())
        clock = Patience(
            lambda: self._cloud.time.clock(), lambda seconds: self._cloud.time.sleep(seconds * self._pace), lambda: 0.5, lambda _: None
        )
        monkeypatch.setattr(Patience, "real", lambda *_, **__: clock)
        monkeypatch.setattr(agent, "listens", lambda _host, port: port == AGENT_PORT)
        monkeypatch.setattr(files.Lines, "_append", self._append(files.Lines._append))
        monkeypatch.setattr(files, "replace_file", self._replace(files.replace_file))
        monkeypatch.setattr("os.fsync", lambda _: None)  # what a process wrote outlives it without; only the host's own crash needs that

    def _append(self, append: Callable[..., None]) -> Callable[..., None]:
        def stepping(lines: files.Lines, descriptor: int, value: Any) -> None:
            self._cloud.step()
            before = len(lines.path.read_bytes())
            append(lines, descriptor, value)
            whole = lines.path.read_bytes()
            torn = (min(before, len(whole)) + len(whole)) // 2
            os.ftruncate(descriptor, torn)
            self._cloud.step()
            os.write(descriptor, whole[torn:])
            self._cloud.step()

        return stepping

    def _replace(self, replace_file: Callable[..., None]) -> Callable[..., None]:
        def stepping(*words: Any, **more: Any) -> None:
            self._cloud.step()
            replace_file(*words, **more)
            self._cloud.step()

        return stepping

    def household(self, cloud: Any, left: Path | None = None) -> Household:
        """Whoever has this cloud, and the files that are `left`."""
        home = self._home / str(next(self._numbers))
        if left is not None:
            shutil.copytree(left, home)
        self._cloud = cloud
        self._plug(cloud)
        return Household(home, self._platform, cloud, self._order)

    def moments(self, fresh: Callable[[], Any]) -> int:
        """How many a life has."""
        house = self.household(fresh())
        house.cloud.dies_at(None)
        house.live()
        total: int = house.cloud.steps
        return total

    def deaths(self, fresh: Callable[[], Any], chosen: set[int]) -> Iterator[Household]:
        """After each of the `chosen` moments: what is left."""
        house, left = self.household(fresh()), []
        house.cloud.steps = 0

        def step() -> None:
            house.cloud.steps += 1
            if house.cloud.steps in chosen:
                aside = self._home / f"left-{house.cloud.steps}"
                shutil.copytree(house.home, aside) if house.home.exists() else aside.mkdir()
                left.append((aside, _twin(house.cloud)))

        house.cloud.step = step
        house.live()
        self._pace = 4.0  # whoever carries on looks less often: most of their time is waiting for what may still become visible
        for aside, cloud in left:
            yield self.household(cloud, aside)


def die_everywhere(
    crashes: Crashes,
    fresh: Callable[[], Any],
    things: Callable[[Any], list[Thing]],
    made: Callable[[Any], Counter[Any]],
    *,
    part: int,
    of: int,
) -> None:
    """Two hundred deaths in `of` parts, a few of them twice; nothing is lost track of, nothing made twice, nothing left in the end.

    `things`: all that exists and is not on its way out. `made`: how often each key has made a thing of each kind.
    """
    total = crashes.moments(fresh)
    assert total > 400
    chosen = set(random.Random(20261122).sample(range(1, total), 200))
    chance = random.Random(part)
    deaths = 0
    for house in crashes.deaths(fresh, set(sorted(chosen)[part::of])):
        deaths += 1
        nothing_lost_or_doubled(house, things, made)
        if chance.random() < 0.25:
            house.cloud.time.now += chance.choice((0.0, 5.0, 3600.0))
            house.cloud.dies_at(chance.randrange(1, 150))
            house.cloud.survives(chance.choice((house.carry_on, house.down)))
            house.cloud.dies_at(None)
            nothing_lost_or_doubled(house, things, made)
        if chance.random() < 0.4:
            house.carry_on()
            nothing_lost_or_doubled(house, things, made)
            alive = {tags[TAG_ID] for _, tags in things(house.cloud)}
            assert len(alive) == len(house.target.machines()) >= 1
        house.down()
        assert things(house.cloud) == []
        assert house.target.machines() == ()
    assert deaths == len(range(part, 200, of))


def nothing_lost_or_doubled(house: Household, things: Callable[[Any], list[Thing]], made: Callable[[Any], Counter[Any]]) -> None:
    """What exists carries a key of a journal; no key ever made two things; each machine has one of each kind; there are at most three."""
    there, written = things(house.cloud), house.written()
    assert {tags[TAG_KEY] for _, tags in there} <= written
    assert max(made(house.cloud).values(), default=0) <= 1
    assert max(Counter((kind, tags[TAG_ID]) for kind, tags in there).values(), default=0) <= 1
    assert len({tags[TAG_ID] for _, tags in there}) <= 3
