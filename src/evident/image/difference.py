"""In what two packages differ, as one would say it: the first file whose content, owner or time is another."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from evident.errors import Malformed, Unsupported
from evident.image import deb, elf

_DERIVED = "./md5sums"
"""A list of the data's digests: it differs whenever the data does, and is not the cause."""


def first_difference(expected: bytes, found: bytes) -> str | None:
    """Where package `found` first departs from `expected`, data before control; None for equal bytes."""
    if expected == found:
        return None
    try:
        for part in ("data.tar", "control.tar"):
            for name, problem in _of_archives(*(dict(_members(raw, part)) for raw in (expected, found))):
                if name != _DERIVED:
                    return f"{part} {name}: {problem}"
        for (name, one), (_, other) in zip(deb.members(expected, "expected"), deb.members(found, "found"), strict=False):
            if one != other:
                return f"{name}: only the way in which it is packed"
    except (Malformed, Unsupported) as error:
        return f"not a package that can be read: {error.findings[0].found}"
    return "the outer archive only"


def _members(raw: bytes, part: str) -> Iterator[tuple[str, tuple[tarfile.TarInfo, bytes]]]:
    with deb.tarball(raw, part, "package") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() else None
            yield member.name, (member, stream.read() if stream else b"")


def _of_archives(
    expected: dict[str, tuple[tarfile.TarInfo, bytes]], found: dict[str, tuple[tarfile.TarInfo, bytes]]
) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys((*expected, *found)):
        if name not in found or name not in expected:
            yield name, "is missing" if name not in found else "is new"
            continue
        (one, content), (other, built) = expected[name], found[name]
        for field in ("type", "linkname", "mode", "uid", "gid", "uname", "gname", "mtime"):
            if getattr(one, field) != getattr(other, field):
                yield name, f"{field} {getattr(other, field)!r} for {getattr(one, field)!r}"
        if content != built:
            yield name, _of_content(content, built)


def _of_content(expected: bytes, found: bytes) -> str:
    """The sections of a program or library that differ; of anything else the first byte."""
    if elf.is_elf(expected) and elf.is_elf(found):
        one, other = elf.sections(expected), elf.sections(found)
        names = [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
        if names:
            return "content, in " + ", ".join(names)
    first = next((place for place, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), min(len(expected), len(found)))
    return f"content, from byte {first} of {len(expected)} (built: {len(found)})"
