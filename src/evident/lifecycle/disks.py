"""The disks made for a deployment's machines: a file each, named by the partition that its guest asks for (PARTUUID).

A machine's disk is made before anything is decided about the machine, so it never takes the place of another one's: that of a machine
which runs, while an update of it is refused, among them. What no machine has any more is swept up once the new one is launched.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from evident.platforms.order import Disk


def path(directory: Path, identifier: str) -> Path:
    """Of the disk with the partition `identifier`, made for the machine in `directory`."""
    return directory / f"disk-{identifier}.raw"


def made(directory: Path) -> tuple[Path, ...]:
    """Every disk that was made for the machine in `directory` and is still there."""
    return tuple(sorted(directory.glob(path(directory, "*").name)))


def sweep(directory: Path, kept: Iterable[Disk] = ()) -> None:
    """Remove every disk made for the machine in `directory` besides `kept`."""
    names = {Path(disk.path).name for disk in kept}
    for each in made(directory):
        if each.name not in names:
            each.unlink()
