"""A small virtual firmware with TDX metadata: two volumes, a place for the memory map, temporary memory. It boots nothing."""

from __future__ import annotations

import hashlib
import struct

from evident.evidence import ovmf, tdvf
from evident.evidence.tdvf import SectionKind

SIZE = 16 * ovmf.PAGE
CONFIGURATION = 2 * ovmf.PAGE
TABLE_AT = 0x200
"""Distance of the descriptor from the end of the image."""
Row = tuple[int, int, int, int, int, int]
"""Data offset and size, address, memory size, kind, attributes."""


def sections() -> tuple[Row, ...]:
    """What a build of EDK2 has, in its order."""
    base = (1 << 32) - SIZE
    return (
        (CONFIGURATION, SIZE - CONFIGURATION, base + CONFIGURATION, SIZE - CONFIGURATION, SectionKind.BOOT_VOLUME, tdvf.EXTEND),
        (0, CONFIGURATION, base, CONFIGURATION, SectionKind.CONFIGURATION_VOLUME, 0),
        (0, 0, 0x810000, 4 * ovmf.PAGE, SectionKind.TEMPORARY_MEMORY, 0),
        (0, 0, 0x809000, 2 * ovmf.PAGE, SectionKind.TD_HOB, 0),
    )


def firmware_image(rows: tuple[Row, ...] | None = None, *, seed: bytes = b"firmware") -> bytes:
    """An image of 64 KiB whose content follows from `seed`, with the table of `rows`."""
    listed = sections() if rows is None else rows
    raw = bytearray(hashlib.shake_256(seed).digest(SIZE))
    body = b"".join(struct.pack("<IIQQII", *row) for row in listed)
    descriptor = b"TDVF" + struct.pack("<III", tdvf.DESCRIPTOR_BYTES + len(body), 1, len(listed)) + body
    raw[SIZE - TABLE_AT : SIZE - TABLE_AT + len(descriptor)] = descriptor
    entry = struct.pack("<IH", TABLE_AT, 22) + tdvf.TDX_METADATA.bytes_le
    table = entry + struct.pack("<H", len(entry) + 18) + ovmf.FOOTER.bytes_le
    raw[SIZE - 32 - len(table) : SIZE - 32] = table
    return bytes(raw)
