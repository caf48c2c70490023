"""How much of a server anybody may take who reaches it: so many requests a second, so many connections at a time.

A machine's boot takes four requests at the most. What these bounds stop is a peer that asks for the sake of asking; who it is nobody knows
before it has attested, so a peer is an address. Behind a relay of the platform's (QEMU's user network) all machines have one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from threading import Lock

NAMES = 1024
"""Peers that are remembered; the one that asked least recently is forgotten, and begins anew."""


class Rate:
    """By name: `burst` at once, and `per_second` in the long run (a token bucket)."""

    def __init__(self, per_second: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def take(self, name: str = "") -> bool:
        """Whether `name` may go on once more now."""
        with self._lock:
            now = self._clock()
            left, at = self._left.pop(name, (float(self._burst), now))
            left = min(float(self._burst), left + (now - at) * self._per_second)
            allowed = left >= 1
            self._left[name] = (left - 1 if allowed else left, now)
            if len(self._left) > NAMES:
                del self._left[next(iter(self._left))]
            return allowed


class Places:
    """`total` places, of which one peer gets at most `each`."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._taken: Counter[str] = Counter()
        self._lock = Lock()

    def enter(self, peer: str) -> bool:
        """Take a place, where there is one; every one taken is left again."""
        with self._lock:
            free = self._taken.total() < self._total and self._taken[peer] < self._each
            if free:
                self._taken[peer] += 1
            return free

    def leave(self, peer: str) -> None:
        with self._lock:
            self._taken -= Counter((peer,))


class Unlisted:
    """What was left out of a log because it came too fast, by kind, until the next line says how much it was."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def listed(self, kind: str) -> bool:
        """Whether one more line of this kind may be written; counted where not."""
        allowed = self._rate.take()
        if not allowed:
            with self._lock:
                self._counts[kind] += 1
        return allowed

    def counts(self) -> tuple[str, ...]:
        """``kind=number`` of what was left out since this was last asked."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return tuple(f"{kind}={number}" for kind, number in sorted(counts.items()))
