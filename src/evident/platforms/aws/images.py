"""The disk image that is to be uploaded: what is in the file, and its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evident.errors import UsageError
from evident.platforms import boot_image
from evident.platforms.aws.requests import BLOCK, ImageSpec


def blocks(file: Path) -> Iterator[tuple[int, bytes]]:
    """Every block of `file` with its index; the last one may be shorter."""
    with file.open("rb") as stream:
        yield from enumerate(iter(lambda: stream.read(BLOCK), b""))


def described(file: Path, uefi_data: str | None = None) -> ImageSpec:
    """The specification of the image in `file`. Raises `UsageError` ``aws.image`` when there is none."""
    return ImageSpec(*boot_image.measured(file, _no_image), uefi_data)


def _no_image(file: Path, found: str) -> UsageError:
    return UsageError.of("aws.image", expected=f"the raw disk image in {file}", found=found, remedy="Name the file that was ordered.")
