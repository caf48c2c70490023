"""The files of a disk image's EFI system partition: GUID partition table, then FAT12, FAT16 or FAT32, read-only and bounded.

Sources: UEFI 2.10, section 5.3 (GPT) and 13.3 (file system format); Microsoft "FAT32 File System Specification" 1.03. All integers little
endian. The image is any buffer (bytes, or a memory map of a large file).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from evident.errors import Malformed
from evident.evidence import efi

Buffer: TypeAlias = bytes | mmap.mmap

SECTOR_SIZES = (512, 4096)
SYSTEM_PARTITION = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MAX_FILE_BYTES = 1024 * 1024 * 1024
MAX_ENTRIES = 65536
MAX_DEPTH = 16
ENTRY_BYTES = 32


def _refuse(problem: str, *, expected: str, found: str) -> Malformed:
    return Malformed.of(problem, expected=expected, found=found, remedy="Check that this is a raw disk image with an EFI system partition.")


def _used_entries(image: Buffer) -> tuple[int, bytes, tuple[bytes, ...]]:
    """Of the GPT: the sector size, the header, and the entries in use. Raises `Malformed` (``disk.gpt``)."""
    for size in SECTOR_SIZES:
        header = image[size : size + 92]
        if header[:8] != b"EFI PART" or len(header) < 92:
            continue
        start, count, entry = (int.from_bytes(header[offset : offset + width], "little") for offset, width in ((72, 8), (80, 4), (84, 4)))
        if not (128 <= entry <= 4096 and count <= efi.MAX_PARTITIONS and (start * size + count * entry) <= len(image)):
            raise _refuse("disk.gpt", expected="partition entries inside the image", found=f"{count} of {entry} bytes at sector {start}")
        starts = (start * size + index * entry for index in range(count))
        entries = (image[offset : offset + entry] for offset in starts)
        return size, header, tuple(raw for raw in entries if raw[:16].strip(b"\0"))
    raise _refuse("disk.gpt", expected="a GUID partition table", found="none")


def read_partition_table(image: Buffer) -> tuple[efi.PartitionTable, int]:
    """The GPT and the sector size. Raises `Malformed` (``disk.gpt``)."""
    size, header, entries = _used_entries(image)
    return efi.PartitionTable(efi.guid(header[56:72]), tuple(efi.parse_partition(raw) for raw in entries)), size


def gpt_event(image: Buffer) -> bytes:
    """What firmware measures of the disk that it boots from (UEFI_GPT_DATA, TCG PFP 1.06, section 10.4.4): the header, the number of
    partitions in use, and their entries. Raises `Malformed` (``disk.gpt``).
    """
    _, header, entries = _used_entries(image)
    return header + len(entries).to_bytes(8, "little") + b"".join(entries)


def open_system_partition(image: Buffer) -> FatVolume:
    """The file system of the first EFI system partition. Raises `Malformed` (``disk.*``, ``fat.*``)."""
    table, sector = read_partition_table(image)
    for partition in table.partitions:
        if partition.type == SYSTEM_PARTITION:
            start, end = partition.first * sector, (partition.last + 1) * sector
            if not start < end <= len(image):
                raise _refuse("disk.partition", expected=f"a partition inside {len(image)} bytes", found=f"{start} to {end}")
            return FatVolume.open(image, start, end)
    raise _refuse("disk.system-partition", expected="an EFI system partition", found=", ".join(item.type for item in table.partitions))


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    directory: bool
    cluster: int
    size: int


@dataclass(frozen=True, slots=True)
class FatVolume:
    """One FAT file system inside an image."""

    image: Buffer
    start: int
    cluster_bytes: int
    fat_offset: int
    root_offset: int
    """Of the fixed root directory (FAT12 and FAT16)."""
    root_entries: int
    root_cluster: int
    """Of FAT32; 0 otherwise."""
    data_offset: int
    clusters: int
    bits: int

    @classmethod
    def open(cls, image: Buffer, start: int, end: int) -> FatVolume:
        """Read and check the boot sector."""
        boot = image[start : start + 512]
        if len(boot) < 512 or boot[510:512] != b"\x55\xaa":
            raise _refuse("fat.signature", expected="a FAT boot sector", found=boot[510:512].hex())

        def number(offset: int, size: int) -> int:
            return int.from_bytes(boot[offset : offset + size], "little")

        sector, per_cluster, reserved, fats = number(11, 2), number(13, 1), number(14, 2), number(16, 1)
        root_entries, total, fat_sectors = number(17, 2), number(19, 2) or number(32, 4), number(22, 2) or number(36, 4)
        if (
            sector not in (512, 1024, 2048, 4096)
            or per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128)
            or not (reserved and fats and fat_sectors)
        ):
            raise _refuse(
                "fat.geometry", expected="sector and cluster sizes of FAT", found=f"{sector} bytes, {per_cluster} sectors, {fats} tables"
            )
        root_sectors = -(-root_entries * ENTRY_BYTES // sector)
        data = reserved + fats * fat_sectors + root_sectors
        clusters = (total - data) // per_cluster
        if total <= data or start + total * sector > end:
            raise _refuse("fat.geometry", expected=f"at most {end - start} bytes", found=f"{total} sectors of {sector} bytes")
        bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
        if (clusters + 2) * bits > fat_sectors * sector * 8:
            raise _refuse("fat.geometry", expected="an allocation table for every cluster", found=f"{fat_sectors} sectors")
        root = start + (reserved + fats * fat_sectors) * sector
        return cls(
            image,
            start,
            per_cluster * sector,
            start + reserved * sector,
            root,
            root_entries,
            number(44, 4) if bits == 32 else 0,
            start + data * sector,
            clusters,
            bits,
        )

    def read(self, path: str) -> bytes:
        """A file by its path, parts divided by ``/``, letters of either case. Raises `Malformed` (``fat.path``, ``fat.chain``)."""
        node = self._find(path)
        if node.directory:
            raise _refuse("fat.path", expected=f"a file {path}", found="a directory")
        if node.size > MAX_FILE_BYTES:
            raise _refuse("fat.size", expected=f"at most {MAX_FILE_BYTES} bytes", found=f"{node.size} bytes of {path}")
        parts, left = [], node.size
        for cluster in self._chain(node.cluster) if left else ():
            parts.append(self._cluster(cluster)[:left])
            left -= len(parts[-1])
            if not left:
                break
        if left:
            raise _refuse("fat.chain", expected=f"{node.size} bytes of {path}", found=f"{left} bytes less")
        return b"".join(parts)

    def list(self, path: str) -> tuple[str, ...]:
        """Paths of the files in a directory, sorted; nothing for a directory that is not there."""
        try:
            node = self._find(path)
        except Malformed as missing:
            if missing.code != "fat.path":
                raise
            return ()
        return tuple(sorted(f"{path}/{child.name}" for child in self._children(node) if not child.directory))

    def walk(self) -> Iterator[tuple[str, int]]:
        """Every file with its size, in the order of the directories. Raises `Malformed` (``fat.chain``, ``fat.depth``, ``fat.cycle``)."""
        return self._walk(None, "", set())

    def _walk(self, directory: _Node | None, path: str, seen: set[int]) -> Iterator[tuple[str, int]]:
        if path.count("/") >= MAX_DEPTH:
            raise _refuse("fat.depth", expected=f"at most {MAX_DEPTH} levels", found=path)
        for child in self._children(directory):
            below = f"{path}/{child.name}".lstrip("/")
            if child.directory:
                if child.cluster in seen:  # each entry more would double the work with every level
                    raise _refuse("fat.cycle", expected="every directory in one place", found=f"{below} in a second one")
                seen.add(child.cluster)
                yield from self._walk(child, below, seen)
            else:
                yield below, child.size

    def _find(self, path: str) -> _Node:
        node: _Node | None = None
        for part in path.split("/"):
            found = next((child for child in self._children(node) if child.name.lower() == part.lower()), None)
            if found is None:
                raise _refuse("fat.path", expected=f"{path} on the EFI system partition", found=f"no {part}")
            node = found
        if node is None:
            raise _refuse("fat.path", expected="a path", found=repr(path))
        return node

    def _children(self, node: _Node | None) -> Iterator[_Node]:
        if node is not None and not node.directory:
            return
        long_name: dict[int, str] = {}
        for count, raw in enumerate(self._entries(node)):
            if count > MAX_ENTRIES or raw[0] == 0:
                return
            attributes = raw[11]
            if raw[0] == 0xE5 or (attributes & 0x08 and attributes != 0x0F):
                long_name = {}
            elif attributes == 0x0F:
                long_name[raw[0] & 0x3F] = efi.utf16_lenient(raw[1:11] + raw[14:26] + raw[28:32]).split("\uffff", 1)[0]
            else:
                name = "".join(part for _, part in sorted(long_name.items())) or _short_name(raw)
                long_name = {}
                if name not in (".", ".."):
                    cluster = int.from_bytes(raw[26:28], "little") | (int.from_bytes(raw[20:22], "little") << 16 if self.bits == 32 else 0)
                    yield _Node(name, bool(attributes & 0x10), cluster, int.from_bytes(raw[28:32], "little"))

    def _entries(self, node: _Node | None) -> Iterator[bytes]:
        if node is None and self.bits != 32:
            blocks: Iterator[bytes] = iter((self.image[self.root_offset : self.root_offset + self.root_entries * ENTRY_BYTES],))
        else:
            blocks = (self._cluster(cluster) for cluster in self._chain(self.root_cluster if node is None else node.cluster))
        for block in blocks:
            for offset in range(0, len(block) - ENTRY_BYTES + 1, ENTRY_BYTES):
                yield block[offset : offset + ENTRY_BYTES]

    def _cluster(self, cluster: int) -> bytes:
        offset = self.data_offset + (cluster - 2) * self.cluster_bytes
        return self.image[offset : offset + self.cluster_bytes]

    def _chain(self, cluster: int) -> Iterator[int]:
        end = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self.bits]
        seen: set[int] = set()
        while cluster < end:
            if not 2 <= cluster < self.clusters + 2 or cluster in seen:
                raise _refuse("fat.chain", expected=f"a chain of distinct clusters 2 to {self.clusters + 1}", found=f"cluster {cluster}")
            yield cluster
            seen.add(cluster)
            cluster = self._next(cluster)

    def _next(self, cluster: int) -> int:
        if self.bits == 12:
            offset = self.fat_offset + cluster * 3 // 2
            pair = int.from_bytes(self.image[offset : offset + 2], "little")
            return pair >> 4 if cluster % 2 else pair & 0xFFF
        width = self.bits // 8
        offset = self.fat_offset + cluster * width
        return int.from_bytes(self.image[offset : offset + width], "little") & 0x0FFFFFFF


def _short_name(raw: bytes) -> str:
    stem, extension = raw[:8].decode("latin-1").rstrip(), raw[8:11].decode("latin-1").rstrip()
    return f"{stem}.{extension}" if extension else stem
