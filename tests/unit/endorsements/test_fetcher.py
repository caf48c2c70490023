"""Fetchers that stack: cached, offline, static, recording, rewriting."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evident.endorsements import amd
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import (
    Ages,
    CachedFetcher,
    Fetched,
    OfflineFetcher,
    RecordingFetcher,
    RewritingFetcher,
    StaticFetcher,
    absent,
    default_ages,
)
from evident.errors import CollateralUnavailable, Malformed
from evident.evidence.snp_report import MILAN, SigningKey

START = datetime(2026, 6, 1, tzinfo=UTC)
URL = "https://kds.example/file"
AGES = Ages(fresh=timedelta(hours=2), usable=timedelta(days=2))


class Clock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


class Server:
    """A fetcher of the test: answers in turn, the last one for ever."""

    def __init__(self, clock: Clock, *answers: bytes | CollateralUnavailable) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.asked: list[str] = []

    def fetch(self, url: str, *, limit: int) -> Fetched:
        assert limit > 0
        self.asked.append(url)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, CollateralUnavailable):
            raise answer
        return Fetched(url, answer, self.clock())


def outage() -> CollateralUnavailable:
    return CollateralUnavailable.of("endorsement.unavailable", expected="an answer", found="none", remedy="Wait.")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_asked_once_while_fresh(cache: Cache, clock: Clock) -> None:
    server = Server(clock, b"one", b"two")
    fetcher = CachedFetcher(cache, server, clock, ages=lambda _: AGES)
    first = fetcher.fetch(URL, limit=10)
    assert (first.body, first.from_cache) == (b"one", False)
    clock.at += timedelta(hours=1)
    again = fetcher.fetch(URL, limit=10)
    assert (again.body, again.from_cache, again.retrieved_at) == (b"one", True, START)
    clock.at += timedelta(hours=2)
    assert fetcher.fetch(URL, limit=10).body == b"two"
    assert len(server.asked) == 2


def test_a_clock_set_back_does_not_make_an_entry_fresh_for_ever(cache: Cache, clock: Clock) -> None:
    fetcher = CachedFetcher(cache, Server(clock, b"one", b"two"), clock, ages=lambda _: AGES)
    fetcher.fetch(URL, limit=10)
    clock.at -= timedelta(days=1)
    assert fetcher.fetch(URL, limit=10).body == b"two"


def test_an_outage_inside_the_cache_age(cache: Cache, clock: Clock) -> None:
    """AT-62: still works inside the cache age, and not beyond."""
    fetcher = CachedFetcher(cache, Server(clock, b"one", outage()), clock, ages=lambda _: AGES)
    fetcher.fetch(URL, limit=10)
    clock.at += timedelta(days=1)
    assert fetcher.fetch(URL, limit=10).from_cache
    clock.at += timedelta(days=2)
    with pytest.raises(CollateralUnavailable):
        fetcher.fetch(URL, limit=10)


def test_absence_is_asked_for_again_only_later(cache: Cache, clock: Clock) -> None:
    server = Server(clock, absent(URL, "HTTP 404"), b"now it is there")
    fetcher = CachedFetcher(cache, server, clock, ages=lambda _: AGES)
    for _ in range(3):
        with pytest.raises(CollateralUnavailable) as caught:
            fetcher.fetch(URL, limit=100)
        assert caught.value.code == "endorsement.absent"
    assert len(server.asked) == 1
    clock.at += timedelta(hours=2)
    assert fetcher.fetch(URL, limit=100).body == b"now it is there"


def test_damage_on_disk_is_fetched_again(cache: Cache, clock: Clock) -> None:
    fetcher = CachedFetcher(cache, Server(clock, b"one", b"one"), clock, ages=lambda _: AGES)
    fetcher.fetch(URL, limit=10)
    (body,) = (cache.root / "bodies").iterdir()
    body.write_bytes(b"0ne")
    again = fetcher.fetch(URL, limit=10)
    assert (again.body, again.from_cache) == (b"one", False)


def test_rubbish_is_not_remembered(cache: Cache, clock: Clock) -> None:
    def plausible(_: str, body: bytes) -> None:
        if body.startswith(b"<html>"):
            raise Malformed.of("x509.der", expected="a certificate", found="a page", remedy="")

    fetcher = CachedFetcher(cache, Server(clock, b"<html>log in", b"good"), clock, ages=lambda _: AGES, plausible=plausible)
    with pytest.raises(CollateralUnavailable) as caught:
        fetcher.fetch(URL, limit=100)
    assert caught.value.code == "endorsement.implausible"
    assert fetcher.fetch(URL, limit=100).body == b"good"


def test_a_cached_body_above_the_limit(cache: Cache, clock: Clock) -> None:
    fetcher = CachedFetcher(cache, Server(clock, b"12345"), clock, ages=lambda _: AGES)
    fetcher.fetch(URL, limit=5)
    with pytest.raises(CollateralUnavailable, match="oversized"):
        fetcher.fetch(URL, limit=4)


def test_threads_ask_once(cache: Cache, clock: Clock) -> None:
    gate = threading.Event()

    class Slow(Server):
        def fetch(self, url: str, *, limit: int) -> Fetched:
            gate.wait(5)
            return super().fetch(url, limit=limit)

    server = Slow(clock, b"one")
    fetcher = CachedFetcher(cache, server, clock, ages=lambda _: AGES)
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(fetcher.fetch(URL, limit=10).body)) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert bodies == [b"one"] * 8
    assert len(server.asked) == 1


ASKER = """
import sys, time
from datetime import datetime, UTC
from pathlib import Path
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import CachedFetcher, Fetched
class Slow:
    def fetch(self, url, *, limit):
        with open(sys.argv[2], "a") as log:
            log.write("asked\\n")
        time.sleep(0.3)
        return Fetched(url, b"body", datetime.now(UTC))
