"""The raw disk image that a machine in a cloud boots from, as a file of this host."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from evident.errors import UsageError


def measured(file: Path, refuse: Callable[[Path, str], UsageError]) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes; where there is no image, raises what `refuse` makes of what was found instead."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = file.stat().st_size
    except OSError as error:
        raise refuse(file, error.strerror or type(error).__name__) from None
    if size == 0:
        raise refuse(file, "an empty file")
    return digest, size
