"""AT-05: reuse, an expired challenge and another session's challenge are refused, each under its own code."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evident.errors import NotAuthentic
from evident.lifecycle.challenges import KEPT, LIFETIME, NONCE_BYTES, Challenges


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 6, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def challenges(tmp_path: Path, clock: Clock) -> Challenges:
    return Challenges(tmp_path / "challenges", clock=clock, randomness=os.urandom)


def refusal(challenges: Challenges, session: str, nonce: bytes) -> str:
    with pytest.raises(NotAuthentic) as caught:
        challenges.redeem(session, nonce)
    return caught.value.code


def test_every_challenge_is_fresh_and_long(challenges: Challenges) -> None:
    nonces = {challenges.issue("shop") for _ in range(20)}
    assert len(nonces) == 20
    assert {len(nonce) for nonce in nonces} == {NONCE_BYTES} == {32}


def test_a_challenge_is_good_once(challenges: Challenges) -> None:
    nonce = challenges.issue("shop")
    challenges.redeem("shop", nonce)
    assert refusal(challenges, "shop", nonce) == "challenge.reused"


def test_an_unknown_challenge(challenges: Challenges) -> None:
    assert refusal(challenges, "shop", bytes(32)) == "challenge.unknown"


def test_another_sessions_challenge_is_refused_and_spent(challenges: Challenges) -> None:
    nonce = challenges.issue("shop")
    assert refusal(challenges, "bank", nonce) == "challenge.other-session"
    assert refusal(challenges, "shop", nonce) == "challenge.reused"


@pytest.mark.parametrize(("late", "good"), [(timedelta(0), True), (LIFETIME, True), (LIFETIME + timedelta(microseconds=1), False)])
def test_a_challenge_expires(challenges: Challenges, clock: Clock, late: timedelta, good: bool) -> None:
    nonce = challenges.issue("shop")
    clock.now += late
    if good:
        challenges.redeem("shop", nonce)
    else:
        assert refusal(challenges, "shop", nonce) == "challenge.expired"


def test_a_clock_that_went_back_is_no_excuse(challenges: Challenges, clock: Clock) -> None:
    nonce = challenges.issue("shop")
    clock.now -= timedelta(seconds=1)
    assert refusal(challenges, "shop", nonce) == "challenge.expired"


def test_old_challenges_are_forgotten(challenges: Challenges, clock: Clock, tmp_path: Path) -> None:
    spent, left = challenges.issue("shop"), challenges.issue("shop")
    challenges.redeem("shop", spent)
    clock.now += KEPT + timedelta(seconds=1)
    challenges.issue("shop")
    assert len(list((tmp_path / "challenges").iterdir())) == 1
    assert {refusal(challenges, "shop", nonce) for nonce in (spent, left)} == {"challenge.unknown"}


def test_of_many_at_once_one_wins(challenges: Challenges) -> None:
    nonce = challenges.issue("shop")
    outcomes: list[str] = []

    def redeem() -> None:
        try:
            challenges.redeem("shop", nonce)
            outcomes.append("good")
        except NotAuthentic as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["challenge.reused"] * 7 + ["good"]
