"""A raw disk image as Azure takes it: a fixed VHD, page by page.

A fixed VHD is the disk's bytes, here filled up with zeros to whole MiB, and a footer of 512 bytes. Sources: Microsoft, "Virtual Hard Disk
Image Format Specification" 1.0 (2006-10-11), sections "Hard Disk Footer Format" and appendix "CHS Calculation"; Microsoft Learn,
"Prepare a VHD to upload to Azure" (whole MiB, generation 2).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from evident.errors import UsageError
from evident.platforms import boot_image
from evident.platforms.azure.requests import ImageSpec, UefiKeys

PAGES: Final = 4 << 20
"""Bytes of one write; the Blob service takes no more."""
_FOOTER: Final = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_CHECKSUM_AT: Final = 64
_FIXED: Final = 2
_NOWHERE: Final = 0xFFFF_FFFF_FFFF_FFFF
_SECTOR: Final = 512
_ZEROS: Final = bytes(PAGES)


def described(file: Path, keys: UefiKeys | None = None) -> ImageSpec:
    """The specification of the image in `file`. Raises `UsageError` ``azure.image`` when there is none."""
    return ImageSpec(*boot_image.measured(file, _no_image), keys)


def pages(file: Path, image: ImageSpec) -> Iterator[tuple[int, bytes]]:
    """Every part of the VHD of `file` that is not zeros, and where it belongs; the footer last."""
    offset = 0
    with file.open("rb") as stream:
        while data := stream.read(PAGES):
            if data != _ZEROS[: len(data)]:
                yield offset, data.ljust(-(-len(data) // _SECTOR) * _SECTOR, b"\0")
            offset += len(data)
    yield image.disk_bytes, footer(image)


def footer(image: ImageSpec) -> bytes:
    """The footer of `image`: the same bytes for the same image, so the time in it is 0 and its id is made of the digest."""
    size = image.disk_bytes
    cylinders, heads, sectors = geometry(size // _SECTOR)
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, image.sha256).bytes
    fields = (b"conectix", 2, 0x0001_0000, _NOWHERE, 0, b"evid", 0x0001_0000, b"\0\0\0\0", size, size, cylinders, heads, sectors, _FIXED)
    blank = _FOOTER.pack(*fields, 0, identifier, 0)
    checksum = struct.pack(">I", ~sum(blank) & 0xFFFF_FFFF)
    return blank[:_CHECKSUM_AT] + checksum + blank[_CHECKSUM_AT + len(checksum) :]


def geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track that the specification's appendix derives; nobody boots by them any more."""
    total = min(sectors, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        track, heads = 255, 16
        return total // track // heads, heads, track
    track = 17
    over = total // track
    heads = max((over + 1023) // 1024, 4)
    if over >= heads * 1024 or heads > 16:
        track, heads = 31, 16
        over = total // track
    if over >= heads * 1024:
        track, heads = 63, 16
        over = total // track
    return over // heads, heads, track


def _no_image(file: Path, found: str) -> UsageError:
    return UsageError.of("azure.image", expected=f"the raw disk image in {file}", found=found, remedy="Name the file that was ordered.")
