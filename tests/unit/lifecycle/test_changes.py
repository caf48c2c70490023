"""What happens to a deployment after its launch: another image with a window, revocation, and drift named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evident.audit import keys
from evident.endorsements import anchors
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import NotAuthentic, PolicyRefused, UsageError
from evident.keys.release import check_revoked
from evident.keys.store import Held, RootVolume
from evident.lifecycle import bring_up, keyserver, keystore, succession
from evident.lifecycle.attest import Answer, Verifier, attest
from evident.lifecycle.deployment import Deployment, deployment
from evident.lifecycle.drift import drift
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.revoke import revoke
from evident.platforms.driver import Surroundings
from evident.platforms.order import Order
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import sample_launch

DISK = "11111111-2222-3333-4444-555555555555"


class World:
    def __init__(self, state: Path, pki: SimulatorPki) -> None:
        self.now = pki.made_at + timedelta(days=2)
        self._count = 0
        pki.save(state / "simulator")
        self.surroundings = Surroundings(state, lambda: self.now, self._random, lambda _: None)
        self.shop: Deployment = deployment("shop", self.surroundings)
        self._key = keys.generate(self._random)

    def _random(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(4, "big").rjust(count, b"\x22")

    def attest(self) -> Answer:
        self.now += timedelta(seconds=1)
        return attest(self.shop, Verifier(anchors.production(), StaticFetcher({}), self._key))


@pytest.fixture
def world(tmp_path: Path, simulator_pki: SimulatorPki) -> World:
    made = World(tmp_path, simulator_pki)
    bring_up.up(made.shop, "simulated", Order())
    return made


def other() -> Order:
    sample = sample_launch()
    return Order(kernel=b"another kernel" + bytes(100), initrd=sample.initrd, command_line=sample.command_line)


def test_both_images_are_accepted_until_the_window_ends(world: World) -> None:
    def accepted() -> set[bytes]:
        return {value.value for value in world.shop.references.values}

    old = accepted()
    before = world.attest()
    succession.update(world.shop, other(), window=timedelta(hours=1))
    assert world.shop.journal.state is State.LAUNCHED
    assert old < accepted(), "the old image is accepted too"
    assert world.attest().outcome.decision == "accepted"
    assert before.outcome.decision == "accepted"
    world.now += timedelta(hours=2)
    assert not old & accepted(), "and no longer than that"
    assert world.attest().outcome.decision == "accepted"


def test_an_update_can_be_repeated_after_a_crash(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = type(world.shop.driver())
    with monkeypatch.context() as patch:
        patch.setattr(driver, "launch", _crash)
        with pytest.raises(KeyboardInterrupt):
            succession.update(world.shop, other(), window=timedelta(hours=1))
    assert world.shop.journal.state is State.UPDATING
    assert world.attest().outcome.decision == "accepted", "the machine before it answers on"
    assert world.shop.number == 1
    succession.update(world.shop, other(), window=timedelta(hours=1))
    assert world.attest().outcome.decision == "accepted"
    assert world.shop.number == 2


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_revoked_deployment_is_denied_everything_from_then_on(world: World) -> None:
    keyserver.register(world.shop, DiskKey(DISK, bytes(64)))
    report_id = world.attest().outcome.claims["report_id"]
    store = keystore.open_store(world.surroundings)
    check_revoked({"disk": DISK, "report_id": report_id}, store.volumes.revocations())  # raises nothing: not yet
    assert set(revoke(world.shop, "the disk image leaked")) == {f"disk={DISK}", f"report_id={report_id}"}
    assert set(revoke(world.shop, "the disk image leaked")) == {f"disk={DISK}", f"report_id={report_id}"}, "safe to repeat"
    for known in ({"disk": DISK}, {"report_id": report_id}):
        with pytest.raises(PolicyRefused, match=r"keys\.revoked"):
            check_revoked(known, store.volumes.revocations())
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        store.secrets.get(store.volumes.get(DISK))
    for refused in (world.attest, lambda: succession.update(world.shop, other(), window=timedelta(hours=1))):
        with pytest.raises(UsageError):
            refused()
    assert {entry.event for entry in store.log.entries()} == {"revoked"}
    assert down(world.shop)


def test_the_wrapping_key_is_its_owners_alone(world: World) -> None:
    keystore.open_store(world.surroundings)
    path = keystore.directory(world.surroundings) / "wrapping.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(UsageError, match=r"keys\.wrapping-key\.mode"):
        keystore.open_store(world.surroundings)


def test_a_wrapping_key_kept_elsewhere_is_read_and_never_made(world: World, tmp_path: Path) -> None:
    apart = tmp_path / "credentials" / "wrapping-key"
    elsewhere = replace(world.surroundings, wrapping_key=apart)
    with pytest.raises(UsageError, match=r"state\.read"):
        keystore.open_store(elsewhere)
    apart.parent.mkdir()
    apart.write_bytes(bytes(range(32)))
    apart.chmod(0o400)
    volume = RootVolume(1, DISK, "shop")
    keystore.open_store(elsewhere).secrets.put(volume, Held(b"k" * 64))
    assert keystore.open_store(elsewhere).secrets.get(volume) == Held(b"k" * 64)
    assert not (keystore.directory(elsewhere) / "wrapping.key").exists()
    with pytest.raises(NotAuthentic, match=r"keys\.store\.altered"):
        keystore.open_store(world.surroundings).secrets.get(volume)


@pytest.mark.parametrize("attack", ["swap-kernel", "extra-vcpu", "debug"])
def test_drift_is_named(world: World, attack: str, simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    first, second = world.attest().outcome, world.attest().outcome
    assert drift(first, second) == ()
    succession.update(world.shop, Order(attack=attack), window=timedelta(seconds=1))
    changes = drift(first, world.attest().outcome)
    assert changes[0] == "decision: accepted -> refused"
    assert any(change.startswith(("finding launch.", "finding policy.debug")) for change in changes)
    named: Callable[[str], bool] = lambda name: any(change.startswith(f"claim {name}") for change in changes)  # noqa: E731  # one line
    assert named("policy") if attack == "debug" else named("measurement")
