"""The VHD that is uploaded, against the specification and, where it is installed, another implementation."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from evident.errors import UsageError
from evident.platforms.azure.images import PAGES, described, footer, geometry, pages
from evident.platforms.azure.requests import FOOTER, MIB, ImageSpec


def assembled(file: Path) -> bytes:
    """What the service holds after every page has arrived."""
    image = described(file)
    whole = bytearray(image.disk_bytes + FOOTER)
    for offset, page in pages(file, image):
        assert offset % 512 == 0
        assert len(page) % 512 == 0
        assert len(page) <= PAGES
        whole[offset : offset + len(page)] = page
    return bytes(whole)


@pytest.mark.parametrize("size", [1, 512, MIB - 1, MIB, MIB + 1, PAGES, PAGES + 513])
def test_the_disk_is_the_image_in_whole_mebibytes_and_a_footer(tmp_path: Path, size: int) -> None:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"\xe9" * size)
    whole = assembled(file)
    assert (len(whole) - FOOTER) % MIB == 0
    assert len(whole) - FOOTER - size < MIB
    assert whole[:size] == file.read_bytes()
    assert not whole[size:-FOOTER].strip(b"\0")
    assert whole[-FOOTER:] == footer(described(file))


def test_pages_of_zeros_are_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "disk.raw"
    file.write_bytes(bytes(PAGES) + b"x" + bytes(2 * PAGES))
    assert [offset for offset, _ in pages(file, described(file))] == [PAGES, 3 * PAGES + MIB]
    assert assembled(file)[: 3 * PAGES + 1] == file.read_bytes()


def test_every_field_of_the_footer() -> None:
    """Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"."""
    made = footer(ImageSpec("ab" * 32, 3 * MIB))
    assert len(made) == FOOTER
    cookie, features, version, offset, time, _, _, _, original, current = struct.unpack_from(">8sIIQI4sI4sQQ", made)
    assert (cookie, features, version, offset, time) == (b"conectix", 2, 0x10000, 0xFFFFFFFFFFFFFFFF, 0)
    assert original == current == 3 * MIB
    cylinders, heads, sectors, kind, checksum = struct.unpack_from(">HBBII", made, 56)
    assert kind == 2
    assert cylinders * heads * sectors <= 3 * MIB // 512
    assert checksum == ~(sum(made) - sum(made[64:68])) & 0xFFFFFFFF
    assert made[68:84] != bytes(16)
    assert not made[84:].strip(b"\0")


def test_the_same_image_has_the_same_footer_and_no_other_has() -> None:
    one = ImageSpec("ab" * 32, MIB)
    assert footer(one) == footer(ImageSpec("ab" * 32, MIB))
    assert footer(one) != footer(ImageSpec("ac" * 32, MIB))


@pytest.mark.parametrize(
    ("sectors", "expected"),
    [
        (2048, (30, 4, 17)),
        (17 * 16 * 1024, (561, 16, 31)),
        (31 * 16 * 1024, (503, 16, 63)),
        (65535 * 16 * 63, (16191, 16, 255)),
        (1 << 40, (65535, 16, 255)),
    ],
)
def test_the_geometry_of_the_appendix(sectors: int, expected: tuple[int, int, int]) -> None:
    assert geometry(sectors) == expected


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")
@pytest.mark.parametrize("damage", [False, True])
def test_qemu_reads_it(tmp_path: Path, damage: bool) -> None:
    """Another reader of the format takes it for a disk of this size, and minds the checksum."""
    file, vhd = tmp_path / "disk.raw", tmp_path / "disk.vhd"
    file.write_bytes(b"EFI PART" * 100_000)
    whole = assembled(file)
    vhd.write_bytes(whole[:-1] + b"\1" if damage else whole)
    drive = f"if=none,id=d,format=vpc,force_size_calc=current_size,readonly=on,file={vhd}"
    command = ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio", "-drive", drive]
    orders = "".join(json.dumps({"execute": order}) for order in ("qmp_capabilities", "query-block", "quit"))
    ran = subprocess.run(command, input=orders, capture_output=True, text=True, timeout=60, check=False)
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    sizes = [each["return"][0]["inserted"]["image"]["virtual-size"] for each in answers if isinstance(each.get("return"), list)]
    assert sizes == ([] if damage else [MIB])
    assert ("checksum" in ran.stderr) is damage


@pytest.mark.parametrize("content", [None, b""])
def test_no_image_is_said(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "disk.raw").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        described(tmp_path / "disk.raw")
    assert caught.value.code == "azure.image"
