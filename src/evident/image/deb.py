"""Debian packages, unpacked without running anything that is in them.

Source: deb(5): an ar archive of ``debian-binary``, ``control.tar.*`` and ``data.tar.*``; deb-control(5).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from evident.errors import Malformed, Unsupported
from evident.image.tree import Entry, Tree

_MAGIC = b"!<arch>\n"
_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"data.tar": bytes, "data.tar.xz": lzma.decompress, "data.tar.gz": gzip.decompress, "data.tar.bz2": bz2.decompress}
)


def _malformed(what: str, found: str) -> Malformed:
    return Malformed.of("image.deb", expected="a Debian package", found=f"{what}: {found}", remedy="Lock the packages again.")


def members(raw: bytes, what: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member of the outer archive. Raises `Malformed` (``image.deb``)."""
    if not raw.startswith(_MAGIC):
        raise _malformed(what, "no ar archive")
    offset = len(_MAGIC)
    while offset < len(raw):
        header = raw[offset : offset + 60]
        size = header[48:58].strip()
        if len(header) < 60 or header[58:] != b"`\n" or not size.isdigit() or offset + 60 + int(size) > len(raw):
            raise _malformed(what, f"a broken member at byte {offset}")
        yield header[:16].decode("ascii", "replace").rstrip(" ").rstrip("/"), raw[offset + 60 : offset + 60 + int(size)]
        offset += 60 + int(size) + int(size) % 2


def unpack(raw: bytes, what: str, tree: Tree) -> None:
    """Lay the files of package `raw` into `tree`; owners, times and set-user-id bits do not survive.

    Raises `Malformed` (``image.deb``; ``image.file-conflict`` when another package has the path with another content) and `Unsupported`.
    """
    name, data = next(((name, data) for name, data in members(raw, what) if name.startswith("data.tar")), ("", b""))
    if name not in _DECOMPRESS:
        raise Unsupported.of(
            "image.deb-compression",
            expected=", ".join(_DECOMPRESS),
            found=f"{what}: {name or 'no data'}",
            remedy="Use a Debian suite; its packages are xz.",
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(_DECOMPRESS[name](data))) as archive:
            for member in archive:
                _place(archive, member, what, tree)
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError) as error:
        raise _malformed(what, str(error)) from None


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, what: str, tree: Tree) -> None:
    path = member.name.removeprefix("./").rstrip("/")
    if path in {"", "."}:
        return
    mode = member.mode & 0o755 if not member.isdir() else member.mode & 0o1777
    if member.isdir():
        if tree.resolve(path, last=True) not in tree:
            tree.add_directory(path, mode)
        return
    if member.issym():
        entry = Entry("link", 0o777, member.linkname.encode())
    elif member.isreg() or member.islnk():
        stream = archive.extractfile(member)
        if stream is None:
            raise _malformed(what, f"no content for {path}")
        entry = Entry("file", mode, stream.read())
    else:
        raise _malformed(what, f"{path} is neither file, directory nor link")
    there = tree.get(tree.resolve(path))
    if there is not None and there != entry:
        raise Malformed.of(
            "image.file-conflict", expected=f"/{path} in one package", found=f"another one in {what}", remedy="Leave one of them out."
        )
    tree[path] = entry
