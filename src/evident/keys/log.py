"""The release log: every decision, in the order made, each line naming the one before by its digest.

One JSON line per entry, on disk before the decision takes effect. It names keys and statements by digest and secrets by name, and holds
nothing secret. Whoever keeps the last line's digest elsewhere notices when older lines are changed or cut off; `check` finds all else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from evident import codec
from evident.errors import Malformed
from evident.files import locked, unusable

Event = Literal["challenged", "released", "confirmed", "denied", "revoked", "stored", "unlisted"]
_FIRST = bytes(32)
_LINE_LIMIT = 64 * 1024
"""More than the longest line twice over."""


@dataclass(frozen=True, slots=True)
class Entry:
    version: Literal[1]
    at: datetime
    event: Event
    disk: str
    codes: tuple[str, ...]
    """Why denied, what was revoked, or how many lines of which kind were left out; empty otherwise."""
    challenge: str
    """SHA-256 of the nonce, hex; empty where there was none."""
    guest_key: str
    """SHA-384 of the guest's public key, hex."""
    statement: str
    """SHA-256 of the statement, hex; empty where there was none."""
    previous: bytes
    """SHA-256 of the line before, without its newline; zeros before the first."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets that were released."""
    spiffe_id: str = ""
    """Whose SVID was shown; empty where none was."""


class ReleaseLog:
    """The log at `path`."""

    def __init__(self, path: Path, *, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._clock = clock

    def append(
        self,
        event: Event,
        disk: str,
        *,
        codes: tuple[str, ...] = (),
        nonce: bytes = b"",
        guest: bytes = b"",
        statement: bytes = b"",
        secrets: tuple[str, ...] = (),
        spiffe_id: str = "",
    ) -> None:
        """Add an entry; it is on disk when this returns. `guest` is the key's SPKI, `statement` a digest.

        Raises `UsageError` ``journal.unusable``.
        """
        with locked(self.path.with_suffix(".lock")), self._usable():
            end, last = self._tail()
            previous = hashlib.sha256(last).digest() if last else _FIRST
            entry = Entry(
                version=1,
                at=self._clock(),
                event=event,
                disk=disk,
                codes=codes,
                challenge=hashlib.sha256(nonce).hexdigest() if nonce else "",
                guest_key=hashlib.sha384(guest).hexdigest() if guest else "",
                statement=statement.hex(),
                previous=previous,
                secrets=secrets,
                spiffe_id=spiffe_id,
            )
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, end)  # a line torn by a crash was never a decision
                data = json.dumps(codec.encode(entry), sort_keys=True).encode() + b"\n"
                if os.write(descriptor, data) != len(data):
                    raise OSError(0, "the line was not written whole")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first. Raises `Malformed` ``keys.log`` when a line was changed, added or taken out, and as `append` does."""
        return tuple(self._check())

    def head(self) -> tuple[int, bytes]:
        """How many entries there are, and the digest of the last line (zeros before the first). Raises as `entries` does."""
        entries = self.entries()
        return len(entries), hashlib.sha256(self._lines()[len(entries) - 1]).digest() if entries else _FIRST

    def _check(self) -> Iterator[Entry]:
        previous = _FIRST
        for number, line in enumerate(self._lines(), start=1):
            entry = codec.decode(Entry, codec.loads(line, "keys.log"), "keys.log")
            if entry.previous != previous:
                raise Malformed.of(
                    "keys.log.chain",
                    expected=f"line {number} to follow the line before it",
                    found="another predecessor",
                    remedy="Somebody changed the release log: compare it with a copy, and treat its keys as released.",
                )
            previous = hashlib.sha256(line).digest()
            yield entry

    def _tail(self) -> tuple[int, bytes]:
        """Where the last whole line ends, and that line; however long the log is, one line's worth of it is read."""
        try:
            with self.path.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                start = stream.seek(max(0, size - _LINE_LIMIT))
                data = stream.read()
        except FileNotFoundError:
            return 0, b""
        whole = data[: data.rfind(b"\n") + 1]
        return start + len(whole), whole[:-1].rpartition(b"\n")[2]

    def _lines(self) -> list[bytes]:
        with self._usable():
            data = self.path.read_bytes() if self.path.exists() else b""
        return data[: data.rfind(b"\n") + 1].splitlines()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unusable(self.path, error) from None
