"""Talking to a cloud: what can go wrong, how often to ask, how long to wait.

Every cloud's own errors become one of these, so that whoever calls needs to know no cloud:

    cloud.auth         2   who asks may not, or is nobody
    cloud.quota        2   the account may have no more of it
    cloud.conflict     2   something there is in the way
    cloud.unsupported 20   that cloud, region or machine does not offer it
    cloud.capacity    12   it offers it, and has none at the moment
    cloud.transient   12   throttled, overloaded or out of reach; asked again and again before it is raised
    cloud.timeout     12   accepted, and not done by the deadline

A cloud's folder has ``preflight.doctor(settings, patience) -> tuple[Probe, ...]``: what `evident doctor --platform` shows.

Exit 2: change something. Exit 12: nothing is wrong with the question, ask it later. Exit 20: ask elsewhere.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from evident.errors import EvidentError, Finding, Indeterminate, Unsupported, UsageError

T = TypeVar("T")


LONGEST_PAUSE = 600.0
TRANSIENT = "cloud.transient"
CONFLICT = "cloud.conflict"


def auth(found: str, remedy: str) -> UsageError:
    return UsageError.of("cloud.auth", expected="valid credentials with the permission for this call", found=found, remedy=remedy)


def quota(found: str, remedy: str) -> UsageError:
    return UsageError.of("cloud.quota", expected="room within the account's limits", found=found, remedy=remedy)


def conflict(found: str, remedy: str) -> UsageError:
    return UsageError.of(CONFLICT, expected="nothing there that is in the way", found=found, remedy=remedy)


def unsupported(found: str, remedy: str) -> Unsupported:
    return Unsupported.of("cloud.unsupported", expected="something that the cloud offers there", found=found, remedy=remedy)


def capacity(found: str, remedy: str) -> Indeterminate:
    return Indeterminate.of("cloud.capacity", expected="a free machine of this kind", found=found, remedy=remedy)


class Busy(Indeterminate):
    """``cloud.transient``, by a cloud that may have said how long to stay away."""

    after: float = 0.0
    """Seconds."""


def transient(found: str, remedy: str, *, after: float = 0.0) -> Busy:
    error = Busy.of(TRANSIENT, expected="an answer", found=found, remedy=remedy)
    error.after = after
    return error


def timeout(found: str, remedy: str) -> Indeterminate:
    return Indeterminate.of("cloud.timeout", expected="an end within the deadline", found=found, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that was looked at before anything is created."""

    name: str
    state: Literal["ok", "failed", "unknown"]
    found: str
    finding: Finding | None = None
    """What stands in the way, where it failed."""


def beside(used: float, wanted: float, limit: float) -> str:
    """What is added to the finding on a limit that has room for a machine: whether it has for the second one that an update needs."""
    return "" if used + 2 * wanted <= limit else "; no room for a second machine beside it, which `evident update` makes"


Step = tuple[str, Callable[[], str], tuple[str, ...]]
"""Name of a probe; what looks, and says what it found (after `UNKNOWN` where that decides nothing); names of those that come first."""
UNKNOWN = "cannot be told: "


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a cloud is asked again, and how long it is waited for."""

    clock: Callable[[], float]
    """Monotonic, in seconds."""
    sleep: Callable[[float], None]
    jitter: Callable[[], float]
    """From 0 up to 1, so that many who wait do not come back at once."""
    progress: Callable[[str], None]
    attempts: int = 7

    @classmethod
    def real(cls, progress: Callable[[str], None], *, attempts: int = 7) -> Patience:
        """This machine's clock."""
        return cls(time.monotonic, time.sleep, random.random, progress, attempts)

    def insist(self, what: str, call: Callable[[], T], *, failed: Callable[[], None] = lambda: None) -> T:
        """What `call` returns, asked again with growing pauses while it raises ``cloud.transient``; `failed` is told each time.

        A cloud that says how long to stay away (Retry-After) is heeded, for up to `LONGEST_PAUSE` seconds.
        `call` must be safe to repeat: a lost answer is transient too.
        """
        for attempt in range(1, self.attempts):
            try:
                return call()
            except EvidentError as error:
                if error.code != TRANSIENT:
                    raise
                failed()
                pause = max(min(2.0**attempt, 30.0) * (0.5 + self.jitter() / 2), _asked_to_wait(error))
                self.progress(f"{what}: {error.findings[0].found}; trying again in {pause:.0f} s ({attempt} of {self.attempts - 1})")
                self.sleep(pause)
        return call()

    def until(self, what: str, look: Callable[[], T | None], *, within: float, every: float = 5.0) -> T:
        """What `look` gives as soon as it gives anything, looking every `every` seconds.

        Raises ``cloud.timeout`` after `within` seconds.
        """
        start = told = self.clock()
        while (seen := self.insist(what, look)) is None:
            now = self.clock()
            if now - start >= within:
                raise timeout(
                    f"{what}: not done after {now - start:.0f} s",
                    "Look at the cloud's own console for the reason. Repeat the command to go on waiting, or remove the deployment.",
                )
            if now - told >= 30:
                told = now
                self.progress(f"{what}: {now - start:.0f} s")
            self.sleep(every)
        return seen


def _asked_to_wait(error: EvidentError) -> float:
    return min(error.after, LONGEST_PAUSE) if isinstance(error, Busy) else 0.0


def probed(steps: Iterable[Step], patience: Patience) -> tuple[Probe, ...]:
    """Look at each of `steps` in turn; one whose forerunners are not all right is not looked at."""
    probes: list[Probe] = []
    for name, look, needs in steps:
        failed = [probe.name for probe in probes if probe.name in needs and probe.state != "ok"]
        if failed:
            probes.append(Probe(name, "unknown", f"not looked at: {', '.join(failed)} comes first"))
            continue
        try:
            found = patience.insist(name, look)
        except EvidentError as error:
            probes.append(Probe(name, "failed", error.findings[0].found, error.findings[0]))
        else:
            probes.append(Probe(name, "unknown" if found.startswith(UNKNOWN) else "ok", found.removeprefix(UNKNOWN)))
    return tuple(probes)
