"""Files that a user names: read whole, bounded, and refused with a reason when they are not what a file should be."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evident.errors import Malformed, UsageError

MAX_INPUT_BYTES = 64 * 1024 * 1024


def read_bytes(path: str | Path, *, limit: int = MAX_INPUT_BYTES) -> bytes:
    """Contents of the regular file `path` (``-`` is standard input); at most `limit` bytes, at least one."""
    data = sys.stdin.buffer.read(limit + 1) if str(path) == "-" else _read_regular(Path(path), limit)
    if len(data) > limit:
        raise Malformed.of(
            "input.oversized",
            expected=f"at most {limit} bytes in {path}",
            found="more",
            remedy="Check that this is the right file: none of its kind is that large.",
        )
    if not data:
        raise Malformed.of(
            "input.empty",
            expected=f"bytes in {path}",
            found="an empty file",
            remedy="Check the path; collect evidence again, write a document first.",
        )
    return data


def _read_regular(path: Path, limit: int) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "a device or socket"
            raise UsageError.of("input.not-a-file", expected=f"a file at {path}", found=kind, remedy="Name a single file.")
        with path.open("rb") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | Path, error: OSError) -> UsageError:
    return UsageError.of(
        "input.unreadable",
        expected=f"a readable file at {path}",
        found=error.strerror or type(error).__name__,
        remedy="Check the path and its permissions.",
    )


@contextmanager
def map_file(path: str | Path) -> Iterator[mmap.mmap]:
    """A regular file, which may be larger than memory, as a read-only map."""
    try:
        with Path(path).open("rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UsageError.of("input.not-a-file", expected=f"a file at {path}", found="something else", remedy="Name a single file.")
            if not os.fstat(stream.fileno()).st_size:
                raise Malformed.of("input.empty", expected=f"bytes in {path}", found="an empty file", remedy="Check the path.")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield mapped
    except OSError as error:
        raise _unreadable(path, error) from None


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_duration(text: str) -> timedelta:
    """A duration such as 90s, 30m, 12h or 7d; at least one second."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdecimal() or len(number) > 6 or not int(number):
        raise UsageError.of("usage.duration", expected="a duration such as 90s, 30m, 12h or 7d", found=repr(text), remedy="Give one.")
    return timedelta(**{_UNITS[unit]: int(number)})


def parse_time(text: str) -> datetime:
    """A time as ``--at`` takes it: RFC 3339 with zone, e.g. 2026-11-22T00:00:00Z."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError("no zone")
    except ValueError:
        raise UsageError.of(
            "usage.time", expected="a time such as 2026-11-22T00:00:00Z", found=repr(text), remedy="Give date, time and zone."
        ) from None
    return at.astimezone(UTC)
