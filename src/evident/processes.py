"""Processes that outlive the command that starts them: on record before they do anything, found again by anybody, and stopped for certain.

A process outlives the command that started it, so it has to be found without it. It starts as a shell that waits for one line; that
line comes only once `<role>.process.json` is on disk. A launcher that is killed in between leaves the shell an end of file, at
which it exits. Whoever comes later knows the process again by process id, start time, boot of the host, and command line:
an id that was given to another process since is never signalled, because signals go through a pidfd taken before the comparison.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evident import codec
from evident.errors import UsageError
from evident.files import read_private, write_private

_GATE: Final = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")
_SUFFIX: Final = ".process.json"
_KILL_SECONDS: Final = 10.0
"""A killed process ends at once, unless the kernel has something to finish for it."""


@dataclass(frozen=True, slots=True)
class Process:
    """What is on record of one process."""

    role: str
    pid: int
    started: int
    """Field 22 of /proc/PID/stat: clock ticks between the host's boot and the process's start."""
    boot: str
    """/proc/sys/kernel/random/boot_id: process ids and start times mean nothing after a reboot."""
    command: bytes
    """SHA-256 of the arguments, each followed by NUL."""

    @property
    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        with _handle(self) as handle:
            return handle is not None

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False when it outlasts `seconds`."""
        with _handle(self) as handle:
            return handle is None or _ended(handle, seconds)

    def stop(self, *, grace: float = 2.0) -> None:
        """End it: SIGTERM, after `grace` seconds SIGKILL. Returns when it has ended.

        Raises `UsageError` ``process.stays`` where it does not (another user's, or stuck in the kernel).
        """
        with _handle(self) as handle:
            if handle is None:
                return
            for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_SECONDS)):
                try:
                    signal.pidfd_send_signal(handle, number)
                except ProcessLookupError:
                    return
                except PermissionError:
                    break
                if _ended(handle, seconds):
                    return
        raise UsageError.of(
            "process.stays",
            expected=f"the end of process {self.pid} ({self.role})",
            found="that it still runs",
            remedy="End it as the user who owns it, then run `evident down` again.",
        )


def start(directory: Path, role: str, argv: Sequence[str]) -> Process:
    """Start `argv` with `directory` as its working directory; what it prints goes to ``<role>.log`` there."""
    reader, writer = os.pipe()
    try:
        with (directory / f"{role}.log").open("wb") as log:
            child = subprocess.Popen(  # noqa: S603  # arguments are a list of ours; no shell reads them
                [*_GATE, *argv], cwd=directory, stdin=reader, stdout=log, stderr=log, start_new_session=True
            )
        process = Process(role, child.pid, _started(child.pid) or 0, _boot(), _digest(argv))
        write_private(directory / f"{role}{_SUFFIX}", codec.encode(process))
        os.write(writer, b"go\n")
        # The process is another's from here on: whether it runs is asked of /proc, and this handle must not warn when it goes.
        child.returncode = 0
        return process
    except OSError as error:
        raise UsageError.of(
            "process.start",
            expected=f"to start {argv[0]}",
            found=error.strerror or type(error).__name__,
            remedy="Check memory, process limits and permissions.",
        ) from None
    finally:
        os.close(reader)
        os.close(writer)


def recorded(directory: Path) -> tuple[Process, ...]:
    """Every process on record in `directory`, dead or alive."""
    files = sorted(directory.glob(f"*{_SUFFIX}"))
    return tuple(codec.decode(Process, codec.loads(read_private(path), "process"), "process") for path in files)


def forget(directory: Path, role: str) -> None:
    """Remove the record and the log of a process that has ended."""
    for suffix in (_SUFFIX, ".log"):
        (directory / f"{role}{suffix}").unlink(missing_ok=True)


def output(directory: Path, role: str) -> str:
    """The last thing that `role` printed, for error messages."""
    try:
        text = (directory / f"{role}.log").read_bytes()[-4096:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _reap(pid: int) -> None:
    """Where it was this very process's child, let it leave the table."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def _handle(process: Process) -> Iterator[int | None]:
    """A pidfd of `process`; None when it has ended."""
    try:
        handle = os.pidfd_open(process.pid)
    except (OSError, OverflowError):
        yield None
        return
    try:
        same = process.boot == _boot() and process.started == _started(process.pid) and _runs(process)
        yield handle if same and not _ended(handle, 0) else None
    finally:
        if _ended(handle, 0):
            _reap(process.pid)
        os.close(handle)


def _ended(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(round(seconds * 1000)))


def _started(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[19])  # the name in parentheses may hold anything


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _digest(argv: Sequence[str]) -> bytes:
    return hashlib.sha256(b"".join(os.fsencode(word) + b"\0" for word in argv)).digest()


def _runs(process: Process) -> bool:
    """Whether its command line is the one on record, at the gate or behind it."""
    try:
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return False
    gate = b"".join(os.fsencode(word) + b"\0" for word in _GATE)
    # Empty for a moment while the shell is replaced; then start time alone has to do.
    return not line or hashlib.sha256(line.removeprefix(gate)).digest() == process.command
