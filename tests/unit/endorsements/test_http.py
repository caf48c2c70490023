"""The fetcher on a real socket: a loopback server with bad days."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evident.endorsements import amd
from evident.endorsements.cache import Cache
from evident.endorsements.http import HttpFetcher, Patience, World, standard_fetcher
from evident.errors import CollateralUnavailable, UsageError
from evident.evidence.snp_report import MILAN, SigningKey

NOW = datetime(2026, 6, 1, tzinfo=UTC)
Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """Answers requests in turn, the last answer for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.paths: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.paths.append(self.path)
                site.answers[min(len(site.paths), len(site.answers)) - 1](self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/file"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def says(self, *answers: Answer) -> None:
        self.answers[:] = answers


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.thread.start()
    yield site
    site.server.shutdown()
    site.thread.join()
    site.server.server_close()


class FakeWorld:
    """Time passes only by sleeping, and by `tick` seconds with every look at the clock."""

    def __init__(self, chance: float = 1.0, tick: float = 0.0) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []
        self.tick = tick
        self.world = World(lambda: NOW, self.monotonic, self.sleep, lambda: chance)

    def monotonic(self) -> float:
        self.seconds += self.tick
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        length = headers.pop("content_length", str(len(body)))
        handler.send_header("Content-Length", length)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(body)

    return answer


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Accept, and say nothing until the other side gives up."""
    handler.connection.settimeout(5)
    with contextlib.suppress(OSError):
        handler.rfile.read(1)


def fetch_failing(site: Site, world: FakeWorld, patience: Patience | None = None, limit: int = 100) -> CollateralUnavailable:
    with pytest.raises(CollateralUnavailable) as caught:
        HttpFetcher(world.world, patience).fetch(site.url, limit=limit)
    return caught.value


def test_a_body(site: Site) -> None:
    site.says(reply(200, b"body"))
    fetched = HttpFetcher(FakeWorld().world).fetch(site.url, limit=4)
    assert (fetched.body, fetched.url, fetched.retrieved_at, fetched.from_cache) == (b"body", site.url, NOW, False)


def test_rate_limit_is_honoured(site: Site) -> None:
    world = FakeWorld()
    site.says(
        reply(429, Retry_After="7"),
        reply(503, Retry_After="Mon, 01 Jun 2026 00:00:11 GMT"),
        reply(429, Retry_After="soon"),
        reply(429, Retry_After="Mon, 01 Jan 99999999999999999999 00:00:00 GMT"),
        reply(200, b"body"),
    )
    assert HttpFetcher(world.world).fetch(site.url, limit=100).body == b"body"
    assert world.slept == [7.0, 11.0, 4.0, 8.0]


def test_waits_double_and_vary(site: Site) -> None:
    site.says(reply(500))
    for chance, waits in ((1.0, [1.0, 2.0, 4.0, 8.0]), (0.0, [0.5, 1.0, 2.0, 4.0])):
        world = FakeWorld(chance)
        error = fetch_failing(site, world)
        assert world.slept == waits
        assert error.code == "endorsement.unavailable"
        assert "asked 5 times" in error.findings[0].found


def test_a_server_that_asks_for_too_long_a_wait(site: Site) -> None:
    world = FakeWorld()
    site.says(reply(429, Retry_After="86400"))
    assert "come back in 86400 s" in fetch_failing(site, world).findings[0].found
    assert world.slept == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "endorsement.absent"), (410, "endorsement.absent"), (400, "endorsement.unavailable"), (403, "endorsement.unavailable")],
)
def test_answers_that_will_not_change_are_not_asked_for_again(site: Site, status: int, code: str) -> None:
    site.says(reply(status))
    assert fetch_failing(site, FakeWorld()).code == code
    assert len(site.paths) == 1


def test_bodies_are_bounded(site: Site) -> None:
    site.says(reply(200, b"x" * 101))
    assert fetch_failing(site, FakeWorld()).code == "endorsement.oversized"

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x" * 65536)

    site.says(endless)
    assert fetch_failing(site, FakeWorld()).code == "endorsement.oversized"


def test_a_body_cut_short_is_fetched_again(site: Site) -> None:
    site.says(reply(200, b"bo", content_length="4"), reply(200, b"body"))
    assert HttpFetcher(FakeWorld().world).fetch(site.url, limit=100).body == b"body"
    assert len(site.paths) == 2


def test_silence_ends(site: Site) -> None:
    site.says(hang)
    error = fetch_failing(site, FakeWorld(), Patience(connect=0.1, attempts=2))
    assert "timed out" in error.findings[0].found
    assert len(site.paths) == 2


def test_a_trickle_ends(site: Site) -> None:
    """Bytes that keep coming, each in time, do not hold us beyond the total."""
    site.says(reply(200, b"x" * 50))
    error = fetch_failing(site, FakeWorld(tick=100.0), Patience(total=90.0))
    assert "when the time was up" in error.findings[0].found


def test_nobody_there(site: Site) -> None:
    world = FakeWorld()
    with pytest.raises(CollateralUnavailable) as caught:
        HttpFetcher(world.world).fetch("http://127.0.0.1:9/file", limit=1)
    assert "asked 2 times" in caught.value.findings[0].found
    assert len(world.slept) == 1


@pytest.mark.parametrize("url", ["http://kds.example/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "https:///x", "http://[::1", "kds"])
def test_urls_that_are_not_asked(url: str) -> None:
    with pytest.raises(UsageError):
        HttpFetcher(FakeWorld().world).fetch(url, limit=1)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "http://kds.example/x", "http://127.0.0.1:1/x", "https://localhost/x", "ftp://a.example/"]
)
def test_redirects_that_are_not_followed(site: Site, target: str) -> None:
    site.says(reply(302, Location=target))
    assert fetch_failing(site, FakeWorld()).code == "endorsement.unavailable"
    assert len(site.paths) == 1


def test_the_standard_stack(site: Site, tmp_path: Path, root: Any) -> None:
    """A stand-in for AMD's service, the cache before it, and afterwards the cache alone."""
    url, cache, world = amd.crl_url(MILAN, SigningKey.VCEK), Cache(tmp_path), FakeWorld().world
    crl = root.crl()  # PSS signs with a new salt every time
    bases = {amd.KDS_BASE: site.url.removesuffix("/file")}
    site.says(reply(200, b"<html>please log in</html>"), reply(200, crl))
    online = standard_fetcher(cache, world, bases=bases)
    offline = standard_fetcher(cache, world, offline=True, bases=bases)
    with pytest.raises(CollateralUnavailable, match="evident trust fetch"):
        offline.fetch(url, limit=10_000)
    assert site.paths == []
    with pytest.raises(CollateralUnavailable, match="implausible"):
        online.fetch(url, limit=10_000)
    assert online.fetch(url, limit=10_000).body == crl
    assert online.fetch(url, limit=10_000).from_cache
    assert offline.fetch(url, limit=10_000).from_cache
    assert site.paths == ["/vcek/v1/Milan/crl"] * 2
