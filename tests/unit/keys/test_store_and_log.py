"""Terms, keys, revocations and the release log: replaced whole, readable by their owner, and damage named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.errors import Malformed, NotAuthentic, PolicyRefused, UsageError
from evident.keys.log import ReleaseLog
from evident.keys.store import Held, Revocation, RootVolume, VolumeStore, WrappedSecrets, terms_digest

DISK = "11111111-2222-3333-4444-555555555555"
VOLUME = RootVolume(1, DISK, "image", root_hash=b"r" * 32)
AT = datetime(2026, 11, 22, tzinfo=UTC)


def test_terms_come_back_as_they_were(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    store.put(VOLUME)
    assert store.get(DISK) == VOLUME
    assert store.disks() == (DISK,)
    store.delete(DISK)
    with pytest.raises(PolicyRefused, match=r"keys\.disk-unknown"):
        store.get(DISK)


@pytest.mark.parametrize("disk", ["", "../etc/passwd", "A" * 8, "a/b", "x" * 65, "ä", "a b", "."])
def test_names_stay_inside_the_store(tmp_path: Path, disk: str) -> None:
    with pytest.raises(Malformed, match=r"keys\.message\.disk"):
        VolumeStore(tmp_path).get(disk)
    with pytest.raises(Malformed):
        RootVolume(1, disk, "image")


def test_terms_name_an_svid_by_a_spiffe_id() -> None:
    RootVolume(1, DISK, "image", spiffe_id="spiffe://example.org/shop")
    with pytest.raises(Malformed, match=r"spiffe\.id"):
        RootVolume(1, DISK, "image", spiffe_id="https://example.org/shop")


def test_keys_from_before_terms_named_svids_are_still_under_them() -> None:
    before = "7a95701474b51bf54430a9ec8a6ffc107066ce2c5372c860e35ac00074ec4bbc"
    assert terms_digest(RootVolume(1, "d", "image")).hex() == before
    assert terms_digest(RootVolume(1, "d", "image", spiffe_id="spiffe://example.org/shop")).hex() != before


def test_a_key_opens_under_its_own_terms_and_wrapping_key_alone(tmp_path: Path) -> None:
    secrets = WrappedSecrets(tmp_path, b"w" * 32)
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    secrets.put(VOLUME, Held(b"k" * 64))
    assert secrets.get(VOLUME) == Held(b"k" * 64)
    for other, terms in ((secrets, replace(VOLUME, nominal=0)), (WrappedSecrets(tmp_path, b"v" * 32), VOLUME)):
        with pytest.raises(NotAuthentic, match=r"keys\.store\.altered"):
            other.get(terms)
    secrets.delete(DISK)
    with pytest.raises(PolicyRefused):
        secrets.get(VOLUME)
    with pytest.raises(UsageError, match=r"keys\.wrapping-key"):
        WrappedSecrets(tmp_path, b"short")


def test_secrets_are_kept_with_the_key(tmp_path: Path) -> None:
    secrets, held = WrappedSecrets(tmp_path, b"w" * 32), Held(b"", {"db": b"a value", "API_KEY": bytes(range(256))})
    secrets.put(VOLUME, held)
    assert secrets.get(VOLUME) == held
    assert "a value" not in repr(held)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "x" * 65, "-x", "\n"])
def test_a_secret_s_name_is_a_plain_file_s(name: str) -> None:
    with pytest.raises(Malformed, match=r"secrets\.name"):
        RootVolume(1, DISK, "image", secrets=(name,))


def test_files_are_their_owners(tmp_path: Path) -> None:
    VolumeStore(tmp_path / "s").put(VOLUME)
    WrappedSecrets(tmp_path / "s", b"w" * 32).put(VOLUME, Held(b"k" * 64))
    VolumeStore(tmp_path / "s").revoke(Revocation("disk", DISK, AT, "lost"))
    for path in (tmp_path / "s").rglob("*.json"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert (b"k" * 64).hex().encode() not in path.read_bytes()


def test_a_revocation_is_kept_once(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    for _ in range(2):
        store.revoke(Revocation("chip_id", "00", AT, "stolen"))
    assert [item.name for item in store.revocations()] == ["chip_id"]


def log_of(path: Path) -> ReleaseLog:
    log = ReleaseLog(path / "release.jsonl", clock=lambda: AT)
    for event in ("challenged", "released", "confirmed"):
        log.append(event, DISK, nonce=b"n" * 32)  # type: ignore[arg-type]
    return log


def test_entries_are_chained(tmp_path: Path) -> None:
    entries = log_of(tmp_path).entries()
    assert [entry.event for entry in entries] == ["challenged", "released", "confirmed"]
    assert len({entry.previous for entry in entries}) == 3


@pytest.mark.attack("BW-19", "Somebody takes a release out of the log, changes one, or moves one.", "keys.log.chain", "refused")
@pytest.mark.parametrize("damage", [(0, 2), (1, 2), (1, 0, 2), (0, 1, 1, 2)], ids=["cut", "head", "order", "twice"])
def test_what_was_logged_stays(tmp_path: Path, damage: tuple[int, ...]) -> None:
    log = log_of(tmp_path)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[index] for index in damage))
    with pytest.raises(Malformed, match=r"keys\.log\.chain"):
        log.entries()


def test_a_torn_line_is_no_decision(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    with log.path.open("ab") as stream:
        stream.write(b'{"at": "20')
    assert len(log.entries()) == 3
    log.append("denied", DISK, codes=("launch.kernel",))
    assert [entry.event for entry in log.entries()][-1] == "denied"
    with log.path.open("r+b") as stream:
        stream.write(b"X")
    with pytest.raises(Malformed):
        log.entries()


def test_a_log_that_the_system_withholds_is_said_so(tmp_path: Path) -> None:
    log = ReleaseLog(tmp_path / "release.jsonl", clock=lambda: AT)
    log.path.mkdir()
    for ask in (lambda: log.append("denied", DISK), log.entries, log.head):
        with pytest.raises(UsageError, match=r"journal\.unusable"):
            ask()
