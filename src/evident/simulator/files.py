"""Small JSON files that only their owner may read, replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from evident.errors import UsageError


def write_private(path: Path, value: Any) -> None:
    """Write `value` as JSON with mode 0600 (its directory 0700): a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError.of(
            "state.write",
            expected=f"room and permission to write {path}",
            found=error.strerror or type(error).__name__,
            remedy="Free space, or point EVIDENT_HOME at a directory that you may write.",
        ) from None


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
