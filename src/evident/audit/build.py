"""Which code made a decision: Evident's version and the digest of its very sources."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evident import __version__


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    version: str
    source_sha256: bytes
    """Over the names and SHA-256 of all Python files of the package, in the order of their names."""


def _this_tool() -> Tool:
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return Tool("evident", __version__, digest.digest())


THIS_TOOL: Final = _this_tool()
"""The Evident that is running, read when it was loaded: a file that changes under a running process changes nothing in it."""
