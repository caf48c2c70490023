"""One on-disk cache of endorsements, shared by every process of a user.

    bodies/<sha256>       what was fetched, named by its content, so that damage shows
    index/<sha256(url)>   url -> digest and time, or "not there" and time; sealed by a checksum line
    floors                CRL scope -> highest number seen, sealed likewise
    locks/ tmp/           one lock file per URL (striped), and files on their way in

Files appear whole or not at all (written aside, synced, renamed), so a killed process or a full disk leaves only rubbish in
``tmp``, which the next writer sweeps. Everything here may be deleted at any time; nothing here is trusted because it is
here: whoever uses a body verifies its signature.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evident import codec
from evident.errors import CollateralUnavailable, Malformed
from evident.files import replace_file

MAX_TOTAL_BYTES = 256 * 1024 * 1024
MAX_ENTRIES = 4096
MAX_INDEX_BYTES = 64 * 1024
SWEEP_AFTER_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache knows of one URL; `body` is None where the server said that there is nothing."""

    url: str
    retrieved_at: datetime
    body: bytes | None


@dataclass(frozen=True, slots=True)
class _Row:
    url: str
    retrieved_at: datetime
    sha256: bytes | None = None
    """Names the body's file, so it is read as a digest and nothing else."""


@dataclass(frozen=True, slots=True)
class _Floors:
    floors: Mapping[str, int]


class Cache:
    """The cache below `root`, created on first write. Safe between threads and between processes."""

    def __init__(self, root: Path, *, max_total_bytes: int = MAX_TOTAL_BYTES, max_entries: int = MAX_ENTRIES) -> None:
        self.root = root
        self._max_total_bytes = max_total_bytes
        self._max_entries = max_entries

    def lookup(self, url: str) -> Entry | None:
        """What is known of `url`, None for nothing. A damaged file counts as nothing and is removed."""
        index = self._index(url)
        text = self._read_sealed(index)
        if text is None:
            return None
        try:
            row = codec.decode(_Row, codec.loads(text, "cache"), "cache")
        except Malformed:
            self._remove(index)
            return None
        if row.url != url:
            return None
        if row.sha256 is None:
            return Entry(url, row.retrieved_at, None)
        body = self._read_body(row.sha256)
        return None if body is None else Entry(url, row.retrieved_at, body)

    def store(self, url: str, body: bytes, at: datetime) -> None:
        """Remember `body` as what `url` gave at `at`; `CollateralUnavailable` ``cache.write`` when the disk refuses."""
        digest = hashlib.sha256(body).digest()
        self._write(self.root / "bodies" / digest.hex(), body)
        self._write_row(_Row(url, at, digest))
        self._prune()

    def store_absent(self, url: str, at: datetime) -> None:
        """Remember that the server has nothing at `url`."""
        self._write_row(_Row(url, at))
        self._prune()

    def forget(self, url: str) -> None:
        """Drop what is known of `url`: a body that turned out not to be what the vendor signed."""
        self._remove(self._index(url))

    @contextmanager
    def lock(self, url: str) -> Iterator[None]:
        """Hold the one lock of `url` among all threads and processes; waits for it."""
        path = self.root / "locks" / hashlib.sha256(url.encode()).hexdigest()[:3]
        with self._locked(path):
            yield

    def crl_floors(self) -> Mapping[str, int]:
        """Scope (`amd.crl_scope`, `intel.crl_scope`) to the highest CRL number, or latest date, that was ever authentic here."""
        text = self._read_sealed(self.root / "floors")
        if text is None:
            return {}
        try:
            return codec.decode(_Floors, codec.loads(text, "cache"), "cache").floors
        except Malformed:
            return {}

    def raise_crl_floor(self, scope: str, number: int) -> None:
        """Remember the number (or date) of a CRL *whose signature was verified*; a lower one changes nothing."""
        if self.crl_floors().get(scope, -1) >= number:
            return  # so that a cache that may only be read serves as well
        with self._locked(self.root / "locks" / "floors"):
            floors = dict(self.crl_floors())
            if floors.get(scope, -1) < number:
                floors[scope] = number
                self._write(self.root / "floors", _seal(_Floors(floors)))

    def _index(self, url: str) -> Path:
        return self.root / "index" / hashlib.sha256(url.encode()).hexdigest()

    def _write_row(self, row: _Row) -> None:
        self._write(self._index(row.url), _seal(row))

    def _read_body(self, digest: bytes) -> bytes | None:
        path = self.root / "bodies" / digest.hex()
        try:
            body = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(body).digest() != digest:
            self._remove(path)
            return None
        return body

    def _read_sealed(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                sealed = file.read(MAX_INDEX_BYTES + 1)
        except OSError:
            return None
        seal, _, text = sealed.partition(b"\n")
        if seal.decode("ascii", "replace") != hashlib.sha256(text).hexdigest():
            self._remove(path)
            return None
        return text

    def _remove(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        with self._writing():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # of this open file, so it also holds between threads; freed on any death
            yield
        finally:
            os.close(handle)

    def _write(self, path: Path, content: bytes) -> None:
        with self._writing():
            aside = self.root / "tmp"
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, content, aside=aside)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CollateralUnavailable.of(
                "cache.write",
                expected=f"to write the endorsement cache below {self.root}",
                found=error.strerror or type(error).__name__,
                remedy="Free space there, make it writable, or point EVIDENT_HOME elsewhere. No half-written file is left behind.",
            ) from None

    def _prune(self) -> None:
        """Keep within bounds, the oldest out first; sweep what a killed writer left in ``tmp``."""
        bodies = _by_age(self.root / "bodies")
        total = sum(stat.st_size for _, stat in bodies)
        while bodies and (total > self._max_total_bytes or len(bodies) > self._max_entries):
            path, stat = bodies.pop(0)
            self._remove(path)
            total -= stat.st_size
        index = _by_age(self.root / "index")
        for path, _ in index[: max(0, len(index) - self._max_entries)]:
            self._remove(path)
        now = index[-1][1].st_mtime if index else 0.0
        for path, stat in _by_age(self.root / "tmp"):
            if now - stat.st_mtime > SWEEP_AFTER_SECONDS:
                self._remove(path)


def _by_age(directory: Path) -> list[tuple[Path, os.stat_result]]:
    """Files with their status, the oldest first; files that vanish meanwhile are left out."""
    found = []
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found.append((Path(entry.path), entry.stat()))
    return sorted(found, key=lambda item: item[1].st_mtime)


def _seal(document: _Row | _Floors) -> bytes:
    text = json.dumps(codec.encode(document), sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest().encode("ascii") + b"\n" + text
