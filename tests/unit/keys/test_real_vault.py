"""The driver against a real server: what its token may do, tokens that end, a sealed store, versions that are gone, who its server is."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.keys.real_vault import RealVault, certify, write_token
from tests.unit.keys.test_vault import DISK, VOLUME

from evident.errors import Indeterminate, PolicyRefused
from evident.keys.store import Held, Secrets
from evident.keys.vault_document import open_vault
from evident.keys.vault_http import VaultHttp

HELD = Held(b"k" * 64, {"db": b"a password"})
DATA, METADATA = f"secret/data/evident/disks/{DISK}", f"secret/metadata/evident/disks/{DISK}"


@pytest.fixture
def secrets(real_vault: RealVault, tmp_path: Path) -> Iterator[Secrets]:
    """With a key in it that the server is rid of again after the test."""
    store = open_vault(real_vault.document(tmp_path))
    store.put(VOLUME, HELD)
    yield store
    real_vault.ask("DELETE", METADATA)


def unusable(attempt: Callable[[], object], why: str) -> None:
    with pytest.raises(Indeterminate, match=why):
        attempt()


def status(attempt: Callable[[], object]) -> int:
    with pytest.raises(urllib.error.HTTPError) as refused:
        attempt()
    with refused.value as error:
        return error.code


def test_the_documented_policy_allows_this_and_no_more(real_vault: RealVault, secrets: Secrets) -> None:
    token = real_vault.token()
    for method, path in (
        ("GET", "secret/data/another"),
        ("POST", "secret/data/another"),
        ("GET", METADATA),
        ("GET", "secret/metadata/evident/disks?list=true"),
        ("DELETE", DATA),
        ("GET", "sys/mounts"),
        ("POST", "auth/token/create"),
    ):
        body: object = {"data": {}} if method == "POST" else None
        assert status(lambda m=method, p=path, b=body: real_vault.ask(m, p, b, token=token)) == 403, (method, path)  # type: ignore[misc]  # bound now
    assert secrets.get(VOLUME) == HELD


def test_a_deleted_key_leaves_no_version(real_vault: RealVault, secrets: Secrets) -> None:
    for number in range(3):
        secrets.put(VOLUME, Held(bytes([number]) * 64))
    assert set(real_vault.ask("GET", METADATA)["data"]["versions"]) == {"1", "2", "3", "4"}, "it keeps what was replaced"
    secrets.delete(DISK)
    for path in (METADATA, *(f"{DATA}?version={number}" for number in range(1, 5))):
        assert status(lambda p=path: real_vault.ask("GET", p)) == 404  # type: ignore[misc]  # bound now
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)


def test_a_version_that_its_operator_deleted_is_no_key(real_vault: RealVault, secrets: Secrets) -> None:
    real_vault.ask("DELETE", DATA)
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    secrets.put(VOLUME, HELD)
    assert secrets.get(VOLUME) == HELD


def test_a_mount_that_demands_check_and_set(real_vault: RealVault, secrets: Secrets) -> None:
    real_vault.ask("POST", "secret/config", {"cas_required": True})
    try:
        assert status(lambda: real_vault.ask("POST", DATA, {"data": {}})) == 400
        secrets.put(VOLUME, Held(b"l" * 64))
    finally:
        real_vault.ask("POST", "secret/config", {"cas_required": False})
    assert secrets.get(VOLUME) == Held(b"l" * 64)


def test_of_two_writers_one_is_told(real_vault: RealVault, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = VaultHttp.ask

    def overtaken(http: VaultHttp, method: str, path: str, body: object = None, *, token: str = "") -> object:
        if method == "POST":
            real_vault.ask("POST", DATA, {"data": {"evident": "another's"}})
        return honest(http, method, path, body, token=token)

    monkeypatch.setattr(VaultHttp, "ask", overtaken)
    unusable(lambda: secrets.put(VOLUME, HELD), "another writer was first")
    assert real_vault.ask("GET", DATA)["data"]["data"] == {"evident": "another's"}


def test_a_token_that_was_revoked_is_replaced_in_its_file(real_vault: RealVault, secrets: Secrets, tmp_path: Path) -> None:
    real_vault.ask("POST", "auth/token/revoke", {"token": (tmp_path / "token").read_text().strip()})
    for attempt in (lambda: secrets.get(VOLUME), lambda: secrets.put(VOLUME, HELD), lambda: secrets.delete(DISK)):
        unusable(attempt, "HTTP status 403.*expired, revoked")
    write_token(tmp_path / "token", real_vault.token())
    assert secrets.get(VOLUME) == HELD


def test_a_token_ends_unless_it_is_renewed(real_vault: RealVault, secrets: Secrets, tmp_path: Path) -> None:
    brief = real_vault.token(ttl="2s", explicit_max_ttl="0")
    write_token(tmp_path / "token", brief)
    assert secrets.get(VOLUME) == HELD
    real_vault.ask("POST", "auth/token/renew", {"token": brief, "increment": "4s"})
    time.sleep(2.2)
    assert secrets.get(VOLUME) == HELD, "renewed, by whoever does that"
    time.sleep(2.5)
    unusable(lambda: secrets.get(VOLUME), "HTTP status 403")


def test_a_sealed_store_releases_nothing_until_it_is_unsealed(real_vault: RealVault, secrets: Secrets) -> None:
    real_vault.ask("PUT", "sys/seal")
    try:
        for attempt in (lambda: secrets.get(VOLUME), lambda: secrets.delete(DISK)):
            unusable(attempt, "HTTP status 503.*sealed")
    finally:
        real_vault.unseal()
    assert secrets.get(VOLUME) == HELD


def test_a_mount_that_is_not_there_or_of_version_1(real_vault: RealVault, tmp_path: Path) -> None:
    """With a token that may do everything, so that it is not the policy that refuses."""
    root = real_vault.token(policies=["root"], no_default_policy=False)
    real_vault.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    try:
        for mount in ("absent", "old"):
            store = open_vault(real_vault.document(tmp_path, root, mount=mount))
            unusable(lambda s=store: s.put(VOLUME, HELD), r"keys\.vault")  # type: ignore[misc]  # bound now
    finally:
        real_vault.ask("DELETE", "sys/mounts/old")


def test_a_server_that_the_owners_authority_did_not_certify_gets_no_token(real_vault: RealVault, secrets: Secrets, tmp_path: Path) -> None:
    """With the check off (the server's own certificate is trusted) it is asked: `secrets`."""
    (tmp_path / "other").mkdir()
    certify(tmp_path / "other")
    stranger = open_vault(real_vault.document(tmp_path, ca_file="other/certificate.pem"))
    unusable(lambda: stranger.get(VOLUME), "CERTIFICATE_VERIFY_FAILED")
    assert secrets.get(VOLUME) == HELD
