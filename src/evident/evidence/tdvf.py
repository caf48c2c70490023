"""The TDX metadata of a virtual firmware (TDVF): which memory the VMM prepares before launch, and which of it is measured.

Source: Intel, "TDX Virtual Firmware Design Guide" 1.01, section 11 (descriptor, section types, attributes); EDK2
OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm, whose footer table entry `TDX_METADATA` gives the descriptor's distance from the end.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from evident.errors import Malformed, Unsupported
from evident.evidence import ovmf
from evident.evidence.ovmf import PAGE
from evident.evidence.reader import Reader

WHAT = "tdvf"
TDX_METADATA = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
DESCRIPTOR_BYTES, SECTION_BYTES = 16, 32
MAX_SECTIONS = 64
ADDRESS_LIMIT = 1 << 52

EXTEND = 1
"""Attribute: the content is measured."""
AUGMENT = 2
"""Attribute: the pages are added after launch, and so not at all measured."""


class SectionKind(IntEnum):
    """Kinds of sections."""

    BOOT_VOLUME = 0
    CONFIGURATION_VOLUME = 1
    TD_HOB = 2
    TEMPORARY_MEMORY = 3
    PERMANENT_MEMORY = 4
    PAYLOAD = 5
    PAYLOAD_PARAMETERS = 6
    TD_INFO = 7
    TD_PARAMETERS = 8


@dataclass(frozen=True, slots=True)
class Section:
    """A page-aligned range of guest memory; `data` is what the image has for it, at its start."""

    kind: SectionKind
    gpa: int
    size: int
    attributes: int
    data: bytes

    @property
    def measured(self) -> bool:
        return bool(self.attributes & EXTEND)

    @property
    def added(self) -> bool:
        return not self.attributes & AUGMENT


def parse(raw: bytes) -> tuple[Section, ...]:
    """The sections of a firmware image, in table order.

    Raises `Malformed` (``ovmf.*``, ``tdvf.*``) and `Unsupported` (``tdvf.none``: a build without TDX; ``tdvf.version``).
    """
    entry = ovmf.parse(raw).table.get(TDX_METADATA)
    if entry is None:
        raise Unsupported.of(
            "tdvf.none",
            expected="a firmware build with TDX metadata",
            found="an OVMF image without",
            remedy="Pass the TDX build of the firmware (EDK2's IntelTdxX64, or OvmfPkgX64 of 2022 and later).",
        )
    from_end = int.from_bytes(entry, "little") if len(entry) == 4 else 0
    if not DESCRIPTOR_BYTES <= from_end <= len(raw):
        raise _refuse("offset", "a descriptor inside the image", f"{from_end:#x} bytes before its end")
    reader = Reader(raw[len(raw) - from_end :], WHAT)
    signature, length = reader.take(4, "signature"), reader.u32("length")
    version, count = reader.u32("version"), reader.u32("number of sections")
    if signature != b"TDVF":
        raise _refuse("signature", "the signature TDVF", repr(signature))
    if version != 1:
        raise Unsupported.of("tdvf.version", expected="version 1", found=str(version), remedy="Ask for support of this version.")
    whole = DESCRIPTOR_BYTES + SECTION_BYTES * count
    if not 0 < count <= MAX_SECTIONS or length not in (whole, whole + 16) or whole > from_end:  # some builds count the GUID before it
        raise _refuse("length", f"1 to {MAX_SECTIONS} sections that fill the descriptor", f"{count} sections in {length} bytes")
    sections = tuple(_section(reader, raw) for _ in range(count))
    ordered = sorted(sections, key=lambda section: section.gpa)
    for first, second in pairwise(ordered):
        if first.gpa + first.size > second.gpa:
            raise _refuse("overlap", f"sections apart from {first.gpa:#x}", f"another at {second.gpa:#x}")
    if sum(section.size for section in sections if section.measured) > ovmf.MAX_SECTION_BYTES:
        raise _refuse("size", f"at most {ovmf.MAX_SECTION_BYTES} measured bytes", "more")
    return sections


def _section(reader: Reader, raw: bytes) -> Section:
    offset, data_size = reader.u32("data offset"), reader.u32("data size")
    gpa, size = reader.u64("address"), reader.u64("memory size")
    number, attributes = reader.u32("kind"), reader.u32("attributes")
    found = f"kind {number}: {size:#x} bytes at {gpa:#x}, {data_size:#x} bytes at {offset:#x} of the image, attributes {attributes:#x}"
    if number not in SectionKind.__members__.values():
        raise _refuse("kind", "a known kind of section", found)
    kind = SectionKind(number)
    aligned = gpa % PAGE == 0 and size % PAGE == 0 and gpa + size <= ADDRESS_LIMIT and (size > 0 or kind == SectionKind.TD_INFO)
    if not aligned or size > ovmf.MAX_SECTION_BYTES or attributes & ~(EXTEND | AUGMENT):
        raise _refuse("section", "whole pages of memory, and known attributes", found)
    if offset + data_size > len(raw) or (data_size > size and kind != SectionKind.TD_INFO):
        raise _refuse("data", "data inside image and section", found)
    if attributes & EXTEND and data_size != size:  # the VMM would choose what is measured there
        raise _refuse("measured", "all of a measured section in the image", found)
    return Section(kind, gpa, size, attributes, raw[offset : offset + data_size])


def _refuse(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Pass the firmware binary exactly as the host launches it (-bios)."
    )
