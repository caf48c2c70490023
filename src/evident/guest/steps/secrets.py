"""Step 8: the released secrets, as files in memory, before any unit starts.

``/run/evident/secrets/UNIT/NAME``, mode 0400, that unit's own: nobody else's but root's, who is the agent. /run is a tmpfs from step 1
on, there is no swap, and the root file system is read-only: they are on no disk. The unit may delete what it has read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from evident.errors import Malformed
from evident.guest import libc
from evident.guest.config import Unit

PLACE = Path("/run/evident/secrets")


def check(units: Sequence[Unit], released: Collection[str]) -> None:
    """Every unit gets the secrets that it reads; `Malformed` ``guest.secret`` otherwise."""
    for unit in units:
        missing = sorted(set(unit.secrets).difference(released))
        if missing:
            raise Malformed.of(
                "guest.secret",
                expected=f"the secret {missing[0]}, which unit {unit.name} reads",
                found=", ".join(sorted(released)) or "none was released",
                remedy="Name it under `secrets` in the deployment document.",
            )


def write(units: Sequence[Unit], released: Mapping[str, bytes], place: Path = PLACE) -> None:
    """Write for each of `units` what it reads of `released`, and wipe all of it in this process.

    Raises `Malformed` as `check`, `OSError` also where the place exists.
    """
    check(units, released)
    place.parent.mkdir(mode=0o755, exist_ok=True)
    place.mkdir(mode=0o711)
    for unit in units:
        own = place / unit.name
        own.mkdir(mode=0o700)
        for name in unit.secrets:
            descriptor = os.open(own / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(released[name])
                os.fchown(stream.fileno(), unit.owner, unit.owner)
        os.chown(own, unit.owner, unit.owner)
    for value in released.values():
        libc.wipe(value)
