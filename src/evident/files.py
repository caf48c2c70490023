"""Files that are replaced whole or not at all (those of Evident's own state for their owner alone), and journals, only ever appended to."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from evident.errors import Malformed, UsageError

MAX_JOURNAL_BYTES = 64 * 1024 * 1024
GRACE = 2.0
"""Seconds for which a lock that is not waited for is tried."""


def replace_file(path: Path, data: bytes, *, mode: int = 0o600, aside: Path | None = None) -> None:
    """Write `data` aside (in a directory `aside` of the same file system, or beside `path`) and rename it to `path`: a reader sees the old
    file or the new one, never half of it, a full disk leaves nothing behind, and what was written survives a crash of the machine.
    Raises `OSError`, for the caller to say what could not be written.
    """
    descriptor, name = tempfile.mkstemp(dir=aside or path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), mode)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Names are on disk only once their directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, value: Any) -> None:
    """Write `value` as JSON; see `write_private_bytes`."""
    write_private_bytes(path, json.dumps(value, indent=1, sort_keys=True).encode())


def write_private_bytes(path: Path, data: bytes) -> None:
    """Write a file of mode 0600, its directory 0700. Raises `UsageError` ``state.write``."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise _unwritable(path, error) from None


def read_private(path: Path) -> bytes:
    """The bytes of a regular file (others may have no end), or a `UsageError` that says why it cannot be read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError(0, "no regular file")
            return stream.read()
    except OSError as error:
        raise UsageError.of(
            "state.read",
            expected=f"a readable file {path}",
            found=error.strerror or type(error).__name__,
            remedy="Correct the path or its permissions; what is lost, a backup has.",
        ) from None


def check_private(path: Path, code: str, otherwise: str) -> None:
    """Raise `UsageError` `code` where others may use this file with a secret; `otherwise` is what to do if they did."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise UsageError.of(
            code,
            expected=f"{path} readable by you alone",
            found=f"mode {mode:o}",
            remedy=f"Others could have copied it. If nobody did: chmod 600 {path}; else {otherwise}.",
        )


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` among all processes; it ends with this process, however that ends.

    Raises `UsageError` ``state.write`` where no file can be, ``state.busy`` when another holds it and `wait` is False.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise _unwritable(path, error) from None
    with stream:
        if wait:
            fcntl.flock(stream, fcntl.LOCK_EX)
        elif not _tried(stream):
            raise UsageError.of(
                "state.busy",
                expected=f"nobody else at work in {path.parent}",
                found="another process that changes it",
                remedy="Wait until it is done, then try again.",
            )
        yield


def _tried(stream: IO[str]) -> bool:
    """Lock `stream` if it can be had at once, or nearly: what a killed process had just forked holds its locks until it notices."""
    deadline = time.monotonic() + GRACE
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


class Lines:
    """The file of lines at `path`: only ever appended to, each line on disk when the call returns. Made with its first line.

    A line counts once its newline is there. A crash in the middle of a write leaves a torn last line: it is not read, and the
    next write removes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[bytes, ...]:
        """Every whole line, oldest first. Raises `UsageError` ``journal.unusable``."""
        try:
            with self.path.open("rb") as stream:
                data = stream.read(MAX_JOURNAL_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise unusable(self.path, error) from None
        if len(data) > MAX_JOURNAL_BYTES:  # the rest of the story must not be lost in silence
            raise unusable(self.path, OSError(0, f"more than {MAX_JOURNAL_BYTES} bytes"))
        return tuple(data[: data.rfind(b"\n") + 1].splitlines())

    @contextmanager
    def appending(self) -> Iterator[Callable[[Any], None]]:
        """Gives the function that adds a JSON value as a line; until it ends no other process adds one."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield lambda value: self._append(descriptor, value)
            finally:
                os.close(descriptor)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise unusable(self.path, error) from None

    def _append(self, descriptor: int, value: Any) -> None:
        data = self.path.read_bytes()
        os.ftruncate(descriptor, data.rfind(b"\n") + 1)  # a torn last line
        line = json.dumps(value, sort_keys=True).encode() + b"\n"
        if os.write(descriptor, line) != len(line):
            raise unusable(self.path, OSError(0, "the line was not written whole"))
        os.fsync(descriptor)

    def damaged(self, line: int, found: str) -> Malformed:
        """What to raise of line number `line` (from 1), whole and yet not what may stand there."""
        return Malformed.of(
            "journal.damaged",
            expected=f"an event that may stand in line {line} of {self.path}",
            found=found,
            remedy="Restore the file from a backup; until then look after the machine by the platform's own means.",
        )


def unusable(path: Path, error: OSError) -> UsageError:
    """What to raise of a journal at `path` that the system does not let us read or add to."""
    return UsageError.of(
        "journal.unusable",
        expected=f"a journal that can be read and written at {path}",
        found=error.strerror or type(error).__name__,
        remedy="Check permissions and free space, or point EVIDENT_HOME elsewhere.",
    )


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError.of(
        "state.write",
        expected=f"room and permission to write {path}",
        found=error.strerror or type(error).__name__,
        remedy="Free space, or point EVIDENT_HOME at a directory that you may write.",
    )
