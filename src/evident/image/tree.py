"""A file tree in memory: what goes into the initrd and the root file system, independent of folder, umask, owner and clock.

Archives are written with sorted names, owner 0 and one fixed time. Sources: cpio(5) "newc" (as Linux reads an initramfs,
Documentation/driver-api/early-userspace/buffer-format.rst); POSIX.1-2001 ustar/pax by way of `tarfile`.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from collections.abc import Container, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evident.errors import Malformed
from evident.image import elf

EPOCH = 1_735_689_600
"""2025-01-01T00:00:00Z: the one time in every file of an image."""

Kind = Literal["file", "directory", "link"]
_TYPE = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "link": stat.S_IFLNK}


@dataclass(frozen=True, slots=True)
class Entry:
    kind: Kind
    mode: int
    data: bytes = b""
    """Content of a file, target of a link."""
    packages: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the packages that it is from; empty for what is made here."""


def origins(entries: Iterable[tuple[str, Entry]], own: Container[str]) -> frozenset[str] | None:
    """Names of the packages that all of `entries` are from, but for the files `own`; None where a file is of unknown origin."""
    others = [entry for path, entry in entries if path not in own]
    if any(entry.kind == "file" and not entry.packages for entry in others):
        return None
    return frozenset[str]().union(*(entry.packages for entry in others))


class Tree(MutableMapping[str, Entry]):
    """Entries by path without leading slash; directories appear by themselves, and a path below a link lands where the link points."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __setitem__(self, path: str, entry: Entry) -> None:
        if path.startswith("/") or any(part in {"", ".", ".."} for part in path.split("/")):
            raise Malformed.of("image.path", expected="a plain relative path", found=repr(path), remedy="Correct the path.")
        resolved = self.resolve(path)
        parts = resolved.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if self._entries.setdefault(parent, Entry("directory", 0o755)).kind != "directory":
                raise Malformed.of("image.path", expected=f"a directory {parent}", found="a file", remedy="Correct the path.")
        self._entries[resolved] = entry

    def __delitem__(self, path: str) -> None:
        del self._entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def resolve(self, path: str, *, last: bool = False) -> str:
        """`path` with the links among its parents (and itself, with `last`) followed."""
        done: list[str] = []
        todo = path.split("/")[::-1]
        for _ in range(256):
            if not todo:
                return "/".join(done)
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                done = done[:-1]
                continue
            entry = self._entries.get("/".join((*done, part)))
            if entry is not None and entry.kind == "link" and (todo or last):
                target = entry.data.decode()
                done = [] if target.startswith("/") else done
                todo += target.split("/")[::-1]
            else:
                done.append(part)
        raise Malformed.of("image.link", expected="links that end somewhere", found=path, remedy="Remove the loop.")

    def read(self, path: str) -> bytes:
        """Content of the file at `path`, links followed. Raises `Malformed` (``image.missing``)."""
        return self.file(path).data

    def file(self, path: str) -> Entry:
        """The file at `path`, links followed. Raises `Malformed` (``image.missing``)."""
        entry = self._entries.get(self.resolve(path, last=True))
        if entry is None or entry.kind != "file":
            raise Malformed.of("image.missing", expected=f"a file /{path}", found="none", remedy="Add the package that holds it.")
        return entry

    def add_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self[path] = Entry("file", mode, data)

    def add_directory(self, path: str, mode: int = 0o755) -> None:
        self[path] = Entry("directory", mode)

    def add_link(self, path: str, target: str) -> None:
        self[path] = Entry("link", 0o777, target.encode())

    def remove(self, path: str) -> None:
        """Remove `path` and everything below it."""
        for name in [name for name in self._entries if name == path or name.startswith(path + "/")]:
            del self._entries[name]

    def write(self, folder: Path) -> None:
        """Write the tree below `folder`, as the user who runs this."""
        for path, entry in sorted(self._entries.items()):
            target = folder / path
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if entry.kind == "directory":
                target.mkdir(exist_ok=True)
                target.chmod(entry.mode)
            elif entry.kind == "link":
                target.symlink_to(entry.data.decode())
            else:
                target.write_bytes(entry.data)
                target.chmod(0o755 if entry.mode & 0o111 else 0o644)

    def loadable(self) -> dict[str, bytes]:
        """Absolute path to SHA-256 of every file that a kernel may run, map or load: those marked so, and ELF files."""
        files = ((path, entry) for path, entry in sorted(self._entries.items()) if entry.kind == "file")
        return {f"/{path}": hashlib.sha256(entry.data).digest() for path, entry in files if entry.mode & 0o111 or elf.is_elf(entry.data)}

    def cpio(self) -> bytes:
        """A "newc" archive: names sorted, owner 0, time `EPOCH`, inodes counted from 1."""
        out = bytearray()
        for number, (path, entry) in enumerate(sorted(self._entries.items()), 1):
            _cpio_member(out, path, entry, number)
        _cpio_member(out, "TRAILER!!!", Entry("file", 0), 0)
        return bytes(out.ljust((len(out) + 511) // 512 * 512, b"\0"))

    def tar(self) -> bytes:
        """A pax archive with the same order, owner and time."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, entry in sorted(self._entries.items()):
                member = tarfile.TarInfo(path)
                member.mode, member.mtime = entry.mode, EPOCH
                member.type = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[entry.kind]
                if entry.kind == "link":
                    member.linkname = entry.data.decode()
                member.size = len(entry.data) if entry.kind == "file" else 0
                archive.addfile(member, io.BytesIO(entry.data) if entry.kind == "file" else None)
        return out.getvalue()


def _cpio_member(out: bytearray, path: str, entry: Entry, number: int) -> None:
    name = path.encode() + b"\0"
    mode = 0 if not number else _TYPE[entry.kind] | entry.mode
    links = 2 if entry.kind == "directory" else 1
    fields = (number, mode, 0, 0, links, EPOCH if number else 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
    out += bytes(-len(out) % 4)
    out += entry.data
    out += bytes(-len(out) % 4)
