"""A deployment's end: nothing of it is left or gets anything, and exactly one signed record says what there was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from evident.audit import farewell as record
from evident.audit.farewell import Farewell
from evident.errors import Malformed, NotAuthentic, PolicyRefused
from evident.keys.release import check_revoked
from evident.lifecycle import keyserver, keystore, specification
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.revoke import revoke
from evident.lifecycle.specification import Image, Specification
from evident.platforms import cloud_driver
from evident.platforms.resources import Resource, ResourceJournal, Stage

DISK = "11111111-2222-3333-4444-555555555555"
Kill = Callable[[Callable[[], object], int], bool]


@pytest.fixture
def shop(owner: Any) -> Deployment:
    target: Deployment = owner.up()
    keyserver.register(target, DiskKey(DISK, bytes(64)))
    return target


def said(owner: Any, target: Deployment, life: int = 1) -> Farewell:
    data = (target.directory / f"farewell-{life}.json").read_bytes()
    return record.open_farewell(data, [owner.key.public]).farewell


def test_what_was_destroyed_and_what_it_had_proved(owner: Any, shop: Deployment) -> None:
    answer = owner.attest(shop)
    path = down(shop)
    assert path is not None
    found = said(owner, shop)
    assert (found.deployment, found.life, found.platform, found.surveyed, found.notes) == ("shop", 1, "simulated", False, ())
    assert found.destroyed == ("the machine's files",)
    assert set(found.denied) == {f"disk={DISK}", f"report_id={answer.outcome.claims['report_id']}"}
    assert found.last is not None
    assert (found.last.decision, found.last.nominal, found.last.trustworthy, found.last.simulated) == ("accepted", 4, 4, True)
    assert found.last.sha256 == hashlib.sha256(answer.bundle).digest()
    log = keystore.open_store(owner.surroundings).log
    assert found.release_log is not None
    assert (found.release_log.lines, found.release_log.sha256) == log.head()
    lines = shop.journal.path.read_bytes().splitlines(keepends=True)
    assert found.journal.lines == len(lines) - 1
    assert hashlib.sha256(b"".join(lines[:-1])).digest() == found.journal.sha256
    assert shop.journal.events()[-1].detail == {"record": path.name}


def test_keys_are_gone_and_identities_banned(owner: Any, shop: Deployment) -> None:
    report_id = owner.attest(shop).outcome.claims["report_id"]
    store = keystore.open_store(owner.surroundings)
    assert store.secrets.get(store.volumes.get(DISK)).key == bytes(64)
    down(shop)
    for known in ({"disk": DISK}, {"report_id": report_id}):
        with pytest.raises(PolicyRefused, match=r"keys\.revoked"):
            check_revoked(known, store.volumes.revocations())
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        store.secrets.get(store.volumes.get(DISK))


def test_neither_revoking_nor_destroying_needs_the_wrapping_key(owner: Any, shop: Deployment) -> None:
    """It may be sealed elsewhere, or lost, on the day when everything has to be denied."""
    wrapping = keystore.directory(owner.surroundings) / "wrapping.key"
    wrapping.unlink()
    wrapping.mkdir()
    revoke(shop, "leaked")
    assert down(shop) is not None
    assert not list((keystore.directory(owner.surroundings) / "secrets").glob("*.json"))
    assert said(owner, shop).notes == ()


def test_one_that_was_never_attested_has_a_record_too(owner: Any) -> None:
    target = owner.up()
    down(target)
    assert said(owner, target).last is None


def test_every_life_of_a_name_has_its_own_record(owner: Any, shop: Deployment) -> None:
    owner.attest(shop)
    down(shop)
    assert down(shop) is None
    owner.up()
    assert down(shop) == shop.directory / "farewell-2.json"
    assert (said(owner, shop).life, said(owner, shop, 2).life) == (1, 2)
    assert said(owner, shop, 2).last is None, "the answers of the life before are not this one's"


def test_resources_of_a_cloud_are_named(owner: Any, shop: Deployment) -> None:
    journal = ResourceJournal(shop.machine / cloud_driver.JOURNAL, owner.surroundings.clock)
    asked = Resource("instance", "evident-shop-1", "key-1", {}, "here", "0" * 64, Stage.ASKED)
    journal.write(asked)
    journal.write(Resource("instance", "evident-shop-1", "key-1", {}, "here", "0" * 64, Stage.MADE, "i-0123"))
    journal.write(Resource("volume", "evident-shop-2", "key-2", {}, "here", "0" * 64, Stage.ASKED))
    journal.write(Resource("group", "evident-shop-3", "key-3", {}, "here", "0" * 64, Stage.ASKED))
    journal.write(Resource("group", "evident-shop-3", "key-3", {}, "here", "0" * 64, Stage.GONE))
    down(shop)
    found = said(owner, shop)
    assert found.destroyed == ("the machine's files", "instance i-0123", "volume evident-shop-2")
    assert found.surveyed


@pytest.mark.parametrize("survived", range(9))
def test_killed_anywhere_and_repeated_it_leaves_one_record(owner: Any, shop: Deployment, killed: Kill, survived: int) -> None:
    owner.attest(shop)
    assert killed(lambda: down(shop), survived)
    down(shop)
    assert shop.journal.state is State.DESTROYED
    assert not shop.machine.exists()
    assert len(list(shop.directory.glob("farewell-*"))) == 1
    found = said(owner, shop)
    assert found.destroyed == ("the machine's files",)
    assert len(found.denied) == 2
    assert [each.codes for each in keystore.open_store(owner.surroundings).log.entries()].count((f"disk={DISK}",)) in (1, 2)


def test_a_record_that_was_written_is_kept(owner: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the record and before the journal's last line: somebody may have read it already."""
    honest = Deployment.record

    def dies(target: Deployment, state: State, **detail: str) -> None:
        if state is State.DESTROYED:
            raise KeyboardInterrupt
        honest(target, state, **detail)

    with monkeypatch.context() as patch:
        patch.setattr(Deployment, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            down(shop)
    before = (shop.directory / "farewell-1.json").read_bytes()
    owner.now = owner.now.replace(year=owner.now.year + 1)
    down(shop)
    assert (shop.directory / "farewell-1.json").read_bytes() == before
    assert said(owner, shop).at.year == owner.now.year - 1


def test_the_record_of_another_life_does_not_stand(owner: Any, shop: Deployment) -> None:
    first = down(shop)
    assert first is not None
    owner.up()
    (shop.directory / "farewell-2.json").write_bytes(first.read_bytes())
    down(shop)
    assert said(owner, shop, 2).life == 2


@pytest.mark.parametrize("planted", [b"", b"rubbish", b"{}"])
def test_a_file_that_is_no_record_of_ours_is_replaced(owner: Any, shop: Deployment, planted: bytes) -> None:
    (shop.directory / "farewell-1.json").write_bytes(planted)
    down(shop)
    assert said(owner, shop).deployment == "shop"


def test_damage_elsewhere_is_noted_and_does_not_keep_it_alive(owner: Any, shop: Deployment) -> None:
    answer = owner.attest(shop)
    answer.bundle_path.unlink()
    log = keystore.directory(owner.surroundings) / "release.jsonl"
    log.write_bytes(b'{"rubbish": 1}\n')
    down(shop)
    found = said(owner, shop)
    assert (found.last, found.release_log) == (None, None)
    assert [note.partition(":")[0] for note in found.notes] == ["last answer", "release log"]


def test_a_record_that_was_changed_or_signed_by_another_is_refused(owner: Any, shop: Deployment) -> None:
    path = down(shop)
    assert path is not None
    data = path.read_bytes()
    with pytest.raises(NotAuthentic, match=r"bundle\.signer-untrusted"):
        record.open_farewell(data, [])
    for at in range(0, len(data), 97):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        with pytest.raises((NotAuthentic, Malformed)):
            record.open_farewell(changed, [owner.key.public])


def test_its_document_is_not_the_next_ones(owner: Any, shop: Deployment) -> None:
    specification.keep(shop, Specification(1, "shop", Image("unused", bytes(32)), on_refusal="destroy"))
    down(shop)
    owner.up()
    assert specification.kept(shop) is None