assert CachedFetcher(Cache(Path(sys.argv[1])), Slow(), lambda: datetime.now(UTC)).fetch("https://a.example/x", limit=9).body == b"body"
"""


def test_processes_ask_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    askers = [subprocess.Popen([sys.executable, "-c", ASKER, str(tmp_path / "cache"), str(log)]) for _ in range(4)]
    assert [asker.wait() for asker in askers] == [0] * 4
    assert log.read_text() == "asked\n"


def test_offline_never_asks_and_says_what_to_do(cache: Cache) -> None:
    offline = OfflineFetcher(cache)
    with pytest.raises(CollateralUnavailable, match="evident trust fetch"):
        offline.fetch(URL, limit=10)
    assert not any(cache.root.iterdir())
    cache.store(URL, b"body", START)
    assert offline.fetch(URL, limit=10).from_cache
    cache.store_absent(URL, START)
    with pytest.raises(CollateralUnavailable):
        offline.fetch(URL, limit=10)


def test_recording_then_replaying(clock: Clock) -> None:
    recording = RecordingFetcher(Server(clock, b"one", outage()))
    recording.fetch(URL, limit=10)
    with pytest.raises(CollateralUnavailable):
        recording.fetch(URL + "2", limit=10)
    replay = StaticFetcher(recording.recorded, recording.failed)
    assert replay.fetch(URL, limit=10).body == b"one"
    for url, code in ((URL + "2", "endorsement.unavailable"), (URL + "3", "endorsement.not-recorded")):
        with pytest.raises(CollateralUnavailable) as caught:
            replay.fetch(url, limit=10)
        assert caught.value.code == code
    with pytest.raises(CollateralUnavailable, match="oversized"):
        replay.fetch(URL, limit=1)


def test_a_stand_in_answers_under_its_own_name(cache: Cache, clock: Clock) -> None:
    """What a simulator's service says must never be found under AMD's URL."""
    server = Server(clock, b"TEST")
    fetcher = RewritingFetcher(CachedFetcher(cache, server, clock), {amd.KDS_BASE: "http://127.0.0.1:8080/"})
    url = amd.crl_url(MILAN, SigningKey.VCEK)
    assert fetcher.fetch(url, limit=10).body == b"TEST"
    assert server.asked == ["http://127.0.0.1:8080/vcek/v1/Milan/crl"]
    assert cache.lookup(url) is None
    elsewhere = amd.KDS_BASE + ".evil.example/vcek"
    fetcher.fetch(elsewhere, limit=10)
    assert server.asked[-1] == elsewhere


def test_ages_by_what_a_url_names() -> None:
    for url in (amd.chain_url(MILAN, SigningKey.VLEK), f"{amd.KDS_BASE}/vcek/v1/Milan/00?blSPL=01"):
        assert default_ages(url).usable is None
    for url in (amd.crl_url(MILAN, SigningKey.VCEK), amd.crl_url(MILAN, SigningKey.VLEK), "https://elsewhere.example/tcb"):
        assert default_ages(url).fresh == timedelta(days=1)
