"""What several attacks need: an initial RAM disk with files of one's choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest


def make_cpio(files: Mapping[str, bytes]) -> bytes:
    """An archive in the format 070701, written without the reader's code."""
    archive = bytearray()
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        fields = (number, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % value for value in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


@pytest.fixture(scope="session")
def initrd() -> Callable[[Mapping[str, bytes]], bytes]:
    return make_cpio
