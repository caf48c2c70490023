"""What spire-server is told and asks through its own command-line client: arguments in, JSON out.

    ask = client(Path("/run/spire/server/api.sock"))
    ask("entry", "show", "-spiffeID", "spiffe://example.org/evident/shop/machine/1")

No shell reads what is run, and nothing secret is on its command lines. Source: SPIRE 1.13.3, doc/spire_server.md (``-socketPath``,
``-output json``).
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from evident import codec
from evident.errors import EvidentError, Indeterminate, UsageError

PROGRAM: Final = "spire-server"
ANSWER_LIMIT: Final = 64 * 1024 * 1024
TIMEOUT: Final = 30.0
OUT_OF_REACH: Final = "spire.server"
"""Code of the error where it does not answer, or not as asked."""

Ask = Callable[..., Any]
"""From the words of a command, its two names first, to the parsed answer. Raises what `client` says."""


def client(socket: Path) -> Ask:
    """The spire-server whose own API is at `socket`. What it cannot do raises `Indeterminate` ``spire.server``; without the program in PATH
    `UsageError` ``spire.missing``.
    """
    return functools.partial(_ask, socket)


def unusable(expected: str, found: str) -> EvidentError:
    """It does not answer, or not as asked."""
    return Indeterminate.of(
        OUT_OF_REACH,
        expected=f"{expected} by spire-server",
        found=found or "no word",
        remedy="See that it runs, that EVIDENT_SPIRE names its socket, and that you may administer it; then repeat the command.",
        layer="identity",
    )


def program() -> str:
    """Where it is. Raises `UsageError` ``spire.missing``."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise UsageError.of(
            "spire.missing",
            expected=f"the program {PROGRAM}, by which entries are made",
            found="none in PATH",
            remedy="Put the release of SPIRE that your server runs into PATH.",
        )
    return found


def _ask(socket: Path, *words: str) -> Any:
    command = (program(), *words[:2], "-socketPath", str(socket), "-output", "json", *words[2:])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=TIMEOUT)  # noqa: S603  # no shell
    except (OSError, subprocess.TimeoutExpired) as error:
        raise unusable("an answer", type(error).__name__) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or done.stdout.decode("utf-8", "replace").strip()
        raise unusable(f"`{' '.join(words[:2])}` done", said[-300:])
    return codec.loads(done.stdout, OUT_OF_REACH, limit=ANSWER_LIMIT)
