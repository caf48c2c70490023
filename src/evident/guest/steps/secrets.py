"""Step 8: the released secrets, as files in memory, before the workload starts.

``/run/evident/secrets/NAME``, mode 0400, the workload's own: nobody else's but root's, who is the agent. /run is a tmpfs from step 1 on,
there is no swap, and the root file system is read-only: they are on no disk. The workload may delete what it has read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from evident.guest import libc

PLACE = Path("/run/evident/secrets")


def write(secrets: Mapping[str, bytes], owner: int, place: Path = PLACE) -> None:
    """Write `secrets` for user and group `owner`, and wipe them in this process. Raises `OSError`, also where the place exists."""
    place.parent.mkdir(mode=0o755, exist_ok=True)
    place.mkdir(mode=0o700)
    for name, value in secrets.items():
        descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(value)
            os.fchown(stream.fileno(), owner, owner)
        libc.wipe(value)
    os.chown(place, owner, owner)
