"""One suite for every place where disk keys are kept: our own store, a fake of Vault's interface, and a real server (BW-24, BW-25)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.test_release import DISK, KEY, Desk, boot
from tests.unit.image.test_seal import opens, sealed
from tests.unit.keys.real_vault import RealVault
from tests.unit.keys.test_vault import driver, faking

from evident.errors import NotAuthentic, PolicyRefused
from evident.keys.store import WRAPPING_KEY_BYTES, Held, RootVolume, Secrets, WrappedSecrets
from evident.keys.vault_document import open_vault
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

VOLUME = RootVolume(1, DISK, "image", nominal=4, trustworthy=4, secrets=("token",))
HELD = Held(KEY, {"token": b"\x00\xff of any bytes"})


@pytest.fixture(params=["own", "fake", "vault"])
def secrets(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Secrets]:
    if request.param == "own":
        yield WrappedSecrets(tmp_path / "own", bytes(WRAPPING_KEY_BYTES))
        return
    if request.param == "fake":
        with faking() as server:
            yield driver(server)
        return
    real: RealVault = request.getfixturevalue("real_vault")
    yield open_vault(real.document(tmp_path))


def test_what_is_put_is_got_until_it_is_deleted(secrets: Secrets) -> None:
    secrets.delete(DISK)  # there is none yet: as good as deleted
    for held in (HELD, Held(b"another key"), Held(b"", {"token": b"alone"})):
        secrets.put(VOLUME, held)
        assert secrets.get(VOLUME) == held
    secrets.delete(DISK)
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)


@pytest.mark.parametrize(
    "changed",
    [
        {"nominal": 0},
        {"secrets": ()},
        {"identities": {"chip_id": ("00",)}},
        {"root_hash": bytes(32)},
        {"spiffe_id": "spiffe://example.org/another"},
    ],
)
def test_it_is_bound_to_its_terms(secrets: Secrets, changed: dict[str, object]) -> None:
    secrets.put(VOLUME, HELD)
    with pytest.raises(NotAuthentic, match=r"keys\.store\.altered"):
        secrets.get(replace(VOLUME, **changed))  # type: ignore[arg-type]


def test_an_attested_machine_opens_its_disk_with_what_comes_out(secrets: Secrets, tmp_path: Path, simulator_pki: SimulatorPki) -> None:
    machine = scenario.good(simulator_pki)
    desk = Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))
    desk.volumes.put(VOLUME)
    secrets.put(VOLUME, HELD)
    desk.service._secrets = secrets
    with desk.serving() as server:
        volume = boot(desk, server)
    assert volume.secrets == HELD.secrets
    (tmp_path / "volume").write_bytes(sealed(key=KEY))
    assert opens(tmp_path / "volume", volume.key)
