"""An update makes another machine: what becomes of both, whatever comes in between. In clouds: ``tests/contract/lifecycle``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evident.errors import EvidentError, PolicyRefused, UsageError
from evident.keys.release import ReleaseService
from evident.lifecycle import keyserver, keystore, proving, quarantine, retire, succession
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.platforms.order import Order
from evident.platforms.simulated.launch import SimulatedPlatform

HOUR, NONE = timedelta(hours=1), timedelta(0)
OLD, NEW = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "12")


@pytest.fixture
def shop(owner: Any) -> Deployment:
    found: Deployment = owner.up()
    return found


def update(owner: Any, target: Deployment, *, window: timedelta = NONE, **order: Any) -> None:
    prove = functools.partial(proving.prove, cache=owner.state / "cache")
    succession.update(target, Order(**order), window=window, prove=prove)


def test_a_new_machine_takes_over_once_it_has_proved_itself(owner: Any, shop: Deployment) -> None:
    update(owner, shop)
    last = shop.journal.events()[-1]
    assert (shop.number, last.state, last.detail["decision"]) == (2, State.ATTESTED, "accepted")
    assert (shop.bundles / last.detail["bundle"]).exists()
    assert [each.number for each in shop.machines()] == [2]
    assert shop.machine == shop.directory / "generation_2" / "machine"


def test_one_that_is_refused_leaves_everything_as_it_was(owner: Any, shop: Deployment) -> None:
    before = {path: path.read_bytes() for path in shop.machine.rglob("*")}
    with pytest.raises(PolicyRefused) as caught:
        update(owner, shop, attack="swap-kernel")
    assert [finding.code for finding in caught.value.findings][-1] == "update.kept"
    assert caught.value.exit_code == 11
    assert {path: path.read_bytes() for path in shop.machine.rglob("*")} == before
    assert (shop.number, shop.journal.state, len(shop.machines())) == (1, State.KEPT, 1)
    assert quarantine.in_force(shop) is None, "the old machine was not refused"
    assert owner.attest(shop).outcome.decision == "accepted"


def test_one_that_cannot_be_decided_on_does_not_take_over(owner: Any, shop: Deployment) -> None:
    with pytest.raises(EvidentError) as caught:
        update(owner, shop, attack="no-crl")
    assert (caught.value.exit_code, caught.value.findings[-1].code, shop.number) == (12, "update.kept", 1)


@pytest.mark.parametrize("attack", [None, "swap-kernel"])
def test_without_room_for_two_the_old_one_is_halted_first(
    owner: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch, attack: str | None
) -> None:
    done: list[tuple[str, Path]] = []
    monkeypatch.setattr(SimulatedPlatform, "room", lambda *_: False)
    for name in ("halt", "launch", "start"):
        act: Callable[..., Any] = getattr(SimulatedPlatform, name)

        def noted(own: SimulatedPlatform, machine: Path, *rest: Any, name: str = name, act: Callable[..., Any] = act) -> Any:
            done.append((name, machine))
            return act(own, machine, *rest)

        monkeypatch.setattr(SimulatedPlatform, name, noted)
    old, new = shop.machine, shop.at(2).machine
    if attack is None:
        update(owner, shop, window=HOUR)
        assert done == [("halt", old), ("launch", new)]
        assert [each.number for each in shop.machines()] == [2], "nothing of the old one runs, so there is no window"
    else:
        with pytest.raises(PolicyRefused):
            update(owner, shop, window=HOUR, attack=attack)
        assert done == [("halt", old), ("launch", new), ("start", old)]


def test_killed_at_every_write_nothing_is_lost_and_nothing_left(owner: Any, killed: Callable[[Callable[[], object], int], bool]) -> None:
    survived = 0
    while True:
        shop = owner.up(f"shop-{survived}")
        if not killed(lambda: update(owner, shop), survived):  # noqa: B023  # it is called at once
            break
        known = shop.generations
        assert owner.attest(shop).outcome.decision == "accepted", f"after {survived} writes"
        if known.coming is not None:
            update(owner, shop)
        retire.finish(shop)
        assert (shop.number, len(shop.machines())) in ((2, 1), (1, 1)), f"after {survived} writes"
        down(shop)
        assert shop.machines() == ()
        survived += 3
    assert survived > 20


def test_what_was_begun_can_be_given_up(owner: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(proving, "examine", _dies)
        with pytest.raises(KeyboardInterrupt):
            update(owner, shop)
    assert [each.number for each in shop.machines()] == [1, 2]
    succession.abandon(shop)
    assert (shop.number, shop.journal.state, len(shop.machines())) == (1, State.KEPT, 1)
    with pytest.raises(UsageError, match=r"update\.ended"):
        succession.abandon(shop)


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_nothing_takes_over_in_a_deployment_that_was_ended(owner: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = SimulatedPlatform.settle
    monkeypatch.setattr(SimulatedPlatform, "settle", lambda own, machine: (settle(own, machine), down(shop)))
    with pytest.raises(EvidentError):
        update(owner, shop)
    assert (shop.journal.state, shop.machines()) == (State.DESTROYED, ())


class Keys:
    """The key server of a deployment in the middle of an update: a disk for each of its machines."""

    def __init__(self, owner: Any, shop: Deployment) -> None:
        self.shop, self.cache = shop, owner.state / "cache"
        keyserver.register(shop, DiskKey(OLD, bytes(64)))
        shop.record(State.UPDATING, generation="2", window="3600")
        coming = shop.at(2)
        expectation = coming.driver().launch(coming.machine, Order())
        succession.deployment.write_expectation(coming, expectation, None)
        keyserver.register(coming, DiskKey(NEW, bytes(64)))
        self.around = owner

    def service(self) -> ReleaseService:
        return keyserver.service(self.shop.at(2), self.cache)

    def asked(self, disk: str) -> bool:
        """Whether whoever asks for this disk gets a challenge."""
        try:
            return len(self.service().challenge(disk)) == 32
        except PolicyRefused:
            return False

    def take_over(self, window: timedelta) -> None:
        until = (self.around.now + window).isoformat().replace("+00:00", "Z")
        self.shop.record(State.LAUNCHED, generation="2", until=until)


@pytest.fixture
def keys(owner: Any, shop: Deployment) -> Keys:
    return Keys(owner, shop)


def test_both_machines_have_their_keys_until_the_window_is_over(owner: Any, keys: Keys) -> None:
    assert (keys.asked(OLD), keys.asked(NEW)) == (True, True)
    keys.take_over(HOUR)
    assert (keys.asked(OLD), keys.asked(NEW)) == (True, True)
    owner.now += HOUR
    assert (keys.asked(OLD), keys.asked(NEW)) == (False, True), "with the clock, before anything is removed"
    retire.finish(keys.shop)
    assert keystore.open_store(owner.surroundings).volumes.disks_under("shop") == (NEW,)


@pytest.mark.parametrize("needed", [True, False])
def test_the_key_server_ends_with_the_last_machine_that_needs_it(
    owner: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    if not needed:
        keyserver.forget_machine(keys.shop.at(2))
    ended: list[str] = []
    monkeypatch.setattr(keyserver, "end", lambda target: ended.append(target.name))
    keys.take_over(NONE)
    retire.finish(keys.shop)
    assert ended == ([] if needed else ["shop"])


def test_the_quarantine_of_the_old_machine_is_not_that_of_the_new(keys: Keys) -> None:
    keys.shop.record(State.QUARANTINED, decision="refused", code="a.test")
    assert (keys.asked(OLD), keys.asked(NEW)) == (False, True)


def test_a_machine_that_was_given_up_has_no_key(keys: Keys, owner: Any) -> None:
    succession.abandon(keys.shop)
    assert keystore.open_store(owner.surroundings).volumes.disks_under("shop") == (OLD,)
    assert keys.shop.number == 1
