"""Patience, openings, and the errors that every cloud shares."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evident.errors import EvidentError, Indeterminate, UsageError
from evident.platforms import cloud
from evident.platforms.cloud import Patience
from evident.platforms.opening import Opening


class Clock:
    def __init__(self) -> None:
        self.now, self.slept, self.said = 0.0, list[float](), list[str]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, jitter: float = 1.0) -> Patience:
        return Patience(lambda: self.now, self.sleep, lambda: jitter, self.said.append)


@pytest.mark.parametrize(
    ("make", "code", "exit_code"),
    [
        (cloud.auth, "cloud.auth", 2),
        (cloud.quota, "cloud.quota", 2),
        (cloud.conflict, "cloud.conflict", 2),
        (cloud.unsupported, "cloud.unsupported", 20),
        (cloud.capacity, "cloud.capacity", 12),
        (cloud.transient, "cloud.transient", 12),
        (cloud.timeout, "cloud.timeout", 12),
    ],
)
def test_the_errors_are_on_the_tree(make: Callable[[str, str], EvidentError], code: str, exit_code: int) -> None:
    error = make("this", "do that")
    assert (error.code, error.exit_code, error.findings[0].found, error.findings[0].remedy) == (code, exit_code, "this", "do that")


def test_only_the_transient_is_asked_again() -> None:
    for make in (cloud.auth, cloud.quota, cloud.conflict, cloud.capacity):
        clock, asked = Clock(), []

        def refuse(make: Callable[[str, str], EvidentError] = make, asked: list[None] = asked) -> None:
            asked.append(None)
            raise make("no", "nothing")

        with pytest.raises(EvidentError):
            clock.patience().insist("asking", refuse)
        assert (len(asked), clock.slept) == (1, [])


def test_pauses_grow_and_are_bounded() -> None:
    clock = Clock()

    def refuse() -> None:
        raise cloud.transient("busy", "wait")

    with pytest.raises(Indeterminate):
        clock.patience().insist("asking", refuse)
    assert clock.slept == [2, 4, 8, 16, 30, 30]
    low = Clock()
    with pytest.raises(Indeterminate):
        low.patience(jitter=0.0).insist("asking", refuse)
    assert low.slept == [1, 2, 4, 8, 15, 15]


def test_polling_ends_with_an_answer_or_the_deadline_and_reports() -> None:
    clock = Clock()
    assert clock.patience().until("waiting", lambda: "there" if clock.now >= 60 else None, within=100) == "there"
    assert clock.said == ["waiting: 30 s"]
    with pytest.raises(Indeterminate) as caught:
        clock.patience().until("waiting", lambda: None, within=100)
    assert caught.value.code == "cloud.timeout"


@pytest.mark.parametrize("peer", ["203.0.113.1/24", "everywhere", "", "300.0.0.0/8", "2001:db8::1/32"])
def test_a_peer_is_a_network(peer: str) -> None:
    with pytest.raises(UsageError, match=r"cloud\.opening"):
        Opening("in", "tcp", 443, peer)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_is_one(port: int) -> None:
    with pytest.raises(UsageError, match=r"cloud\.opening"):
        Opening("in", "tcp", port, "0.0.0.0/0")


@pytest.mark.parametrize(
    ("peer", "private"),
    [
        ("10.1.0.0/16", True),
        ("192.168.0.7/32", True),
        ("fd00::/8", True),
        ("0.0.0.0/0", False),
        ("8.0.0.0/7", False),
        ("203.0.113.0/24", False),
    ],
)
def test_what_needs_no_public_address(peer: str, private: bool) -> None:
    assert Opening("in", "tcp", 443, peer).private is private


def test_a_cloud_that_says_how_long_to_stay_away_is_heeded() -> None:
    clock, pauses = Clock(), [0.0, 47.0, 99999.0]

    def call() -> str:
        if pauses:
            raise cloud.transient("throttled", "wait", after=pauses.pop(0))
        return "done"

    assert clock.patience().insist("asking", call) == "done"
    assert clock.slept == [2.0, 47.0, cloud.LONGEST_PAUSE]
