"""The tools that make an image, out of locked packages: unpacked into a folder of their own and run there, whatever the host has.

A program is started through the loader and the libraries of its own packages, so that its version is that of the lock and the result
does not depend on the host. Source: ld.so(8) (--library-path).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from evident.errors import Unsupported
from evident.image.lock import Store
from evident.image.stated import Lock
from evident.image.tree import EPOCH, Tree

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def merged_usr() -> Tree:
    """An empty tree with the links that make /bin and /lib parts of /usr."""
    tree = Tree()
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.add_directory(f"usr/{name}")
        tree.add_link(name, f"usr/{name}")
    return tree


class Toolbox:
    """Tools below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def unpack(cls, lock: Lock, store: Store, folder: Path) -> tuple[Toolbox, Tree]:
        """Write the tools of `lock` below `folder`; also returns their tree."""
        tree = merged_usr()
        for package in lock.group("tools"):
            store.lay(package, tree)
        tree.write(folder)
        return cls(folder), tree

    def run(self, program: str, *words: str | Path, given: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """Run ``/usr/PROGRAM`` of the toolbox; its standard output. Raises `Unsupported` (``image.tool``) when it fails."""
        root = self._folder
        command: Sequence[str] = (
            str(root / _LOADER),
            "--library-path",
            str(root / _LIBRARIES),
            str(root / "usr" / program),
            *map(str, words),
        )
        settled = {"SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": "/nonexistent", **(environment or {})}
        try:
            done = subprocess.run(command, input=given, capture_output=True, check=False, env=settled)  # noqa: S603  # our own tools
        except OSError as error:
            raise Unsupported.of(
                "image.tool",
                expected=f"an x86-64 Linux host that can run {program}",
                found=os.strerror(error.errno or 0),
                remedy="Build on an x86-64 Linux host.",
            ) from None
        if done.returncode:
            raise Unsupported.of(
                "image.tool",
                expected=f"{program} to succeed",
                found=done.stderr.decode("utf-8", "replace").strip()[-400:] or f"status {done.returncode}",
                remedy="Lock newer packages, or check the space on the disk.",
            )
        return done.stdout

    def python(self, *words: str | Path, given: bytes = b"") -> bytes:
        """Run the locked Python, isolated, with hashing that does not vary."""
        settled = {"PYTHONHOME": str(self._folder / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        return self.run("bin/python3", "-s", "-P", *words, given=given, environment=settled)
