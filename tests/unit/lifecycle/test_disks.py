"""Whose a disk is: its deployment's alone, for terms, release and revocation (BW-21)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from evident.errors import EvidentError
from evident.keys.release import ReleaseService
from evident.keys.store import VolumeStore
from evident.lifecycle import bring_up, keyserver, keystore
from evident.lifecycle.deployment import Deployment, deployment
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.revoke import revoke
from evident.platforms.driver import Surroundings
from evident.platforms.order import Order
from evident.simulator.pki import SimulatorPki

SHOP, BANK, LATER = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "123")


class World:
    """Two deployments of one image, each with a disk of its own."""

    def __init__(self, state: Path, pki: SimulatorPki) -> None:
        at = pki.made_at + timedelta(days=2)
        pki.save(state / "simulator")
        self.cache = state / "cache"
        self.around = Surroundings(state, lambda: at, lambda count: bytes(range(count)), lambda _: None)
        self.shop, self.bank = self._up("shop", SHOP), self._up("bank", BANK)
        self.store = keystore.open_store(self.around)

    def _up(self, name: str, disk: str) -> Deployment:
        target = deployment(name, self.around)
        bring_up.up(target, "simulated", Order())
        keyserver.register(target, DiskKey(disk, disk.encode()))
        return target

    def service(self, target: Deployment) -> ReleaseService:
        return keyserver.service(target, self.cache)

    def key(self, disk: str) -> bytes:
        return self.store.secrets.get(self.store.volumes.get(disk)).key


@pytest.fixture
def world(tmp_path: Path, simulator_pki: SimulatorPki) -> World:
    return World(tmp_path, simulator_pki)


def test_revoking_one_leaves_the_other_its_key(world: World) -> None:
    assert f"disk={SHOP}" in revoke(world.shop, "a test")
    with pytest.raises(EvidentError, match=r"keys\.store\.no-key"):
        world.key(SHOP)
    assert world.key(BANK) == BANK.encode()
    assert keystore.disks(world.around, "shop") == {SHOP: "revoked"}
    assert keystore.disks(world.around, "bank") == {BANK: "registered"}
    assert [each.value for each in world.store.volumes.revocations() if each.name == "disk"] == [SHOP]


@pytest.mark.attack("BW-21", "A machine asks another deployment's key server, whose policy is another.", "keys.disk-unknown")
@pytest.mark.parametrize("checked", [False, True])
def test_a_key_server_releases_its_own_deployments_disks_alone(world: World, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    assert len(world.service(world.bank).challenge(BANK)) == 32
    if checked:
        with pytest.raises(EvidentError, match=r"keys\.disk-unknown"):
            world.service(world.shop).challenge(BANK)
    else:
        monkeypatch.setattr(keyserver._Terms, "get", VolumeStore.get)
        assert len(world.service(world.shop).challenge(BANK)) == 32


def test_a_new_disk_takes_the_old_ones_place(world: World) -> None:
    keyserver.register(world.shop, DiskKey(LATER, b"later" * 8))
    assert world.store.volumes.disks_under("shop") == (LATER,)
    with pytest.raises(EvidentError, match=r"keys\.disk-unknown"):
        world.key(SHOP)
    assert (world.key(LATER), world.key(BANK)) == (b"later" * 8, BANK.encode())


def test_a_revoked_disk_stays_revoked_whatever_takes_its_place(world: World) -> None:
    revoke(world.shop, "a test")
    keyserver.register(world.shop, DiskKey(LATER, b"later" * 8))
    assert world.store.volumes.disks_under("shop") == (SHOP, LATER)
    with pytest.raises(EvidentError, match=r"keys\.store\.no-key"):
        world.key(SHOP)
    assert world.key(LATER) == b"later" * 8
