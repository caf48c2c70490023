"""OVMF tables: what the real images say, and every way in which a table can lie."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from evident.errors import Malformed
from evident.evidence import ovmf


def entry(guid: uuid.UUID, data: bytes) -> bytes:
    return data + struct.pack("<H", len(data) + 18) + guid.bytes_le


def sev_metadata(*sections: tuple[int, int, int], length: int | None = None, version: int = 1, signature: bytes = b"ASEV") -> bytes:
    body = b"".join(struct.pack("<III", *section) for section in sections)
    return signature + struct.pack("<III", 16 + len(body) if length is None else length, version, len(sections)) + body


def image(*entries: bytes, metadata: bytes | None = None, size: int = 8192, table_size: int | None = None) -> bytes:
    """A firmware image whose footer table consists of `entries` and, at 0x800 from the end, the SEV metadata."""
    if metadata is not None:
        entries = (*entries, entry(ovmf.SEV_METADATA, struct.pack("<I", 0x800)))
    table = b"".join(entries)
    table += struct.pack("<H", len(table) + 18 if table_size is None else table_size) + ovmf.FOOTER.bytes_le
    raw = bytearray(size)
    raw[size - 32 - len(table) : size - 32] = table
    if metadata is not None:
        raw[size - 0x800 : size - 0x800 + len(metadata)] = metadata
    return bytes(raw)


GOOD = ((0x800000, 0x9000, 1), (0x80D000, 0x1000, 2), (0x80E000, 0x1000, 3), (0x810000, 0x1000, 0x10))
RESET = entry(ovmf.SEV_ES_RESET_BLOCK, struct.pack("<I", 0x80B004))
HASHES = entry(ovmf.SEV_HASH_TABLE, struct.pack("<II", 0x810C00, 0x400))


def test_reads_tables() -> None:
    firmware = ovmf.parse(image(RESET, HASHES, metadata=sev_metadata(*GOOD)))
    assert [(section.gpa, section.size, section.kind) for section in firmware.sections] == list(GOOD)
    assert firmware.reset_eip == 0x80B004
    assert firmware.hash_table_gpa == 0x810C00
    assert firmware.svsm_entry is None
    assert firmware.has(ovmf.SectionKind.KERNEL_HASHES)
    assert not firmware.has(ovmf.SectionKind.SVSM_CALLING_AREA)


def test_image_without_confidential_tables_is_an_image() -> None:
    firmware = ovmf.parse(image())
    assert (firmware.sections, firmware.reset_eip, firmware.hash_table_gpa) == ((), None, None)


def test_hash_table_at_zero_is_none() -> None:
    assert ovmf.parse(image(entry(ovmf.SEV_HASH_TABLE, bytes(8)))).hash_table_gpa is None


BAD: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "not whole pages": lambda: image()[:-1],
    "no footer": lambda: bytes(4096),
    "table larger than the image": lambda: image(table_size=9000),
    "table smaller than its footer": lambda: image(table_size=17),
    "bytes left over in the table": lambda: image(table_size=20),
    "entry larger than the table": lambda: image(struct.pack("<H", 90) + ovmf.SEV_HASH_TABLE.bytes_le),
    "entry smaller than its header": lambda: image(struct.pack("<H", 17) + ovmf.SEV_HASH_TABLE.bytes_le),
    "entry twice": lambda: image(RESET, RESET),
    "reset block of another size": lambda: image(entry(ovmf.SEV_ES_RESET_BLOCK, bytes(5))),
    "hash table entry of another size": lambda: image(entry(ovmf.SEV_HASH_TABLE, bytes(4))),
    "metadata outside": lambda: image(entry(ovmf.SEV_METADATA, struct.pack("<I", 8193))),
    "metadata too near to the end": lambda: image(entry(ovmf.SEV_METADATA, struct.pack("<I", 15))),
    "other signature": lambda: image(metadata=sev_metadata(*GOOD, signature=b"ASEW")),
    "other version": lambda: image(metadata=sev_metadata(*GOOD, version=2)),
    "length against count": lambda: image(metadata=sev_metadata(*GOOD, length=16)),
    "unaligned section": lambda: image(metadata=sev_metadata((0x800001, 0x1000, 1))),
    "section of part of a page": lambda: image(metadata=sev_metadata((0x800000, 0x1001, 1))),
    "empty section": lambda: image(metadata=sev_metadata((0x800000, 0, 1))),
    "section beyond 4 GiB": lambda: image(metadata=sev_metadata((0xFFFFF000, 0x2000, 1))),
    "two secrets pages": lambda: image(metadata=sev_metadata((0x800000, 0x2000, 2))),
    "two CPUID pages": lambda: image(metadata=sev_metadata((0x800000, 0x2000, 3))),
    "two hash pages": lambda: image(metadata=sev_metadata((0x800000, 0x2000, 0x10))),
    "hours of hashing": lambda: image(metadata=sev_metadata((0, 0xFFFFF000, 1))),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str) -> None:
    with pytest.raises(Malformed) as refusal:
        ovmf.parse(BAD[case]())
    assert refusal.value.code.startswith("ovmf")


def test_refuses_oversized() -> None:
    with pytest.raises(Malformed, match="64"):
        ovmf.parse(bytes(ovmf.MAX_IMAGE_BYTES + 4096))


def test_real_images(vectors: Any) -> None:
    with_hashes = ovmf.parse(vectors.read("launch/sev-snp-measure-ovmf", "ovmf_AmdSev_suffix.bin"))
    assert with_hashes.has(ovmf.SectionKind.KERNEL_HASHES)
    assert with_hashes.hash_table_gpa == 0x810C00
    without = ovmf.parse(vectors.read("launch/sev-snp-measure-ovmf", "ovmf_OvmfX64_suffix.bin"))
    assert without.hash_table_gpa is None
    assert ovmf.parse(vectors.read("launch/sev-snp-measure-svsm", "svsm.bin")).svsm_entry == 0
