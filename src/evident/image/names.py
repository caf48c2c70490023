"""What the files of a built image are called; see docs/image.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd.img"
ROOT: Final = "root.erofs"
HASH: Final = "root.verity"
UKI: Final = "uki.efi"
DISK: Final = "disk.raw"
MANIFEST: Final = "manifest.json"


def lock_of(specification: Path) -> Path:
    """Where the lock of an image specification lies: beside it."""
    return specification.with_suffix(".lock.json")
