"""State files: readable by their owner alone, and replaced whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evident.errors import UsageError


def write_private(path: Path, value: Any) -> None:
    """Write `value` as JSON; see `write_private_bytes`."""
    write_private_bytes(path, json.dumps(value, indent=1, sort_keys=True).encode())


def write_private_bytes(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 (its directory 0700): a reader sees the old file or the new one, never half of it."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def read_private(path: Path) -> bytes:
    """The file's bytes, or a `UsageError` that says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError.of(
            "state.read",
            expected=f"a readable file {path}",
            found=error.strerror or type(error).__name__,
            remedy="Correct its permissions, or delete it so that it is made anew.",
        ) from None


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
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UsageError.of(
                "state.busy",
                expected=f"nobody else at work in {path.parent}",
                found="another process that changes it",
                remedy="Wait until it is done, then try again.",
            ) from None
        yield


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError.of(
        "state.write",
        expected=f"room and permission to write {path}",
        found=error.strerror or type(error).__name__,
        remedy="Free space, or point EVIDENT_HOME at a directory that you may write.",
    )
