"""A deployment whose keys are in a Vault: a whole release, nothing secret here, no mixing of stores, and a store that is out of reach."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.spire.stand_in import StandIn
from tests.unit.keys.real_vault import RealVault, write_token
from tests.unit.keys.test_vault import DISK, TOKEN, Fake, faking

from evident.cli import deployments
from evident.errors import EvidentError, Indeterminate, PolicyRefused, UsageError
from evident.guest.agent import Agent
from evident.guest.http import Server
from evident.keys.messages import Volume
from evident.keys.release import check_revoked
from evident.keys.server import KeyServer
from evident.keys.store import VolumeStore
from evident.lifecycle import bring_up, key_place, keyserver, keystore
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.revoke import revoke
from evident.platforms.order import Order

KEY = DiskKey(DISK, b"key of the disk " * 4, {"db": b"a value like no other"})


@pytest.fixture
def fake() -> Iterator[Fake]:
    with faking() as server:
        yield server


@pytest.fixture
def document(fake: Fake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vault")
    write_token(folder / "token", TOKEN)
    said = {"version": 1, "url": f"http://127.0.0.1:{fake.server_address[1]}", "token_file": "token", "mount": "kv", "namespace": "team"}
    (folder / "vault.json").write_text(json.dumps(said))
    return folder / "vault.json"


def there(target: Deployment, document: Path | None) -> Deployment:
    """The same deployment, as a command sees it that was given this document."""
    return replace(target, surroundings=replace(target.surroundings, vault=document))


@pytest.fixture
def shop(owner: Any, document: Path) -> Deployment:
    target = there(owner.up(), document)
    keyserver.register(target, KEY)
    return target


def secret_files(state: Path) -> list[Path]:
    """Every file of the state directory that opens something, or has what does."""
    files = [path for path in state.rglob("*") if path.is_file()]
    plain = [path for path in files if any(each in path.read_bytes() for each in (KEY.key, KEY.key.hex().encode(), *KEY.secrets.values()))]
    return plain + [path for path in files if path.name == "wrapping.key" or path.parent.name == "secrets"]


def released(owner: Any, target: Deployment) -> Volume:
    """What the machine of `target` opens of what the deployment's own key server sends it, all of it over the network."""
    pin = keystore.open_store(target.surroundings).pin
    with KeyServer(("127.0.0.1", 0), keyserver.service(target, owner.state / "cache")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            agent = Agent(Server("127.0.0.1", server.server_address[1], 30), pinned=pin, disk=DISK)
            agent.challenge()
            return agent.release(StandIn(target.driver()._scenario(target.machine)).collect(agent.question))  # type: ignore[attr-defined]  # simulated
        finally:
            server.shutdown()
            thread.join(5)


def events(target: Deployment) -> list[str]:
    return [entry.event for entry in keystore.release_log(target.surroundings).entries()]


def test_the_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVIDENT_VAULT", str(tmp_path / "vault.json"))
    assert deployments.surroundings().vault == tmp_path / "vault.json"
    monkeypatch.delenv("EVIDENT_VAULT")
    assert deployments.surroundings().vault is None


def test_a_whole_release_with_nothing_secret_here(owner: Any, shop: Deployment) -> None:
    volume = released(owner, shop)
    assert (volume.key, volume.secrets) == (KEY.key, KEY.secrets)
    assert events(shop) == ["challenged", "released", "confirmed"]
    assert secret_files(owner.state) == []
    keyserver.register(owner.up("inn"), DiskKey("99999999-2222-3333-4444-555555555555", KEY.key))
    assert {path.name for path in secret_files(owner.state)} == {"wrapping.key", "99999999-2222-3333-4444-555555555555.json"}, "without"


def test_a_whole_release_from_a_real_server(owner: Any, real_vault: RealVault, tmp_path_factory: pytest.TempPathFactory) -> None:
    shop = there(owner.up(), real_vault.document(tmp_path_factory.mktemp("vault")))
    keyserver.register(shop, KEY)
    volume = released(owner, shop)
    assert (volume.key, volume.secrets) == (KEY.key, KEY.secrets)
    assert secret_files(owner.state) == []
    down(shop)
    with pytest.raises(HTTPError, match="404"):
        real_vault.ask("GET", f"secret/metadata/evident/disks/{DISK}")


def test_the_key_servers_process_is_told_of_the_vault(owner: Any, shop: Deployment) -> None:
    process = keyserver.begin(shop, owner.state / "cache")
    try:
        given = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    finally:
        keyserver.end(shop)
    assert given[given.index(b"--vault") + 1].decode() == str(shop.surroundings.vault)


def test_a_vault_out_of_reach_releases_nothing_and_forgets_nothing(owner: Any, shop: Deployment, fake: Fake) -> None:
    fake.answer = (503, b'{"errors":["sealed"]}')
    with pytest.raises(PolicyRefused, match=r"keys\.vault"):
        released(owner, shop)
    assert events(shop) == ["challenged", "denied"]
    fake.answer = None
    assert released(owner, shop).key == KEY.key


OTHERS: tuple[Callable[[Path], Path | None], ...] = (lambda _: None, lambda document: elsewhere(document))


def elsewhere(document: Path) -> Path:
    """Another prefix of the same Vault."""
    path = document.parent / "other.json"
    path.write_text(json.dumps({**json.loads(document.read_text()), "prefix": "another"}))
    return path


@pytest.mark.parametrize("other", OTHERS, ids=["files", "another vault"])
def test_another_store_than_where_its_keys_are(owner: Any, shop: Deployment, document: Path, fake: Fake, other: Any) -> None:
    wrong = there(shop, other(document))
    before = list(fake.versions)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: keyserver.register(wrong, DiskKey("99999999-2222-3333-4444-555555555555", b"new")),
        lambda: keyserver.service(wrong, owner.state / "cache"),
        lambda: keyserver.forget_machine(wrong),
    )
    for attempt in attempts:
        with pytest.raises(UsageError, match=r"keys\.place\.other"):
            attempt()
    assert fake.versions == before
    assert released(owner, shop).key == KEY.key, "nothing is lost by it"


