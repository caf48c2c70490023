"""The one seam through which bodies from vendors reach Evident, and the fetchers that need no network.

`HttpFetcher` (in `evident.endorsements.http`) is the only one that opens a socket. They stack:

    RecordingFetcher(RewritingFetcher(CachedFetcher(cache, HttpFetcher(...), clock), {KDS_BASE: "http://127.0.0.1:8080"}))

A body is never trusted because it was fetched or cached: whoever asked for it checks its signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from evident.endorsements.cache import Cache, Entry
from evident.errors import CollateralUnavailable, EvidentError, Finding

ABSENT = "endorsement.absent"
"""Code of the error that says: the server answered, and has nothing there."""

ABSENT_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body, unverified: whoever asked for it checks its signature."""

    url: str
    body: bytes
    retrieved_at: datetime
    from_cache: bool = False


class Fetcher(Protocol):
    def fetch(self, url: str, *, limit: int) -> Fetched:
        """The body behind `url`, at most `limit` bytes, or `CollateralUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Ages:
    """How long a cached body is used: without asking again, and when the server cannot be had."""

    fresh: timedelta
    usable: timedelta | None
    """None: for ever, because its signature and validity say all there is to know."""


def default_ages(url: str) -> Ages:
    """A certificate never changes under its URL; what is re-issued (CRLs, TCB info) is asked for daily.

    A stale CRL is still refused by its own window, whatever the cache hands out.
    """
    path = url.partition("?")[0]
    if path.endswith("/cert_chain") or ("/vcek/v1/" in path and not path.endswith("/crl")):
        return Ages(fresh=timedelta(days=365), usable=None)
    return Ages(fresh=timedelta(days=1), usable=timedelta(days=30))


class CachedFetcher:
    """Asks `inner` once per URL among all threads and processes that share `cache`, and remembers the answer.

    `plausible` is called with URL and body before anything is remembered and raises for a body that cannot be what the URL
    names (a captive portal's page), so that rubbish is not kept. When `inner` fails, a body that is not too old is used.
    """

    def __init__(
        self,
        cache: Cache,
        inner: Fetcher,
        clock: Callable[[], datetime],
        *,
        ages: Callable[[str], Ages] = default_ages,
        plausible: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._cache = cache
        self._inner = inner
        self._clock = clock
        self._ages = ages
        self._plausible = plausible

    def fetch(self, url: str, *, limit: int) -> Fetched:
        known = self._fresh(url, limit)
        if known is not None:
            return known
        with self._cache.lock(url):
            known = self._fresh(url, limit)  # another may have fetched it while we waited
            return self._ask(url, limit) if known is None else known

    def _age(self, entry: Entry) -> timedelta:
        return self._clock() - entry.retrieved_at

    def _fresh(self, url: str, limit: int) -> Fetched | None:
        entry = self._cache.lookup(url)
        if entry is None:
            return None
        age = self._age(entry)
        if entry.body is None:
            if timedelta(0) <= age < ABSENT_FOR:
                raise absent(url, f"nothing there when asked {int(age.total_seconds())} s ago")
            return None
        return _bounded(entry, entry.body, limit) if timedelta(0) <= age < self._ages(url).fresh else None

    def _ask(self, url: str, limit: int) -> Fetched:
        try:
            fetched = self._inner.fetch(url, limit=limit)
        except CollateralUnavailable as error:
            if error.code == ABSENT:
                self._cache.store_absent(url, self._clock())
                raise
            entry = self._cache.lookup(url)
            usable = self._ages(url).usable
            if entry is None or entry.body is None or (usable is not None and self._age(entry) > usable):
                raise
            return _bounded(entry, entry.body, limit)
        if self._plausible is not None:
            _check_plausible(self._plausible, fetched)
        self._cache.store(url, fetched.body, fetched.retrieved_at)
        return fetched


def _check_plausible(plausible: Callable[[str, bytes], None], fetched: Fetched) -> None:
    try:
        plausible(fetched.url, fetched.body)
    except EvidentError as error:
        raise CollateralUnavailable.of(
            "endorsement.implausible",
            expected=error.findings[0].expected,
            found=f"{len(fetched.body)} bytes of something else from {fetched.url}: {error.findings[0].found}",
            remedy="Check for a proxy or portal that answers in the server's place, and try again.",
        ) from None


class OfflineFetcher:
    """Only what the cache holds, of any age; never the network."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def fetch(self, url: str, *, limit: int) -> Fetched:
        entry = self._cache.lookup(url)
        if entry is None or entry.body is None:
            raise CollateralUnavailable.of(
                "endorsement.offline",
                expected=f"{url} in the cache",
                found="nothing, and the network is not to be used",
                remedy="Run `evident trust fetch` on a machine with a network, or pass the file itself.",
            )
        return _bounded(entry, entry.body, limit)


class StaticFetcher:
    """Only the given bodies, and the given failures: for replaying a bundle, where the world is what was recorded."""

    def __init__(self, bodies: Mapping[str, Fetched], failures: Mapping[str, tuple[Finding, ...]] | None = None) -> None:
        self._bodies = dict(bodies)
        self._failures = dict(failures or {})

    def fetch(self, url: str, *, limit: int) -> Fetched:
        if url in self._failures:
            raise CollateralUnavailable(*self._failures[url])
        fetched = self._bodies.get(url)
        if fetched is None:
            raise CollateralUnavailable.of(
                "endorsement.not-recorded",
                expected=f"{url} among the recorded endorsements",
                found=f"{len(self._bodies)} others",
                remedy="This decision was made without it, so it cannot be replayed with it.",
            )
        _refuse_oversized(url, len(fetched.body), limit)
        return fetched


class RecordingFetcher:
    """Passes everything on and keeps what came back, a body or a failure, by the URL that was asked for."""

    def __init__(self, inner: Fetcher) -> None:
        self._inner = inner
        self.recorded: dict[str, Fetched] = {}
        self.failed: dict[str, tuple[Finding, ...]] = {}

    def fetch(self, url: str, *, limit: int) -> Fetched:
        try:
            fetched = self._inner.fetch(url, limit=limit)
        except CollateralUnavailable as error:
            self.failed[url] = error.findings
            raise
        self.recorded[url] = fetched
        return fetched


class RewritingFetcher:
    """Asks another server in place of one: a mirror, or the simulator's key distribution service.

    Belongs outside the cache, so that what a stand-in says is remembered under its own URL.
    """

    def __init__(self, inner: Fetcher, bases: Mapping[str, str]) -> None:
        self._inner = inner
        self._bases = dict(bases)

    def fetch(self, url: str, *, limit: int) -> Fetched:
        for base, other in self._bases.items():
            if url.startswith(base + "/"):
                return self._inner.fetch(other.rstrip("/") + url[len(base) :], limit=limit)
        return self._inner.fetch(url, limit=limit)


def absent(url: str, found: str) -> CollateralUnavailable:
    """The error that says the server has nothing at `url`."""
    return CollateralUnavailable.of(
        ABSENT,
        expected=f"something at {url}",
        found=found,
        remedy="Check product, chip id and TCB; the vendor publishes nothing under them.",
    )


def _bounded(entry: Entry, body: bytes, limit: int) -> Fetched:
    _refuse_oversized(entry.url, len(body), limit)
    return Fetched(entry.url, body, entry.retrieved_at, from_cache=True)


def _refuse_oversized(url: str, size: int, limit: int) -> None:
    if size > limit:
        raise oversized(url, str(size), limit)


def oversized(url: str, size: str, limit: int) -> CollateralUnavailable:
    """The error for a body beyond what its kind can have."""
    return CollateralUnavailable.of(
        "endorsement.oversized",
        expected=f"at most {limit} bytes from {url}",
        found=f"{size} bytes",
        remedy="The server sends something else; check for a proxy or portal in between.",
    )
