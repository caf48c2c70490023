"""Disks and UKIs as other readers see them: Evident's own, which read what other tools write, and sgdisk and fsck where installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from evident.errors import Unsupported
from evident.evidence import disk as reader
from evident.evidence import pe
from evident.evidence import uki as uki_reader
from evident.image import disk, uki
from evident.image.build import BOOT_PATH
from evident.reference_values.uki import predict_uki

IDENTIFIERS = [uuid.UUID(int=number) for number in (1, 2, 3)]
LOADER = bytes(range(256)) * 900


def a_disk(folder: Path) -> Path:
    volume = disk.system_partition([(BOOT_PATH, LOADER), ("A.TXT", b"")], 0x1234ABCD)
    target = folder / "disk.raw"
    partitions = [
        disk.Partition("ESP", disk.SYSTEM, IDENTIFIERS[1], volume),
        disk.Partition("data", disk.LINUX_DATA, IDENTIFIERS[2], b"payload", 3 * 1024 * 1024),
    ]
    disk.write(target, IDENTIFIERS[0], partitions)
    return target


def test_the_disk_reads_back(tmp_path: Path) -> None:
    raw = a_disk(tmp_path).read_bytes()
    table, sector = reader.read_partition_table(raw)
    assert (table.disk, sector, [item.name for item in table.partitions]) == (str(IDENTIFIERS[0]), 512, ["ESP", "data"])
    data = table.partitions[1]
    assert raw[data.first * 512 :].startswith(b"payload")
    assert (data.last - data.first + 1) * 512 == 3 * 1024 * 1024
    assert reader.open_system_partition(raw).read(BOOT_PATH) == LOADER


def test_two_disks_are_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert a_disk(tmp_path).read_bytes() == a_disk(tmp_path / "a").read_bytes()


@pytest.mark.skipif(shutil.which("sgdisk") is None, reason="sgdisk is not installed")
def test_sgdisk_finds_no_fault(tmp_path: Path) -> None:
    said = subprocess.run(["sgdisk", "-v", str(a_disk(tmp_path))], capture_output=True, text=True, check=True).stdout
    assert "No problems found" in said


@pytest.mark.skipif(shutil.which("fsck.vfat") is None, reason="dosfstools is not installed")
def test_fsck_finds_no_fault(tmp_path: Path) -> None:
    volume = tmp_path / "esp"
    volume.write_bytes(disk.system_partition([(BOOT_PATH, LOADER)], 1))
    done = subprocess.run(["fsck.vfat", "-n", "-v", str(volume)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def a_stub(headers: int = 0x400) -> bytes:
    """A small PE32+ with one section and room for more headers."""
    text = b"#### LoaderInfo: systemd-stub 257 ####".ljust(512, b"\0")
    optional = b"\x0b\x02" + bytes(30) + (0x1000).to_bytes(4, "little") + (512).to_bytes(4, "little") + bytes(16)
    optional += (0x2000).to_bytes(4, "little") + headers.to_bytes(4, "little") + bytes(4 + 44) + bytes(16 * 8)
    optional = optional[:108] + (16).to_bytes(4, "little") + optional[112:]
    coff = b"PE\0\0\x64\x86\x01\0" + bytes(12) + len(optional).to_bytes(2, "little") + b"\x22\0"
    section = b".sdmagic" + (39).to_bytes(4, "little") + (0x1000).to_bytes(4, "little") + (512).to_bytes(4, "little")
    section += headers.to_bytes(4, "little") + bytes(16)
    return (b"MZ" + bytes(58) + (64).to_bytes(4, "little") + coff + optional + section).ljust(headers, b"\0") + text


def test_the_sections_of_a_uki_read_back() -> None:
    sections = {".linux": b"kernel" * 1000, ".cmdline": b"console=ttyS0", ".initrd": b"i", ".osrel": b"ID=evident\n"}
    raw = uki.write(a_stub(), sections)
    parsed = uki_reader.parse(raw)
    assert dict(parsed.sections) == sections
    assert parsed.stub_version == 257
    addresses = [section.address for section in parsed.image.sections]
    assert addresses == sorted(addresses)
    assert all(address % 0x1000 == 0 for address in addresses)
    assert pe.authenticode(parsed.image, "sha256") != pe.authenticode(pe.parse(a_stub()), "sha256")
    assert uki.write(a_stub(), dict(reversed(sections.items()))) == raw


def test_a_stub_without_room_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"uki.headers"):
        uki.write(a_stub(0x200), dict.fromkeys(uki.ORDER, b"x"))


SEEN = (
    b"070701000000010000416d0000000000000000000000010000000000000000000000000000000000000000000000000000000700000000.extra\0\0\0\0"
    b"070701000000020000812400000000000000000000000100000000%08x000000000000000000000000000000000000001200000000.extra/os-release\0"
    b"ID=evident\n\0"
    b"07070100000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0"
) % 11
"""What a boot by systemd-stub 257 appended to the initrd (read back from /sys/firmware/initrd)."""


def test_pcr_9_holds_what_systemd_stub_257_appends_to_the_initrd() -> None:
    raw = uki.write(a_stub(), {".linux": a_stub(), ".cmdline": b"ro", ".initrd": b"five!", ".osrel": b"ID=evident\n"})
    stages = {
        version: next(item for item in predict_uki(raw, stub_version=version).measurements if item.stage == "initrd-as-loaded")
        for version in (256, 257)
    }
    assert stages[257].digests["sha256"] == hashlib.sha256(b"five!\0\0\0" + SEEN).digest()
    assert stages[256].digests["sha256"] == hashlib.sha256(b"five!").digest()


SECTIONS = {".linux": a_stub(), ".cmdline": b"ro", ".initrd": b"i" * 700, ".osrel": b"ID=evident\n"}


def test_another_command_line_gives_the_image_that_would_have_been_written_with_it() -> None:
    raw = uki.write(a_stub(), SECTIONS)
    for line in ("ro", "ro evident.verifier=10.0.2.100:8443", "r" * 5000):
        assert uki.with_command_line(raw, line) == uki.write(a_stub(), {**SECTIONS, ".cmdline": line.encode()})


def test_an_image_of_another_maker_gets_no_other_command_line() -> None:
    signed = uki.write(a_stub(), SECTIONS) + b"a signature behind the sections"
    with pytest.raises(Unsupported, match=r"uki.layout"):
        uki.with_command_line(signed, "ro")
