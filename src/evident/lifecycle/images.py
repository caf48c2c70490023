"""The image of a document: there, or built from the specification that the document names.

What is there is never built again and never replaced (BW-22): one image serves every machine of it, and only its digest says whether it is
the right one. Nothing here loads the builder; whoever asks for an image to be built brings it along.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evident.errors import Finding, NotAuthentic
from evident.files import read_private
from evident.image import names
from evident.lifecycle.specification import Image

if TYPE_CHECKING:
    from evident.image.manifest import Manifest

Build = Callable[[Path, Path], None]
"""Builds the image specification (first), with the lock beside it, into a folder (second). The manifest there comes last."""


def there(image: Image) -> bool:
    """Whether its folder holds an image, whichever that is. One whose build was cut short is none."""
    return (Path(image.path) / names.MANIFEST).is_file()


def stated(image: Image) -> Manifest:
    """What its manifest says, unverified: enough to plan by. Raises `Malformed`, and `UsageError` where it cannot be read."""
    from evident.image import manifest  # here, for there is none of an image that is yet to be built

    return manifest.read(read_private(Path(image.path) / names.MANIFEST))[0]


def lacking(image: Image) -> Finding | None:
    """Why there is no image and none can be built; None where there is one, or where one can be."""
    if there(image):
        return None
    if image.spec is None:
        remedy = "Build it with `evident image build`, correct image.path, or name its specification in image.spec."
        return Finding("plan.no-image", "input", f"an image in {image.path}", "none", remedy)
    for path, what in ((Path(image.spec), "specification"), (names.lock_of(Path(image.spec)), "lock")):
        if not path.is_file():
            remedy = f"`evident image build {image.spec} --out {image.path}` makes lock and image, and prints the digest for image.sha256."
            return Finding("plan.no-image", "input", f"an image in {image.path}, or its {what} {path}", "neither", remedy)
    return None


def make(image: Image, build: Build) -> None:
    """Build `image`, which is not there. Raises what `build` does, and `NotAuthentic` ``image.other-build`` for another one than named."""
    build(Path(image.spec or ""), Path(image.path))
    made = stated(image)
    found = made.file(names.DISK)
    if found != image.sha256:
        raise NotAuthentic.of(
            "image.other-build",
            expected=f"that {image.spec} and its lock yield an image whose disk.raw has the SHA-256 {image.sha256.hex()} (image.sha256)",
            found=f"{found.hex()}, built by Evident {made.evident} into {image.path}",
            remedy="If this is the image that you mean, write its digest into image.sha256. Else bring back the specification, lock and "
            "version of Evident that the digest was of, remove the folder, and run this again.",
            layer="boot_chain",
        )
