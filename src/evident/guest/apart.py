"""Work on secrets in a process of its own, because the end of a process clears more than anybody can wipe.

Interpreter, OpenSSL and the kernel's pipes leave copies of what they handled in memory that nobody can name any more. The kernel clears
every page of a process that has ended, and every buffer that it frees, where ``init_on_free=1`` is on its command line, as it is on every
image's. The process that stays (PID 1) never has the secrets.

Source: Linux commit 6471384af2a6 (init_on_free); fork(2).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from evident import codec, errors
from evident.errors import EvidentError, Finding


def run(work: Callable[[], None]) -> None:
    """Do `work` there and wait for it. Raises what it raised: `EvidentError`, `OSError`, and `RuntimeError` for a defect of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, json.dumps(_outcome(work)).encode())
        finally:  # at once: nothing of the other process's is to be run or flushed twice
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    raise_told(json.loads(told or b"{}"))


def _outcome(work: Callable[[], None]) -> dict[str, Any]:
    try:
        work()
    except (EvidentError, OSError) as error:
        return tell(error)
    return {"error": None}


def tell(error: EvidentError | OSError) -> dict[str, Any]:
    """`error` as JSON, for another process."""
    if isinstance(error, EvidentError):
        return {"error": type(error).__name__, "findings": [codec.encode(finding) for finding in error.findings]}
    return {"error": "OSError", "number": error.errno, "text": error.strerror, "file": error.filename}


def raise_told(outcome: Mapping[str, Any]) -> None:
    """Raise what another process told of here: nothing where its ``error`` is null, `RuntimeError` where it told of none."""
    kind = outcome.get("error", "RuntimeError")
    if kind == "OSError":
        raise OSError(outcome["number"], outcome["text"], outcome["file"])
    if kind == "RuntimeError":
        raise RuntimeError("a defect")
    if kind is not None:
        raise getattr(errors, kind)(*(Finding(**each) for each in outcome["findings"]))
