"""What the guest says on its console: one line for every step, with its time, and the code of what ended the boot.

    evident: step 6 release start 12.031
    evident: step 6 release done 0.412
    evident: step 6 release failed 0.398 guest.denied
    evident: failed guest.denied: expected leave to start, with the disk's key and secrets; found refused: launch.kernel. ...

The number behind ``start`` is seconds since the kernel began, those behind ``done`` and ``failed`` how long the step took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evident.errors import EvidentError

STEPS = ("devices", "network", "key", "challenge", "evidence", "release", "luks", "secrets", "verity", "root")
"""Step 1 to 10."""
SPIRE_STEPS = (*STEPS[:2], "agent", "node", "svid", *STEPS[5:])
"""The same of a machine that attests by SPIRE."""
_NUMBERS = {name: number for steps in (STEPS, SPIRE_STEPS) for number, name in enumerate(steps, start=1)}
_CODE_OF_OS_ERRORS = "guest.system"


class Console:
    """Writes lines by `write`; `clock` counts seconds since the kernel began."""

    def __init__(self, write: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock

    def say(self, text: str) -> None:
        """One line; control characters of whatever it quotes are taken out."""
        self._write("evident: " + "".join(char if char.isprintable() else "?" for char in text) + "\n")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Log a step around its work. Whatever it raises is logged by its code, and raised again."""
        number, began = _NUMBERS[name], self._clock()
        self.say(f"step {number} {name} start {began:.3f}")
        try:
            yield
        except (EvidentError, OSError) as error:
            self.say(f"step {number} {name} failed {self._clock() - began:.3f} {code_of(error)}")
            raise
        self.say(f"step {number} {name} done {self._clock() - began:.3f}")


def code_of(error: EvidentError | OSError) -> str:
    """The stable code of what went wrong; errors of the kernel have one between them, and say which."""
    return error.code if isinstance(error, EvidentError) else _CODE_OF_OS_ERRORS


def reason(error: EvidentError | OSError) -> str:
    """Code and explanation in one line."""
    if isinstance(error, EvidentError):
        first = error.findings[0]
        return f"{first.code}: expected {first.expected}; found {first.found}. {first.remedy}"
    return f"{_CODE_OF_OS_ERRORS}: {error.strerror or type(error).__name__} ({error.filename or 'no file'})"
