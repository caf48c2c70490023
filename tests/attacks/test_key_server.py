"""A key server in a machine that somebody else runs: it gets what wraps its keys once it is attested, and not before (BW-23).

The wrapping key is a secret like any other (`evident.keys.secrets`): its owner's own key server releases it to the machine, on a statement.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.test_release import OTHER_DISK, OTHER_KEY, Desk, attack, boot, expected

from evident.errors import NotAuthentic
from evident.keys import release
from evident.keys.store import WRAPPING_KEY_BYTES, Held, RootVolume, WrappedSecrets
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

LOADED = RootVolume(1, "key-server", "image", nominal=4, trustworthy=4, secrets=("wrapping-key",))
SHOP = RootVolume(1, OTHER_DISK, "image", nominal=4, trustworthy=4)


@pytest.fixture
def desk(tmp_path: Path, simulator_pki: SimulatorPki) -> Desk:
    """The owner's own key server; its machine is the one in which the other key server is to run."""
    machine = scenario.good(simulator_pki)
    return Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture
def store(desk: Desk, tmp_path: Path) -> Path:
    """What lies on the key server's disk, before the eyes of whoever runs it; its owner holds what opens it."""
    wrapping = os.urandom(WRAPPING_KEY_BYTES)
    WrappedSecrets(tmp_path / "store", wrapping).put(SHOP, Held(OTHER_KEY))
    desk.volumes.put(LOADED)
    desk.secrets.put(LOADED, Held(b"", {"wrapping-key": wrapping}))
    return tmp_path / "store"


def test_an_attested_key_server_is_loaded(desk: Desk, store: Path) -> None:
    with pytest.raises(NotAuthentic, match=r"keys\.store\.altered"):
        WrappedSecrets(store, os.urandom(WRAPPING_KEY_BYTES)).get(SHOP)
    with desk.serving() as server:
        loaded = boot(desk, server, disk=LOADED.disk).secrets["wrapping-key"]
    assert WrappedSecrets(store, loaded).get(SHOP).key == OTHER_KEY


@attack("BW-23", "The machine of the key server is another than its owner's, and hands on every key that it holds.", "launch.firmware")
def test_a_key_server_that_is_not_the_owners_is_not_loaded(desk: Desk, store: Path, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    machine = scenario.ATTACKS["swap-firmware"].on(desk.machine)
    with expected(desk, "launch.firmware", checked=checked), desk.serving() as server:
        loaded = boot(desk, server, disk=LOADED.disk, machine=machine).secrets["wrapping-key"]
        assert WrappedSecrets(store, loaded).get(SHOP).key == OTHER_KEY
