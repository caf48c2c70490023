"""A place for the kernel's hashes in firmware that was built without one, for the simulator.

With ``kernel-hashes=on`` QEMU puts SHA-256 digests of kernel, initrd and command line into a page of the guest that the launch
digest covers, and firmware of OVMF's AmdSev kind starts nothing else. Debian's OVMF is of another kind: it names no such page and
compares nothing. On simulated hardware the host process stands in for the comparison, as it does for the measurement: it hashes the
very files that it then hands to QEMU. So that the digest has a place to go, the image's tables are completed here; not one
instruction changes. On real hardware such an image would prove nothing of the kernel, and there it is never made: firmware without
the page is refused.

Layout: `evident.evidence.ovmf`.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Final
from uuid import UUID

from evident.errors import Unsupported
from evident.evidence import ovmf
from evident.evidence.ovmf import Firmware, Section, SectionKind

_PAGE: Final = 4096
_TABLE_OFFSET: Final = 0xC00
_TABLE_BYTES: Final = 0x400
_METADATA_HEADER: Final = 16
_SECTION_BYTES: Final = 12


def enforces_hashes(image: bytes) -> bool:
    """Whether the image has a page for the kernel's hashes (then it was built to compare them)."""
    return _complete(ovmf.parse(image))


def with_hash_page(image: bytes) -> bytes:
    """`image` with a page for the hashes; as it is when it has one. Raises `Malformed`, and `Unsupported` ``qemu.firmware``."""
    firmware = ovmf.parse(image)
    if _complete(firmware):
        return image
    if ovmf.SEV_METADATA not in firmware.table or ovmf.SEV_HASH_TABLE not in firmware.table:
        raise _unsuitable("an image without SEV-SNP metadata")
    sections = _make_room(firmware.sections)
    metadata = struct.pack("<4sIII", b"ASEV", _METADATA_HEADER + _SECTION_BYTES * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", section.gpa, section.size, section.kind) for section in sections)
    changed = bytearray(image)
    at = _padding(image, len(metadata))
    changed[at : at + len(metadata)] = metadata
    page = next(section.gpa for section in sections if section.kind == SectionKind.KERNEL_HASHES)
    _set_entry(changed, ovmf.SEV_METADATA, firmware, struct.pack("<I", len(image) - at))
    _set_entry(changed, ovmf.SEV_HASH_TABLE, firmware, struct.pack("<II", page + _TABLE_OFFSET, _TABLE_BYTES))
    return bytes(changed)


def _complete(firmware: Firmware) -> bool:
    return firmware.hash_table_gpa is not None and firmware.has(SectionKind.KERNEL_HASHES)


def _make_room(sections: tuple[Section, ...]) -> tuple[Section, ...]:
    """The first page of the last plain memory section becomes the page of the hashes, as in OVMF's AmdSev build."""
    last = max(sections, key=lambda section: section.gpa, default=None)
    if last is None or last.kind != SectionKind.SEC_MEMORY or last.size <= _PAGE:
        raise _unsuitable("no memory section to take a page from")
    page = Section(last.gpa, _PAGE, SectionKind.KERNEL_HASHES)
    rest = replace(last, gpa=last.gpa + _PAGE, size=last.size - _PAGE)
    return (*(section for section in sections if section is not last), page, rest)


def _padding(image: bytes, size: int) -> int:
    """Offset of unused bytes: at the end of the variable store's spare area, which is erased flash (all ones)."""
    at = image.find(b"\xff" * (_PAGE + size))
    if at < 0:
        raise _unsuitable("no erased flash to put the table into")
    return at + _PAGE


def _set_entry(image: bytearray, guid: UUID, firmware: Firmware, data: bytes) -> None:
    """Replace the data of one entry of the footer table: it stands right before its length and GUID."""
    old = firmware.table[guid]
    entry = old + struct.pack("<H", len(old) + 18) + guid.bytes_le
    at = image.rfind(entry)
    if at < 0 or len(old) != len(data):
        raise _unsuitable("a table entry of another form")
    image[at : at + len(data)] = data


def _unsuitable(found: str) -> Unsupported:
    return Unsupported.of(
        "qemu.firmware",
        expected="an OVMF image for x86-64 with SEV-SNP metadata",
        found=found,
        remedy="Use OVMF.fd of Debian's package ovmf, or an AmdSev build of OVMF.",
    )
