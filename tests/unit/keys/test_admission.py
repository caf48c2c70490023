"""What anybody may take of a key server, and put into its log and its state (AT-62): each bound off first, then on."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evident.errors import EvidentError
from evident.keys import release
from evident.keys.admission import NAMES, Places, Rate
from evident.keys.log import ReleaseLog
from evident.keys.messages import EvidenceRequest
from evident.keys.release import ReleaseService
from evident.keys.store import RootVolume, VolumeStore, WrappedSecrets
from evident.lifecycle import challenges
from evident.lifecycle.challenges import OF_ONE_SESSION, Challenges

DISK, UNKNOWN = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
AT = datetime(2026, 11, 22, tzinfo=UTC)
FLOOD = 200


def test_a_peer_gets_a_burst_and_then_its_rate() -> None:
    now = [0.0]
    rate = Rate(2.0, 3, clock=lambda: now[0])
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False]
    assert rate.take("b"), "another peer has its own"
    now[0] = 0.5
    assert [rate.take("a") for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [rate.take("a") for _ in range(4)] == [True, True, True, False], "no more than a burst, however long it was quiet"


def test_peers_that_are_remembered_are_bounded() -> None:
    rate = Rate(1.0, 1, clock=lambda: 0.0)
    assert all(rate.take(str(number)) for number in range(NAMES + 10))
    assert len(rate._left) == NAMES


def test_one_peer_leaves_places_to_the_others() -> None:
    places = Places(3, 2)
    assert [places.enter("a") for _ in range(3)] == [True, True, False]
    assert [places.enter("b") for _ in range(2)] == [True, False]
    places.leave("a")
    assert places.enter("b")
    for peer in ("a", "b", "b"):
        places.leave(peer)
    assert [places.enter("a") for _ in range(2)] == [True, True]


def service(root: Path) -> ReleaseService:
    volumes = VolumeStore(root)
    volumes.put(RootVolume(1, DISK, "image"))
    return ReleaseService(
        volumes,
        WrappedSecrets(root, bytes(32)),
        surety=None,  # type: ignore[arg-type]  # no evidence gets so far
        challenges=Challenges(root / "challenges", clock=lambda: AT, randomness=os.urandom),
        log=ReleaseLog(root / "log.jsonl", clock=lambda: AT),
        signer=None,  # type: ignore[arg-type]
        clock=lambda: AT,
    )


def flood(asked: ReleaseService) -> None:
    for _ in range(FLOOD):
        with pytest.raises(EvidentError):
            asked.release(EvidenceRequest(1, DISK, bytes(32), b"key", {}))


@pytest.mark.attack("AT-62", "Whoever reaches the key server fills its log with refusals.", "unlisted", "succeeds")
def test_without_a_bound_every_refusal_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "LINES_AT_ONCE", math.inf)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    asked = service(tmp_path)
    flood(asked)
    assert len(asked._log.entries()) == FLOOD


@pytest.mark.attack("AT-62", "Whoever reaches the key server fills its log with refusals.", "unlisted", "refused")
def test_refusals_that_come_too_fast_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(release, "LINES_PER_SECOND", 0.0)
    asked = service(tmp_path)
    flood(asked)
    asked.challenge(DISK)
    assert len(asked._log.entries()) == release.LINES_AT_ONCE
    asked._append("confirmed", DISK)
    last = asked._log.entries()[-2:]
    assert [(entry.event, entry.codes) for entry in last] == [
        ("unlisted", ("challenged=1", f"denied={FLOOD - release.LINES_AT_ONCE}")),
        ("confirmed", ()),
    ], "what counts is always there"


def test_a_disk_that_nobody_registered_leaves_no_challenge_behind(tmp_path: Path) -> None:
    with pytest.raises(EvidentError, match=r"keys\.disk-unknown"):
        service(tmp_path).challenge(UNKNOWN)
    assert not (tmp_path / "challenges").exists()


@pytest.mark.attack("AT-62", "Challenges are asked for and never answered.", "challenge.unknown")
@pytest.mark.parametrize("bounded", [False, True])
def test_challenges_of_one_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounded: bool) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    if not bounded:
        monkeypatch.setattr(challenges, "OF_ONE_SESSION", 10**9)
    issued = Challenges(tmp_path, clock=_ticking(), randomness=os.urandom)
    other = issued.issue("bank")
    nonces = [issued.issue("shop") for _ in range(OF_ONE_SESSION + 10)]
    assert len(list(tmp_path.iterdir())) == 1 + (OF_ONE_SESSION if bounded else len(nonces))
    issued.redeem("shop", nonces[-1])
    issued.redeem("bank", other)
    if bounded:
        with pytest.raises(EvidentError, match=r"challenge\.unknown"):
            issued.redeem("shop", nonces[0])


def _ticking() -> Any:
    count = iter(range(10**6))
    return lambda: AT.replace(microsecond=next(count) % 10**6)
