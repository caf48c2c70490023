"""Files that a verb writes: complete or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from evident.errors import UsageError


def write_file(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` through a temporary file beside it, so that a full disk leaves no half-written file."""
    target = Path(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)
        Path(temporary).replace(target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise UsageError.of(
            "output.unwritable",
            expected=f"a file that can be written at {path}",
            found=error.strerror or type(error).__name__,
            remedy="Check the folder, its permissions and the free space.",
        ) from None
