"""Files that a verb writes where the user says: complete or not at all."""

from __future__ import annotations

from pathlib import Path

from evident.errors import UsageError
from evident.files import replace_file


def write_file(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, readable by everybody. Raises `UsageError` ``output.unwritable``."""
    try:
        replace_file(Path(path), data, mode=0o644)
    except OSError as error:
        raise UsageError.of(
            "output.unwritable",
            expected=f"a file that can be written at {path}",
            found=error.strerror or type(error).__name__,
            remedy="Check the folder, its permissions and the free space.",
        ) from None
