"""A machine's console: kept, bounded, stamped with the host's time, and harmless to look at.

Each line begins with the seconds since the machine's start as the host's clock has them. Control characters are written as
``\\x1b``, because whoever writes to the console is not to steer the terminal of whoever reads it. The first MiB is kept, and of what
follows the newest half.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

HEAD: Final = "console.log"
TAIL: Final = "console-tail.log"
_OLD_TAIL: Final = "console-tail-old.log"
HEAD_BYTES: Final = 1 << 20
TAIL_BYTES: Final = 1 << 19
_LINE_BYTES: Final = 4096
_STEP = re.compile(r"evident: step (\d+) (\S+) (start|done|failed)\b\s*(.*)")
_STAMP = re.compile(r"\[ *(\d+\.\d+)\] ")


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the guest's about its boot."""

    at: float
    """Host's seconds since the machine's start."""
    number: int
    name: str
    event: str
    """``start``, ``done`` or ``failed``."""
    rest: str


class ConsoleLog:
    """Writer of the log files in `directory`; `began` is the machine's start on `clock` (seconds)."""

    def __init__(self, directory: Path, *, began: float, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._began = began
        self._clock = clock
        self._line = bytearray()
        self._file: IO[bytes] = (directory / HEAD).open("wb")
        self._room = HEAD_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, chunk: bytes) -> None:
        """Take bytes of the console; a line is on disk once it is complete."""
        *complete, rest = (bytes(self._line) + chunk).split(b"\n")
        for line in complete:
            self._put(line)
        while len(rest) > _LINE_BYTES:
            self._put(rest[:_LINE_BYTES])
            rest = rest[_LINE_BYTES:]
        self._line = bytearray(rest)
        self._file.flush()

    def close(self) -> None:
        """Write an unfinished line too."""
        if self._line:
            self._put(bytes(self._line))
        self._file.close()

    def _put(self, line: bytes) -> None:
        text = f"[{self._clock() - self._began:10.3f}] {harmless(line.rstrip(bytes([13])))}\n".encode()
        if len(text) > self._room:
            self._file.close()
            tail = self._directory / TAIL
            if tail.exists():
                tail.replace(self._directory / _OLD_TAIL)
            self._file = tail.open("wb")
            self._room = TAIL_BYTES
        self._file.write(text)
        self._room -= len(text)


def harmless(line: bytes) -> str:
    """`line` as text without control characters."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line.decode("utf-8", "replace"))


def lines(directory: Path) -> list[tuple[float, str]]:
    """The console's first MiB so far: host's seconds and text of each line; empty before anything was said."""
    path = directory / HEAD
    return read(path) if path.exists() else []


def read(log: Path) -> list[tuple[float, str]]:
    """The same of one log file."""
    stamped = ((line, _STAMP.match(line)) for line in log.read_text().splitlines())
    return [(float(stamp[1]), line[stamp.end() :]) for line, stamp in stamped if stamp]


def steps(directory: Path) -> list[Step]:
    """What the guest's agent said of its boot."""
    return steps_of(lines(directory))


def steps_of(said: list[tuple[float, str]]) -> list[Step]:
    found = ((at, _STEP.search(text)) for at, text in said)
    return [Step(at, int(match[1]), match[2], match[3], match[4]) for at, match in found if match]
