"""The image's programs: started in their order, and what comes of it when one of them ends.

    next        the units behind it are started, if it ended well; if not, the machine is switched off
    power-off   the machine is switched off
    restart     it is started again, after a pause: from one second, doubled each time up to thirty, until it has run for a minute
    nothing     the others go on

A unit that is not root's has a user without capabilities, gets none by running other programs, and what it writes nobody else reads.
One with `svid` is told where SPIRE's agent answers it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from evident.errors import PolicyRefused
from evident.guest import libc
from evident.guest.config import Unit
from evident.guest.steps import spire

SETTINGS = Path("/proc/sys")
FOR_USERS = {"net/ipv4/ip_unprivileged_port_start": "0", "user/max_user_namespaces": "0"}
"""Of the kernel, for units that are not root's: they may listen at any port, and be root nowhere, not even in a namespace of their own."""
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
NOWHERE: Final[Mapping[str, int]] = MappingProxyType({})
LEAST_PAUSE, MOST_PAUSE, LONG = 1.0, 30.0, 60.0
"""Seconds."""


@dataclass(slots=True)
class _Started:
    """A unit that runs, or will again."""

    unit: Unit
    process: subprocess.Popen[bytes] | None = None
    at: float = 0.0
    """When it was started, or is to be."""
    pause: float = LEAST_PAUSE
    """Before the next start."""


class Units:
    """All units of a machine. `say` takes a line for the console; `clock` counts seconds. Those that are named in `elsewhere` are started
    among other mounts (`libc.leave_mounts`).
    """

    def __init__(
        self,
        units: Sequence[Unit],
        say: Callable[[str], None],
        *,
        elsewhere: Mapping[str, int] = NOWHERE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._clock, self._elsewhere = say, clock, elsewhere
        self._coming = list(units)
        self._started: list[_Started] = []

    def start(self) -> None:
        """Start whatever is due. Raises `OSError` for what cannot be started."""
        for each in self._started:
            if each.process is None and each.at <= self._clock():
                self._run(each)
        while self._coming and not any(each.unit.on_end == "next" for each in self._started):
            self._started.append(_Started(self._coming.pop(0)))
            self._run(self._started[-1])
            if not self._coming:
                self._say("every unit started")

    def _run(self, each: _Started) -> None:
        each.process, each.at = start(each.unit, self._elsewhere.get(each.unit.name)), self._clock()
        self._say(f"unit {each.unit.name} started: {each.unit.command[0]}")

    def ended(self, process: int, status: int) -> bool:
        """Take in how a child ended (wait(2)), an orphan among them: whether it was the machine's end too.

        Raises `PolicyRefused` ``guest.unit`` for a unit that others wait for, and that did not end well.
        """
        each = next((each for each in self._started if each.process and each.process.pid == process), None)
        if each is None or each.process is None:
            return False
        each.process.returncode, each.process = os.waitstatus_to_exitcode(status), None
        name, then, said = each.unit.name, each.unit.on_end, _words(status)
        self._say(f"unit {name} ended: {said}")
        if then == "restart":
            self._pause(each)
        else:
            self._started.remove(each)
        if then == "next" and status:
            raise PolicyRefused.of(
                "guest.unit",
                expected=f"unit {name} to end with exit code 0 before the units behind it are started",
                found=said,
                remedy="What it printed is on the console above.",
                layer="userspace",
            )
        return then == "power-off"

    def _pause(self, each: _Started) -> None:
        """Set when it is to be started again."""
        now = self._clock()
        pause = LEAST_PAUSE if now - each.at >= LONG else each.pause
        each.at, each.pause = now + pause, min(2 * pause, MOST_PAUSE)


def _words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def start(unit: Unit, mounts: int | None = None) -> subprocess.Popen[bytes]:
    """Start its program, one of root's perhaps among other `mounts`. Its environment is what the measured configuration says, and nothing
    of the host's. Raises `OSError`.
    """
    environment = {"PATH": PATH, **({spire.VARIABLE: f"unix://{spire.SOCKET}"} if unit.svid else {}), **unit.environment}
    if not unit.owner:
        entered = None if mounts is None else partial(libc.enter_mounts, mounts)
        return subprocess.Popen(list(unit.command), env=environment, preexec_fn=entered)  # noqa: S603 - what the measured configuration says
    for name, value in FOR_USERS.items():
        (SETTINGS / name).write_text(value)
    return subprocess.Popen(  # noqa: S603 - as above
        list(unit.command),
        env=environment,
        user=unit.owner,
        group=unit.owner,
        extra_groups=(),
        umask=0o077,
        preexec_fn=libc.no_new_privileges,
    )
