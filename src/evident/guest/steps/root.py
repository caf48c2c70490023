"""Step 10: mount the verified root, give the units their writable places in memory, and make it the root of everything.

Nothing but the root is mounted from a disk, and it is read-only. Source: the kernel's ramfs-rootfs-initramfs document (an initramfs
cannot be unmounted: the new root is moved over it) and mount(8).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evident.errors import Malformed
from evident.guest import libc
from evident.guest.config import Place

NEW_ROOT = Path("/sysroot")
FILE_SYSTEMS = ("erofs", "squashfs", "ext4")
CARRIED = ("/proc", "/sys", "/dev", "/run")
_QUIET = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC


def mount(device: Path, target: Path = NEW_ROOT) -> str:
    """Mount `device` read-only at `target`: the file system's kind. Raises `Malformed` ``guest.root.mount``."""
    target.mkdir(exist_ok=True)
    failures = []
    for kind in FILE_SYSTEMS:
        try:
            libc.mount(str(device), str(target), kind, libc.MS_RDONLY | libc.MS_NODEV)
        except OSError as error:
            failures.append(f"{kind}: {error.strerror}")
        else:
            return kind
    raise Malformed.of(
        "guest.root.mount",
        expected="a file system of kind " + ", ".join(FILE_SYSTEMS),
        found="; ".join(failures),
        remedy="Build the image anew.",
        layer="root_filesystem",
    )


def writable(places: Sequence[Place], root: Path) -> None:
    """Mount a tmpfs at every place below `root`: of the user who is named, or everybody's, where each is master of its own files. /run is
    carried over and keeps its own: what root has there stays root's. Raises `OSError`."""
    for place in places:
        if place.path == "/run":
            Path(place.path).chmod(0o1777)
            libc.mount("tmpfs", place.path, "tmpfs", _QUIET | libc.MS_REMOUNT, f"size={place.size}")
        if place.path not in CARRIED:
            whose = "mode=1777" if place.owner is None else f"mode=0700,uid={place.owner},gid={place.owner}"
            libc.mount("tmpfs", f"{root}{place.path}", "tmpfs", _QUIET, f"{whose},size={place.size}")


def switch(root: Path = NEW_ROOT) -> None:
    """Make `root` the root of this process and all that follow. Raises `OSError`."""
    for path in CARRIED:
        libc.mount(path, f"{root}{path}", "", libc.MS_MOVE)
    os.chdir(root)
    libc.mount(".", "/", "", libc.MS_MOVE)
    os.chroot(".")
    os.chdir("/")
