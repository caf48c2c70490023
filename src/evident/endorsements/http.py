"""The fetcher that opens sockets: bounded in time and size, patient with a rate-limited server.

HTTPS with the system's certificate authorities; plain HTTP only to this very machine, where the simulator's key
distribution service listens. Source for what to retry: RFC 9110 sections 10.2.3 (Retry-After) and 15, RFC 6585 section 4.
"""

from __future__ import annotations

import email.utils
import http.client
import random
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from evident.endorsements import amd, intel
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import CachedFetcher, Fetched, Fetcher, OfflineFetcher, RewritingFetcher, absent, oversized
from evident.errors import CollateralUnavailable, UsageError

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
GONE = frozenset({404, 410})
CHUNK = 64 * 1024
USER_AGENT = "evident"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class World:
    """What the fetcher takes from outside: clocks, patience and chance."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    """Seconds."""
    sleep: Callable[[float], None]
    """Seconds."""
    chance: Callable[[], float]
    """A number from 0 to 1."""


def real_world() -> World:
    """The system's clocks, and real waiting."""
    return World(lambda: datetime.now(UTC), time.monotonic, time.sleep, random.SystemRandom().random)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try, in seconds."""

    connect: float = 10.0
    """For one connection and for each read."""
    total: float = 90.0
    """For the whole fetch, waiting included."""
    attempts: int = 5
    attempts_unreachable: int = 2
    """When not even a connection comes about, which patience seldom mends."""
    first_wait: float = 1.0
    """Doubles with every attempt, up to `longest_wait`; the actual wait is a random part of the upper half."""
    longest_wait: float = 30.0


class _Transient(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, found: str, *, wait: float | None = None, attempts: int | None = None) -> None:
        super().__init__(found)
        self.found = found
        self.wait = wait
        """What the server asked for, in seconds."""
        self.attempts = attempts
        """How many attempts such a failure is worth, where fewer than usual."""


class HttpFetcher:
    """`Fetcher` over HTTP. Every failure is `CollateralUnavailable`; a URL of another scheme is a `UsageError`."""

    def __init__(self, world: World, patience: Patience | None = None) -> None:
        self._world = world
        self._patience = patience or Patience()
        self._opener = urllib.request.build_opener(_CarefulRedirects())
        self._local_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _CarefulRedirects())

    def fetch(self, url: str, *, limit: int) -> Fetched:
        opener = self._local_opener if _refuse_scheme(url) in LOOPBACK else self._opener
        deadline = self._world.monotonic() + self._patience.total
        attempt = 0
        while True:
            attempt += 1
            try:
                body = self._attempt(opener, url, limit, deadline)
            except _Transient as failure:
                wait = max(self._wait(attempt), failure.wait or 0.0)
                if attempt >= (failure.attempts or self._patience.attempts) or self._world.monotonic() + wait > deadline:
                    raise _unavailable(url, failure.found, attempt) from None
                self._world.sleep(wait)
            else:
                return Fetched(url, body, self._world.now())

    def _wait(self, attempt: int) -> float:
        longest = min(self._patience.first_wait * 2.0 ** (attempt - 1), self._patience.longest_wait)
        return longest * (0.5 + 0.5 * self._world.chance())

    def _attempt(self, opener: urllib.request.OpenerDirector, url: str, limit: int, deadline: float) -> bytes:
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, "Accept": "*/*"})  # noqa: S310  # scheme checked by fetch
        try:
            with opener.open(request, timeout=self._patience.connect) as response:
                return self._read(response, url, limit, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(url, error.code, error.headers.get("Retry-After")) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise _unavailable(url, str(error.reason), 1) from None
            raise _Transient(str(error.reason), attempts=self._patience.attempts_unreachable) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Transient(str(error) or type(error).__name__) from None

    def _refusal(self, url: str, status: int, retry_after: str | None) -> CollateralUnavailable | _Transient:
        if status in GONE:
            return absent(url, f"HTTP {status}")
        if status not in TRANSIENT:
            return _unavailable(url, f"HTTP {status}", 1)
        wait = _seconds(retry_after, self._world.now())
        return _Transient(f"HTTP {status}" if wait is None else f"HTTP {status}, come back in {wait:.0f} s", wait=wait)

    def _read(self, response: http.client.HTTPResponse, url: str, limit: int, deadline: float) -> bytes:
        announced = response.headers.get("Content-Length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            raise oversized(url, announced[:20], limit)
        body = bytearray()
        while chunk := response.read1(min(CHUNK, limit + 1 - len(body))):
            body += chunk
            if len(body) > limit:
                raise oversized(url, f"more than {limit}", limit)
            if self._world.monotonic() > deadline:
                raise _Transient(f"{len(body)} bytes when the time was up")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) != len(body):
            raise _Transient(f"{len(body)} of {announced[:20]} bytes")
        return bytes(body)


def refuse_implausible(url: str, body: bytes) -> None:
    """Raise `Malformed` or `Unsupported` when `body` cannot be what a vendor's `url` names: a portal's page stays out of the cache."""
    amd.refuse_implausible(url, body)
    intel.refuse_implausible(url, body)


def standard_fetcher(cache: Cache, world: World, *, offline: bool = False, bases: Mapping[str, str] | None = None) -> Fetcher:
    """What the commands use: the cache in front of the network, or the cache alone.

    `bases` sends requests for one server to another, ``{amd.KDS_BASE: "http://127.0.0.1:8080"}``.
    """
    inner: Fetcher = OfflineFetcher(cache)
    if not offline:
        inner = CachedFetcher(cache, HttpFetcher(world), world.now, plausible=refuse_implausible)
    return RewritingFetcher(inner, bases) if bases else inner


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a fetch may go in the first place, and never from the network to this machine."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme, host = _scheme_and_host(newurl)
        if scheme != "https" or not host or host in LOOPBACK:
            fp.close()
            raise _unavailable(req.full_url, f"a redirect to {newurl[:200]}", 1)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _scheme_and_host(url: str) -> tuple[str, str | None]:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme, parts.hostname
    except ValueError:
        return "", None


def _refuse_scheme(url: str) -> str:
    """The host, once the URL is one that may be asked."""
    scheme, host = _scheme_and_host(url)
    if host and (scheme == "https" or (scheme == "http" and host in LOOPBACK)):
        return host
    raise UsageError.of(
        "endorsement.url",
        expected="an https URL, or http to this machine",
        found=url[:200],
        remedy="Give the server's https address.",
    )


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Retry-After as seconds from now: a number, or a date; None when absent or neither."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # no date, or one beyond every calendar
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _unavailable(url: str, found: str, attempts: int) -> CollateralUnavailable:
    tries = "once" if attempts == 1 else f"{attempts} times"
    return CollateralUnavailable.of(
        "endorsement.unavailable",
        expected=f"an answer from {url}",
        found=f"{found} (asked {tries})",
        remedy="Try again later, run `evident trust fetch` where there is a network, or pass the file itself.",
    )
