"""The verifier's challenges: 32 fresh bytes, for one session, for one answer, for a short time (AT-05).

Kept in files, so that an answer cannot be redeemed twice by two processes either: redeeming renames the challenge's file, and
only one rename can succeed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from evident import codec
from evident.errors import Malformed, NotAuthentic, UsageError
from evident.files import read_private, write_private

NONCE_BYTES = 32
LIFETIME = timedelta(minutes=5)
KEPT = timedelta(days=1)
"""How long a challenge is remembered, so that a replay is called by its name; after that it is merely unknown."""
OF_ONE_SESSION = 64
"""Challenges that are remembered of one session, answered or not; one more, and the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Issued:
    session: str
    at: datetime


class Challenges:
    """The store below `directory`."""

    def __init__(self, directory: Path, *, clock: Callable[[], datetime], randomness: Callable[[int], bytes]) -> None:
        self._directory = directory
        self._clock = clock
        self._randomness = randomness

    def issue(self, session: str) -> bytes:
        """A new challenge for `session`, 32 bytes."""
        self._sweep(session)
        nonce = self._randomness(NONCE_BYTES)
        write_private(self._path(nonce), codec.encode(_Issued(session, self._clock())))
        return nonce

    def redeem(self, session: str, nonce: bytes) -> None:
        """Use up `nonce`; whatever comes of the answer, no other answer to it will be taken.

        Raises `NotAuthentic` ``challenge.unknown``, ``challenge.reused``, ``challenge.other-session`` or ``challenge.expired``.
        """
        open_path = self._path(nonce)
        used_path = open_path.with_suffix(".used")
        try:
            open_path.rename(used_path)
        except OSError:
            if used_path.exists():
                raise _refuse("reused", "a challenge that was not answered before", "one that was", nonce) from None
            raise _refuse("unknown", "a challenge that this verifier gave", "one that it did not give", nonce) from None
        issued = codec.decode(_Issued, codec.loads(read_private(used_path), "challenge"), "challenge")
        if issued.session != session:
            raise _refuse("other-session", f"a challenge of session {session!r}", f"one of session {issued.session!r}", nonce)
        age = self._clock() - issued.at
        if not timedelta(0) <= age <= LIFETIME:
            raise _refuse("expired", f"an answer within {LIFETIME}", f"one after {age}", nonce)

    def _path(self, nonce: bytes) -> Path:
        return self._directory / f"{hashlib.sha256(nonce).hexdigest()}.open"

    def _sweep(self, session: str) -> None:
        """Forget what is older than `KEPT`, and make room for one more of `session`."""
        own: list[tuple[datetime, Path]] = []
        for path in self._directory.glob("*.*") if self._directory.is_dir() else ():
            try:
                issued = codec.decode(_Issued, codec.loads(read_private(path), "challenge"), "challenge")
            except (Malformed, UsageError):  # not one of ours; or another process has just forgotten or used it
                continue
            if self._clock() - issued.at > KEPT:
                path.unlink(missing_ok=True)
            elif issued.session == session:
                own.append((issued.at, path))
        for _, path in sorted(own)[: max(0, len(own) - OF_ONE_SESSION + 1)]:
            path.unlink(missing_ok=True)


def _refuse(problem: str, expected: str, found: str, nonce: bytes) -> NotAuthentic:
    return NotAuthentic.of(
        f"challenge.{problem}",
        expected=expected,
        found=f"{found} ({nonce[:8].hex()}...)",
        remedy="Ask again: a new challenge is given with every question.",
        layer="root_of_trust",
    )
