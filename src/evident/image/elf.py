"""Which shared libraries an ELF file needs, and what a kernel module says about itself.

Sources: System V ABI, chapter 5 (program header, dynamic section); ELF-64 Object File Format 1.5; Linux ``.modinfo`` (modinfo(8)).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from evident.errors import Malformed

_PT_LOAD, _PT_DYNAMIC, _DT_NEEDED, _DT_STRTAB, _SHT_NOBITS = 1, 2, 1, 5, 8


def is_elf(raw: bytes) -> bool:
    """Whether `raw` begins as a 64-bit little-endian ELF file."""
    return raw[:6] == b"\x7fELF\x02\x01"


def needed(raw: bytes) -> tuple[str, ...]:
    """File names in DT_NEEDED; none for a static program. Raises `Malformed` (``image.elf``)."""
    try:
        return tuple(_needed(raw))
    except (struct.error, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise Malformed.of("image.elf", expected="an ELF file", found=str(error), remedy="Lock the packages again.") from None


def _needed(raw: bytes) -> Iterator[str]:
    offset, size, count = struct.unpack_from("<Q", raw, 32)[0], *struct.unpack_from("<HH", raw, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", raw, offset + index * size) for index in range(count)]
    dynamic = next((header for header in headers if header[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return
    entries = [struct.unpack_from("<qQ", raw, dynamic[2] + at) for at in range(0, dynamic[5], 16)]
    address = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    strings = next((h[2] + address - h[3] for h in headers if h[0] == _PT_LOAD and h[3] <= address < h[3] + h[5]), 0)
    for tag, value in entries:
        if tag == _DT_NEEDED:
            start = strings + value
            yield raw[start : raw.index(b"\0", start)].decode()


def sections(raw: bytes) -> Mapping[str, bytes]:
    """Content of each section by name. Raises `Malformed` (``image.elf``)."""
    try:
        offset, size, count, names = struct.unpack_from("<Q", raw, 40)[0], *struct.unpack_from("<HHH", raw, 58)
        headers = [struct.unpack_from("<IIQQQQ", raw, offset + index * size) for index in range(count)]
        strings = headers[names][4]
        titles = [raw[strings + header[0] : raw.index(b"\0", strings + header[0])].decode() for header in headers]
        return {
            title: b"" if header[1] == _SHT_NOBITS else raw[header[4] : header[4] + header[5]]
            for title, header in zip(titles, headers, strict=True)
        }
    except (struct.error, ValueError, OverflowError, IndexError, UnicodeDecodeError) as error:
        raise Malformed.of("image.elf", expected="an ELF file", found=str(error), remedy="Lock the packages again.") from None


def modinfo(raw: bytes) -> Mapping[str, tuple[str, ...]]:
    """The assignments in section .modinfo of a kernel module. Raises `Malformed` (``image.elf``)."""
    try:
        pairs = [item.decode().partition("=") for item in sections(raw).get(".modinfo", b"").split(b"\0") if item]
    except UnicodeDecodeError as error:
        raise Malformed.of("image.elf", expected="a kernel module", found=str(error), remedy="Lock the packages again.") from None
    info: dict[str, tuple[str, ...]] = {}
    for name, _, value in pairs:
        info[name] = (*info.get(name, ()), value)
    return info
