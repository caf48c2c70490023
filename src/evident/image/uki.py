"""Write a unified kernel image: systemd-stub with sections added behind its own.

Sources: UAPI Group Specification "Unified Kernel Image"; Microsoft PE Format (section table, SizeOfImage, alignments). Nothing in the
result depends on when or where it was made; the stub's own time stamp stays as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from evident.errors import Unsupported
from evident.evidence import pe
from evident.evidence import uki as reader

ORDER = (".osrel", ".cmdline", ".uname", ".initrd", ".linux")
"""The kernel last: it may grow in memory behind its file size."""
_INITIALISED_READ_ONLY = 0x40000040
_HEADER = struct.Struct("<8sIIIIIIHHI")


def write(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    """`stub` with `sections` (of `ORDER`) added. Raises `Malformed` (``pe.*``) and `Unsupported` (``uki.headers``: no room for them)."""
    image = pe.parse(stub)
    start = int.from_bytes(stub[0x3C:0x40], "little")
    optional = start + 24
    table = optional + int.from_bytes(stub[start + 20 : start + 22], "little") + _HEADER.size * len(image.sections)
    section_alignment, file_alignment = struct.unpack_from("<II", stub, optional + 32)
    first = min(section.raw_offset for section in image.sections if section.raw_size)
    added = [name for name in ORDER if name in sections]
    if table + _HEADER.size * len(added) > min(first, image.headers_size):
        raise Unsupported.of(
            "uki.headers", expected=f"room for {len(added)} section headers", found="none", remedy="Use the stub of another systemd."
        )
    out = bytearray(stub)
    end = max(section.address + section.virtual_size for section in image.sections)
    for index, name in enumerate(added):
        content = sections[name]
        address, offset = _align(end, section_alignment), _align(len(out), file_alignment)
        size = _align(len(content), file_alignment)
        header = _HEADER.pack(name.encode(), len(content), address, size, offset, 0, 0, 0, 0, _INITIALISED_READ_ONLY)
        at = table + index * _HEADER.size
        out[at : at + _HEADER.size] = header
        out = out.ljust(offset, b"\0") + content.ljust(size, b"\0")
        end = address + len(content)
    struct.pack_into("<H", out, start + 6, len(image.sections) + len(added))
    struct.pack_into("<I", out, optional + 56, _align(end, section_alignment))
    struct.pack_into("<I", out, optional + 64, 0)  # CheckSum: firmware does not look at it
    return bytes(out)


def with_command_line(image: bytes, line: str) -> bytes:
    """`image` with another command line: the same stub, kernel and initrd, as `write` would have put them together.

    `image` is of `write`'s making. Raises `Malformed` (``pe.*``, ``uki.*``) and `Unsupported` (``uki.layout``) for any other.
    """
    parsed = reader.parse(image)
    added = [section for section in parsed.image.sections if section.name in ORDER]
    sections = {section.name: parsed.sections[section.name] for section in added}
    stub = _stub(image, parsed.image, added)
    if write(stub, sections) != image:
        raise Unsupported.of(
            "uki.layout", expected="an image that evident image build wrote", found="another", remedy="Build the image again."
        )
    return write(stub, {**sections, ".cmdline": line.encode()})


def _stub(image: bytes, parsed: pe.PeImage, added: Sequence[pe.Section]) -> bytes:
    """What is left without the sections `added`, which follow all others."""
    out = bytearray(image[: min(section.raw_offset for section in added)])
    start = int.from_bytes(image[0x3C:0x40], "little")
    count = len(parsed.sections) - len(added)
    table = start + 24 + int.from_bytes(image[start + 20 : start + 22], "little") + _HEADER.size * count
    out[table : table + _HEADER.size * len(added)] = bytes(_HEADER.size * len(added))
    struct.pack_into("<H", out, start + 6, count)
    return bytes(out)


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment
