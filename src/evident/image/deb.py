"""Debian packages, unpacked without running anything that is in them.

Source: deb(5): an ar archive of ``debian-binary``, ``control.tar.*`` and ``data.tar.*``; deb-control(5).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from evident.errors import Malformed, Unsupported
from evident.image import stanza
from evident.image.tree import Entry, Tree

_MAGIC = b"!<arch>\n"
_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {"": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress, ".bz2": bz2.decompress}
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


def tarball(raw: bytes, part: str, what: str) -> tarfile.TarFile:
    """The archive ``control.tar`` or ``data.tar`` (`part`) of package `raw`, uncompressed.

    Raises `Malformed` (``image.deb``) and `Unsupported` (``image.deb-compression``).
    """
    name, data = next(((name, data) for name, data in members(raw, what) if name.startswith(part)), ("", b""))
    suffix = name.removeprefix(part)
    if not name or suffix not in _DECOMPRESS:
        raise Unsupported.of(
            "image.deb-compression",
            expected=", ".join(f"{part}{suffix}" for suffix in _DECOMPRESS),
            found=f"{what}: {name or 'no ' + part}",
            remedy="Use a Debian suite; its packages are xz.",
        )
    try:
        return tarfile.open(fileobj=io.BytesIO(_DECOMPRESS[suffix](data)))
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError) as error:
        raise _malformed(what, str(error)) from None


def control(raw: bytes, what: str) -> Mapping[str, str]:
    """The fields of the package's control file, names in lower case. Raises `Malformed` and `Unsupported`."""
    with tarball(raw, "control.tar", what) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.removeprefix("./") == "control" else None
            if stream is not None:
                return stanza.parse(stream.read(), what)
    raise _malformed(what, "no control file")


def entries(raw: bytes, what: str) -> tuple[tuple[str, Entry], ...]:
    """The files of package `raw` in its order; owners, times and set-user-id bits do not survive.

    Raises `Malformed` (``image.deb``) and `Unsupported` (``image.deb-compression``).
    """
    try:
        with tarball(raw, "data.tar", what) as archive:
            found = [(member.name.removeprefix("./").rstrip("/"), _entry(archive, member, what)) for member in archive]
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError) as error:
        raise _malformed(what, str(error)) from None
    return tuple((path, entry) for path, entry in found if path not in {"", "."})


def lay(files: Iterable[tuple[str, Entry]], what: str, tree: Tree) -> None:
    """Lay `files` of package `what` into `tree`.

    Raises `Malformed` (``image.file-conflict`` when another package has the path with another content; ``image.path``).
    """
    for path, entry in files:
        if entry.kind == "directory":
            if tree.resolve(path, last=True) not in tree:
                tree[path] = entry
            continue
        there = tree.get(tree.resolve(path))
        if there is not None and there != entry:
            raise Malformed.of(
                "image.file-conflict", expected=f"/{path} in one package", found=f"another one in {what}", remedy="Leave one of them out."
            )
        tree[path] = entry


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, what: str) -> Entry:
    if member.isdir():
        return Entry("directory", member.mode & 0o1777)
    if member.issym():
        return Entry("link", 0o777, member.linkname.encode())
    stream = archive.extractfile(member) if member.isreg() or member.islnk() else None
    if stream is None:
        raise _malformed(what, f"{member.name} is neither file, directory nor link")
    return Entry("file", member.mode & 0o755, stream.read())
