"""Write a disk: a GUID partition table, and an EFI system partition with one file on it.

Sources: UEFI 2.10, section 5.3 (GPT) and 13.3; Microsoft "FAT32 File System Specification" 1.03; UAPI Group "Discoverable Partitions
Specification" (type GUIDs). Every identifier is given by the caller, every time stamp is the image's own.
"""

from __future__ import annotations

import binascii
import struct
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SECTOR = 512
ALIGNMENT = 1024 * 1024
SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
ROOT_VERITY = uuid.UUID("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_ENTRIES, _ENTRY_BYTES = 128, 128
_FAT_DATE = (2025 - 1980) << 9 | 1 << 5 | 1
_FIRST_CLUSTER, _RESERVED, _LEAST_FAT32 = 2, 32, 65525
_END = 0x0FFFFFFF


@dataclass(frozen=True, slots=True)
class Partition:
    name: str
    type: uuid.UUID
    identifier: uuid.UUID
    content: bytes | Path = b""
    size: int = 0
    """Bytes, where it is more than the content's."""

    def bytes_needed(self) -> int:
        held = self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)
        return max(held, self.size)


def write(target: Path, identifier: uuid.UUID, partitions: Sequence[Partition]) -> None:
    """Write the disk image `target`: sparse where nothing is."""
    placed, at = [], ALIGNMENT
    for partition in partitions:
        size = _align(partition.bytes_needed(), ALIGNMENT)
        placed.append((partition, at // SECTOR, (at + size) // SECTOR - 1))
        at += size
    total = (at + ALIGNMENT) // SECTOR
    entries = b"".join(_entry(partition, first, last) for partition, first, last in placed).ljust(_ENTRIES * _ENTRY_BYTES, b"\0")
    with target.open("wb") as stream:
        stream.truncate(total * SECTOR)
        _put(stream, 0, _protective(total))
        _put(stream, 1, _header(identifier, entries, total, backup=False))
        _put(stream, 2, entries)
        for partition, first, _ in placed:
            _copy(stream, first, partition.content)
        _put(stream, total - 33, entries)
        _put(stream, total - 1, _header(identifier, entries, total, backup=True))


def _put(stream: BinaryIO, sector: int, data: bytes) -> None:
    stream.seek(sector * SECTOR)
    stream.write(data)


def _copy(stream: BinaryIO, sector: int, content: bytes | Path) -> None:
    stream.seek(sector * SECTOR)
    if isinstance(content, bytes):
        stream.write(content)
        return
    with content.open("rb") as source:
        while block := source.read(1 << 20):
            stream.write(block)


def _entry(partition: Partition, first: int, last: int) -> bytes:
    name = partition.name.encode("utf-16-le").ljust(72, b"\0")
    return partition.type.bytes_le + partition.identifier.bytes_le + struct.pack("<QQQ", first, last, 0) + name


def _header(identifier: uuid.UUID, entries: bytes, total: int, *, backup: bool) -> bytes:
    own, other, table = (total - 1, 1, total - 33) if backup else (1, total - 1, 2)
    fields = (own, other, 34, total - 34, identifier.bytes_le, table, _ENTRIES, _ENTRY_BYTES, binascii.crc32(entries))
    header = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, *fields)
    return (header[:16] + struct.pack("<I", binascii.crc32(header)) + header[20:]).ljust(SECTOR, b"\0")


def _protective(total: int) -> bytes:
    record = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(total - 1, 0xFFFFFFFF))
    return (bytes(446) + record).ljust(510, b"\0") + b"\x55\xaa"


def system_partition(files: Iterable[tuple[str, bytes]], serial: int) -> bytes:
    """A FAT32 volume with `files` (paths of upper-case 8.3 names, such as EFI/BOOT/BOOTX64.EFI)."""
    root: dict[str, object] = {}
    for path, data in files:
        *parents, name = path.split("/")
        folder = root
        for parent in parents:
            folder = folder.setdefault(parent, {})  # type: ignore[assignment]  # a folder holds folders and files
        folder[name] = data
    writer = _Fat()
    writer.folder(root, first=True, parent=0)
    return writer.volume(serial)


class _Fat:
    """Clusters of one sector, handed out in order."""

    def __init__(self) -> None:
        self._table = [0x0FFFFFF8, _END]
        self._data = bytearray()

    def _take(self, size: int) -> int:
        """Reserve a chain for `size` bytes; its first cluster."""
        count, first = max(1, -(-size // SECTOR)), len(self._table)
        self._table += [*range(first + 1, first + count), _END]
        self._data += bytes(count * SECTOR)
        return first

    def _fill(self, first: int, data: bytes) -> None:
        at = (first - _FIRST_CLUSTER) * SECTOR
        self._data[at : at + len(data)] = data

    def folder(self, members: dict[str, object], *, first: bool, parent: int) -> int:
        own = self._take(32 * (len(members) + (0 if first else 2)))
        records = [] if first else [_record(".", 0x10, own, 0), _record("..", 0x10, parent, 0)]
        for name, member in sorted(members.items()):
            if isinstance(member, dict):
                records.append(_record(name, 0x10, self.folder(member, first=False, parent=0 if first else own), 0))
            elif isinstance(member, bytes):
                start = self._take(len(member))
                self._fill(start, member)
                records.append(_record(name, 0x20, start, len(member)))
        self._fill(own, b"".join(records))
        return own

    def volume(self, serial: int) -> bytes:
        clusters = max(len(self._table) - _FIRST_CLUSTER + 2048, _LEAST_FAT32 + 16)
        fat_sectors = -(-(clusters + _FIRST_CLUSTER) * 4 // SECTOR)
        total = _RESERVED + 2 * fat_sectors + clusters
        geometry = struct.pack("<HBHBHHBHHHII", SECTOR, 1, _RESERVED, 2, 0, 0, 0xF8, 0, 63, 255, 0, total)
        extended = struct.pack("<IHHIHH12sBBBI11s8s", fat_sectors, 0, 0, 2, 1, 6, b"", 0x80, 0, 0x29, serial, b"NO NAME    ", b"FAT32   ")
        boot = (b"\xeb\x58\x90EVIDENT " + geometry + extended).ljust(510, b"\0") + b"\x55\xaa"
        info = (b"RRaA".ljust(484, b"\0") + b"rrAa" + b"\xff" * 8).ljust(508, b"\0") + b"\0\0\x55\xaa"
        reserved = bytearray(_RESERVED * SECTOR)
        for copy in (0, 6):
            reserved[copy * SECTOR : (copy + 2) * SECTOR] = boot + info
        table = struct.pack(f"<{len(self._table)}I", *self._table).ljust(fat_sectors * SECTOR, b"\0")
        return bytes(reserved) + table + table + bytes(self._data).ljust(clusters * SECTOR, b"\0")


def _record(name: str, attributes: int, cluster: int, size: int) -> bytes:
    stem, _, extension = (name, "", "") if name in {".", ".."} else name.partition(".")
    short = stem.encode("ascii").ljust(8) + extension.encode("ascii").ljust(3)
    dates = (0, _FAT_DATE, _FAT_DATE, cluster >> 16, 0, _FAT_DATE, cluster & 0xFFFF, size)
    return struct.pack("<11sBBBHHHHHHHI", short, attributes, 0, 0, *dates)


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment
