"""OVMF/EDK2 firmware images (and COCONUT-SVSM images, which carry the same tables): what a confidential launch reads from them.

Source: EDK2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm (the GUIDed table that ends 32 bytes before the image does, walked from its end),
OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm (section list), OvmfPkg/AmdSev (hash table and its page), coconut-svsm (SVSM info entry).
Integers are little endian, GUIDs in their mixed-endian wire form.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from evident.errors import Malformed
from evident.evidence.reader import Reader

WHAT = "ovmf"
PAGE = 4096
MAX_IMAGE_BYTES = 64 * 1024 * 1024
MAX_SECTION_BYTES = 64 * 1024 * 1024
"""Bound over all sections together, so that a hostile table cannot ask for hours of hashing."""
ADDRESS_LIMIT = 1 << 32

FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
SEV_METADATA = uuid.UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
SEV_ES_RESET_BLOCK = uuid.UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
SEV_HASH_TABLE = uuid.UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
SVSM_INFO = uuid.UUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd")

_RESET_VECTOR_BYTES = 32
_ENTRY_HEADER_BYTES = 18


class SectionKind(IntEnum):
    """Kinds of SEV metadata sections."""

    SEC_MEMORY = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CALLING_AREA = 4
    KERNEL_HASHES = 0x10


SINGLE_PAGE = frozenset({SectionKind.SECRETS, SectionKind.CPUID, SectionKind.KERNEL_HASHES})


@dataclass(frozen=True, slots=True)
class Section:
    """A page-aligned range of guest memory that the VMM prepares before launch."""

    gpa: int
    size: int
    kind: int
    """A `SectionKind`, or a number that this version does not know."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware image and what its tables say. Fields are None where the image has no such entry."""

    table: Mapping[uuid.UUID, bytes]
    """Every entry of the footer table."""
    sections: tuple[Section, ...]
    """SEV metadata, in table order; empty in an image without it."""
    reset_eip: int | None
    """Where application processors start (SEV-ES reset block)."""
    hash_table_gpa: int | None
    """Guest address at which the firmware looks for the kernel-hash table; None when it does not."""
    svsm_entry: int | None
    """Offset of the entry point in an SVSM image."""
    raw: bytes

    def has(self, kind: SectionKind) -> bool:
        return any(section.kind == kind for section in self.sections)


def parse(raw: bytes) -> Firmware:
    """Parse an image of whole 4 KiB pages, at most 64 MiB. Raises `Malformed` and nothing else."""
    if not raw or len(raw) % PAGE or len(raw) > MAX_IMAGE_BYTES:
        raise _malformed(
            "length",
            expected=f"a firmware image of whole 4096-byte pages, at most {MAX_IMAGE_BYTES} bytes",
            found=f"{len(raw)} bytes",
        )
    table = _footer_table(raw)
    return Firmware(
        table=MappingProxyType(table),
        sections=_sev_sections(raw, table),
        reset_eip=_number(table, SEV_ES_RESET_BLOCK, 4),
        hash_table_gpa=_number(table, SEV_HASH_TABLE, 8) or None,
        svsm_entry=_number(table, SVSM_INFO, 4),
        raw=raw,
    )


def _malformed(problem: str, *, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}",
        expected=expected,
        found=found,
        remedy="Pass the firmware binary exactly as the host launches it (OVMF.fd or OVMF_CODE.fd; no variable store alone, no capsule).",
    )


def _footer_table(raw: bytes) -> dict[uuid.UUID, bytes]:
    end = len(raw) - _RESET_VECTOR_BYTES
    size, guid = _entry_header(raw, end)
    if guid != FOOTER:
        raise _malformed("footer", expected=f"the OVMF table footer {FOOTER} 32 bytes before the end", found=str(guid))
    if size < _ENTRY_HEADER_BYTES or size > end:
        raise _malformed("table", expected="a table that lies within the image", found=f"{size} bytes")
    start, position = end - size, end - _ENTRY_HEADER_BYTES
    table: dict[uuid.UUID, bytes] = {}
    while position > start:
        if position - start < _ENTRY_HEADER_BYTES:
            raise _malformed("table", expected="entries that fill the table", found=f"{position - start} bytes left over")
        size, guid = _entry_header(raw, position)
        if not _ENTRY_HEADER_BYTES <= size <= position - start:
            raise _malformed("table", expected=f"an entry {guid} of 18 to {position - start} bytes", found=f"{size} bytes")
        if guid in table:
            raise _malformed("table", expected=f"entry {guid} once", found="twice")
        table[guid] = raw[position - size : position - _ENTRY_HEADER_BYTES]
        position -= size
    return table


def _entry_header(raw: bytes, end: int) -> tuple[int, uuid.UUID]:
    """Size (with this header) and GUID of the entry whose header ends at `end`."""
    reader = Reader(raw[end - _ENTRY_HEADER_BYTES : end], WHAT)
    return reader.u16("entry size"), uuid.UUID(bytes_le=reader.take(16, "entry GUID"))


def _number(table: Mapping[uuid.UUID, bytes], guid: uuid.UUID, length: int) -> int | None:
    """The leading u32 of an entry whose data has `length` bytes."""
    data = table.get(guid)
    if data is None:
        return None
    if len(data) != length:
        raise _malformed("entry", expected=f"{length} bytes in entry {guid}", found=f"{len(data)} bytes")
    return int.from_bytes(data[:4], "little")


def _sev_sections(raw: bytes, table: Mapping[uuid.UUID, bytes]) -> tuple[Section, ...]:
    from_end = _number(table, SEV_METADATA, 4)
    if from_end is None:
        return ()
    if not 16 <= from_end <= len(raw):
        raise _malformed("sev-metadata", expected="SEV metadata inside the image", found=f"{from_end:#x} bytes before its end")
    reader = Reader(raw[len(raw) - from_end :], WHAT + ".sev-metadata")
    signature, length = reader.take(4, "signature"), reader.u32("length")
    version, count = reader.u32("version"), reader.u32("number of sections")
    if signature != b"ASEV" or version != 1:
        raise _malformed("sev-metadata", expected="signature ASEV, version 1", found=f"{signature!r}, version {version}")
    # EDK2 counts the header into the length; an image whose two counts disagree is ambiguous.
    if length != 16 + 12 * count or length > from_end:
        raise _malformed("sev-metadata", expected=f"{16 + 12 * count} bytes for {count} sections", found=f"{length} bytes")
    sections = tuple(Section(reader.u32("address"), reader.u32("size"), reader.u32("kind")) for _ in range(count))
    check_sections(sections)
    return sections


def check_sections(sections: tuple[Section, ...]) -> None:
    """Refuse a section list that no firmware can mean: unaligned, outside 4 GiB, or too much to hash."""
    for section in sections:
        _check_section(section)
    if sum(section.size for section in sections) > MAX_SECTION_BYTES:
        raise _malformed("sev-metadata", expected=f"at most {MAX_SECTION_BYTES} bytes in all sections", found="more")


def _check_section(section: Section) -> None:
    single = section.kind in SINGLE_PAGE
    aligned = section.gpa >= 0 and section.gpa % PAGE == 0 and section.size > 0 and section.size % PAGE == 0
    if not aligned or section.gpa + section.size > ADDRESS_LIMIT or (single and section.size != PAGE):
        raise _malformed(
            "section",
            expected="whole pages below 4 GiB" + (", exactly one of this kind" if single else ""),
            found=f"kind {section.kind}: {section.size:#x} bytes at {section.gpa:#x}",
        )
