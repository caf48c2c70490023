"""Disk images: the files of an EFI system partition, in every FAT, and images that lie about their geometry."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from evident.errors import Malformed
from evident.evidence import disk

SECTOR = 512
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def a_disk(volume: bytes) -> bytes:
    """A GPT with one EFI system partition at sector 34 (backup table left out; nothing here reads it)."""
    entry = uuid.UUID(disk.SYSTEM_PARTITION).bytes_le + uuid.uuid4().bytes_le
    entry += (34).to_bytes(8, "little") + (34 + len(volume) // SECTOR - 1).to_bytes(8, "little") + bytes(8) + "ESP".encode("utf-16-le")
    header = b"EFI PART" + bytes(48) + bytes(16) + (2).to_bytes(8, "little") + (128).to_bytes(4, "little") + (128).to_bytes(4, "little")
    return bytes(SECTOR) + header.ljust(SECTOR, b"\0") + entry.ljust(32 * SECTOR, b"\0") + volume


def a_fat12(files: dict[str, bytes]) -> bytes:
    """A FAT12 volume of 512-byte clusters with upper-case 8.3 names."""
    clusters: list[bytes] = []
    table = [0xFF8, 0xFFF]

    def store(content: bytes) -> int:
        blocks = [content[start : start + SECTOR].ljust(SECTOR, b"\0") for start in range(0, len(content), SECTOR)]
        first = len(table)
        for index, block in enumerate(blocks):
            clusters.append(block)
            table.append(0xFFF if index == len(blocks) - 1 else first + index + 1)
        return first if blocks else 0

    def entry(name: str, attributes: int, cluster: int, size: int) -> bytes:
        stem, _, extension = name.partition(".")
        return (
            stem.ljust(8).encode() + extension.ljust(3).encode() + bytes([attributes]) + bytes(14)
            + cluster.to_bytes(2, "little") + size.to_bytes(4, "little")
        )  # fmt: skip

    def directory(prefix: str) -> bytes:
        result = b""
        here = sorted({path[len(prefix) :].split("/")[0] for path in files if path.startswith(prefix)})
        for name in here:
            if prefix + name in files:
                content = files[prefix + name]
                result += entry(name, 0x20, store(content), len(content))
            else:
                result += entry(name, 0x10, store(directory(f"{prefix}{name}/") or bytes(32)), 0)
        return result

    root = directory("").ljust(16 * 32, b"\0")
    packed = bytearray(9 * SECTOR)
    for index, value in enumerate(table):
        position = index * 3 // 2
        packed[position] |= (value << 4 & 0xF0) if index % 2 else value & 0xFF
        packed[position + 1] |= value >> 4 if index % 2 else value >> 8
    total = 1 + 9 + 1 + max(len(clusters), 64)
    boot = b"\xeb\x3c\x90" + b"TEST    " + SECTOR.to_bytes(2, "little") + b"\1\1\0\1\x10\0" + total.to_bytes(2, "little") + b"\xf8\x09\0"
    body = boot.ljust(510, b"\0") + b"\x55\xaa" + bytes(packed) + root + b"".join(clusters)
    return body.ljust(total * SECTOR, b"\0")


FILES = {"EFI/BOOT/BOOTX64.EFI": b"first" * 500, "EFI/LINUX/ONE.EFI": b"one", "EFI/LINUX/TWO.EFI": b"", "README.TXT": b"hello"}
VOLUME = a_fat12(FILES)


def test_files_are_found_read_and_listed() -> None:
    system = disk.open_system_partition(a_disk(VOLUME))
    assert system.bits == 12
    for path, content in FILES.items():
        assert system.read(path) == content
        assert system.read(path.lower()) == content
    assert dict(system.walk()) == {path: len(content) for path, content in FILES.items()}
    assert system.list("EFI/Linux") == ("EFI/Linux/ONE.EFI", "EFI/Linux/TWO.EFI")
    assert system.list("EFI/none") == ()


@pytest.mark.parametrize(("bits", "megabytes", "cluster"), [(12, 2, 1), (16, 16, 2), (32, 64, 1)])
def test_what_other_tools_write_is_read(tmp_path: Path, bits: int, megabytes: int, cluster: int) -> None:
    if not (shutil.which("mkfs.vfat", path=PATH) and shutil.which("mcopy", path=PATH)):
        pytest.skip("no mkfs.vfat or mcopy (Debian: dosfstools mtools)")
    volume = tmp_path / "volume"
    volume.write_bytes(bytes(megabytes << 20))
    content = bytes(range(256)) * 700
    (tmp_path / "source").write_bytes(content)
    name = "EFI/Linux/a rather long name of an image, 6.1.efi"
    for command in (
        ["mkfs.vfat", "-F", str(bits), "-s", str(cluster), "volume"],
        ["mmd", "-i", "volume", "::/EFI", "::/EFI/Linux"],
        ["mcopy", "-i", "volume", "source", f"::/{name}"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env={"PATH": PATH})
    system = disk.open_system_partition(a_disk(volume.read_bytes()))
    assert system.bits == bits
    assert system.list("EFI/Linux") == (name,)
    assert system.read(name) == content


def changed(raw: bytes, offset: int, value: bytes) -> bytes:
    return raw[:offset] + value + raw[offset + len(value) :]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "disk.gpt"),
        (bytes(4096), "disk.gpt"),
        (changed(a_disk(VOLUME), SECTOR + 80, b"\xff\xff\xff\x7f"), "disk.gpt"),
        (changed(a_disk(VOLUME), 1024 + 40, b"\xff\xff\xff\x7f"), "disk.partition"),
        (changed(a_disk(VOLUME), 1024, b"\1\1"), "disk.system-partition"),
        (a_disk(bytes(SECTOR) * 8), "fat.signature"),
        (a_disk(changed(VOLUME, 11, b"\1\0")), "fat.geometry"),
        (a_disk(changed(VOLUME, 19, b"\xff\xff")), "fat.geometry"),
        (a_disk(changed(VOLUME, 22, b"\0\0")), "fat.geometry"),
    ],
)
def test_images_that_lie_are_malformed_by_their_own_code(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        disk.open_system_partition(raw)
    assert caught.value.code == code


@pytest.mark.parametrize("entries", [b"\x02\x20\x00" * 6, b"\0" * 18, b"\x00\x0f\xf0" * 6])
def test_cluster_chains_that_loop_or_leave_are_malformed(entries: bytes) -> None:
    fat = disk.open_system_partition(a_disk(VOLUME)).fat_offset - 34 * SECTOR
    system = disk.open_system_partition(a_disk(changed(VOLUME, fat + 3, entries)))
    with pytest.raises(Malformed) as caught:
        system.read("EFI/BOOT/BOOTX64.EFI")
    assert caught.value.code == "fat.chain"


def test_a_directory_in_two_places_is_not_walked() -> None:
    root = disk.open_system_partition(a_disk(VOLUME)).root_offset
    raw = a_disk(VOLUME)
    efi = raw[root : root + 32]
    assert efi.startswith(b"EFI ")
    twice = changed(raw, root + 64, b"AGAIN      " + efi[11:])
    with pytest.raises(Malformed) as caught:
        dict(disk.open_system_partition(twice).walk())
    assert caught.value.code == "fat.cycle"


@pytest.mark.parametrize("path", ["", "EFI", "none", "README.TXT/below"])
def test_paths_that_are_no_file_are_malformed(path: str) -> None:
    with pytest.raises(Malformed) as caught:
        disk.open_system_partition(a_disk(VOLUME)).read(path)
    assert caught.value.code == "fat.path"