def test_with_that_check_off_keys_stay_for_ever(shop: Deployment, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_place, "check", lambda _: None)
    keyserver.forget_machine(there(shop, None))
    assert fake.versions, "there still"
    assert not keyserver.registered(shop), "and nobody knows whose it is"


def test_keys_in_files_are_not_looked_for_in_a_vault(owner: Any, document: Path) -> None:
    shop = owner.up()
    keyserver.register(shop, KEY)
    with pytest.raises(UsageError, match=r"keys\.place\.other"):
        keyserver.register(there(shop, document), KEY)
    with pytest.raises(UsageError, match=r"keys\.place\.other"):
        down(there(shop, document))
    down(shop)
    assert not [path for path in secret_files(owner.state) if path.parent.name == "secrets"]
    again = there(owner.up(), document)
    keyserver.register(again, KEY)
    assert json.loads((again.directory / key_place.FILE).read_text())["vault"]["mount"] == "kv", "the next life may have another"


def test_a_vault_and_a_wrapping_key(shop: Deployment, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"keys\.place"):
        keystore.open_store(replace(shop.surroundings, wrapping_key=tmp_path / "key"))


def test_down_deletes_there_and_forgets_where(owner: Any, shop: Deployment, fake: Fake) -> None:
    assert down(shop) is not None
    assert fake.versions == []
    assert not (shop.directory / key_place.FILE).exists()
    with pytest.raises(PolicyRefused, match=r"keys\.revoked"):
        check_revoked({"disk": DISK}, VolumeStore(keystore.directory(shop.surroundings)).revocations())


UNREACHABLE: dict[str, tuple[type[EvidentError], str]] = {
    "sealed": (Indeterminate, "keys.vault"),
    "no token": (UsageError, "state.read"),
    "no document": (UsageError, "keys.place.other"),
}


def out_of_reach(how: str, shop: Deployment, document: Path, fake: Fake) -> Deployment:
    if how == "sealed":
        fake.answer = (503, b"")
    elif how == "no token":
        (document.parent / "token").unlink()
    return there(shop, None if how == "no document" else document)


@pytest.mark.parametrize("how", UNREACHABLE)
@pytest.mark.parametrize("verb", ["revoke", "down"])
def test_what_denies_does_so_first(owner: Any, shop: Deployment, document: Path, fake: Fake, how: str, verb: str) -> None:
    """Out of reach, the keys stay in the Vault: denied, known, and deleted by the same command once it answers. Machines are gone."""
    kind, code = UNREACHABLE[how]
    act: Callable[[Deployment], object] = down if verb == "down" else lambda target: revoke(target, "leaked")
    lame = out_of_reach(how, shop, document, fake)
    for _ in range(2):
        with pytest.raises(kind) as left:
            act(lame)
        assert (left.value.code, left.value.findings[-1].code) == (code, "keys.undeleted")
    volumes = VolumeStore(keystore.directory(shop.surroundings))
    with pytest.raises(PolicyRefused, match=r"keys\.revoked"):
        check_revoked({"disk": DISK}, volumes.revocations())
    assert shop.journal.state is (State.DESTROYING if verb == "down" else State.REVOKED)
    assert shop.machine.exists() is (verb == "revoke")
    assert not list(shop.directory.glob("farewell-*")), "no record says that it is done"
    assert volumes.disks_under("shop") == (DISK,)
    assert fake.versions
    fake.answer = None
    write_token(document.parent / "token", TOKEN)
    act(shop)
    assert fake.versions == []
    assert shop.journal.state is (State.DESTROYED if verb == "down" else State.REVOKED)


def test_one_without_keys_ends_without_a_store(owner: Any, tmp_path: Path) -> None:
    assert down(there(owner.up(), tmp_path / "absent.json")) is not None


def test_a_vault_that_is_gone_for_good(shop: Deployment, document: Path, fake: Fake) -> None:
    """Its owner says so by hand, as the documentation tells."""
    fake.answer = (503, b"")
    with pytest.raises(Indeterminate, match=r"keys\.undeleted"):
        down(shop)
    (shop.directory / key_place.FILE).unlink()
    assert down(there(shop, None)) is not None


def test_up_carries_on_once_the_vault_answers(owner: Any, document: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bring_up, "serve", lambda *_: None)
    shop, release = there(owner.deployment(), document), Release(KEY, owner.state / "cache")
    fake.answer = (503, b"")
    with pytest.raises(Indeterminate, match=r"keys\.vault"):
        bring_up.up(shop, "simulated", Order(), release=release)
    assert shop.journal.state is State.PLANNED
    fake.answer = None
    bring_up.up(shop, "simulated", Order(), release=release)
    assert released(owner, shop).key == KEY.key


def test_a_replaced_machine_stays_known_until_its_key_is_deleted(owner: Any, shop: Deployment, fake: Fake) -> None:
    fake.answer = (503, b"")
    with pytest.raises(Indeterminate, match=r"keys\.vault"):
        keyserver.forget_machine(shop)
    assert keyserver.registered(shop), "so that the next command finds it"
    fake.answer = None
    keyserver.forget_machine(shop)
    assert not keyserver.registered(shop)
    assert fake.versions == []
