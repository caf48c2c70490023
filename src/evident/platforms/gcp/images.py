"""The disk image that is to be uploaded: what is in the file, and the archive that Google imports.

Source: Compute Engine documentation, "Manually import boot disks": a gzip-compressed tar archive in the old GNU format whose only member
is called ``disk.raw``, of a whole number of GiB. What the image lacks to that is zeros here; the copy of the partition table at its end
is then not at the end of the disk, which firmware and kernel do not mind: they read the one at the beginning.

The archive is the same bytes for the same image, with one version of zlib: no time, owner or name of a file of ours gets into it.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from evident.errors import UsageError
from evident.platforms import boot_image
from evident.platforms.gcp.requests import CHUNK, GIB, ImageSpec, SecureBootKeys

MEMBER: Final = "disk.raw"
_READ: Final = 1 << 20
_ZEROS: Final = bytes(_READ)
_GZIP: Final = 31
"""zlib's `wbits` for a gzip container, whose header then carries no time."""
_LEVEL: Final = 1
"""Disk images are mostly zeros and compressed already: more effort gains little, and takes long."""


def described(file: Path, keys: SecureBootKeys | None = None) -> ImageSpec:
    """The specification of the image in `file`. Raises `UsageError` ``gcp.image`` when there is none."""
    return ImageSpec(*boot_image.measured(file, _no_image), keys)


def secure_boot_keys(directory: Path) -> SecureBootKeys:
    """``PK.der``, ``KEK.der`` and ``db.der`` in `directory`. Raises `UsageError` ``gcp.keys`` where one is not there, or no certificate."""
    from cryptography import x509

    def certificate(name: str) -> bytes:
        try:
            content = (directory / name).read_bytes()
            x509.load_der_x509_certificate(content)
        except (OSError, ValueError) as error:
            found = (error.strerror if isinstance(error, OSError) else None) or "not an X.509 certificate in DER"
            remedy = "Name a directory with PK.der, KEK.der and db.der."
            raise UsageError.of("gcp.keys", expected=f"a certificate in {directory / name}", found=found, remedy=remedy) from None
        return content

    return SecureBootKeys(certificate("PK.der"), certificate("KEK.der"), certificate("db.der"))


def archive(file: Path) -> Iterator[bytes]:
    """The archive of the image in `file`, in pieces of `CHUNK` bytes; only the last is shorter."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    buffer = bytearray()
    for piece in _tar(file):
        buffer += packer.compress(piece)
        while len(buffer) >= CHUNK:
            yield bytes(buffer[:CHUNK])
            del buffer[:CHUNK]
    buffer += packer.flush()
    for start in range(0, len(buffer), CHUNK):
        yield bytes(buffer[start : start + CHUNK])


def _tar(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    whole = -(-size // GIB) * GIB
    entry = tarfile.TarInfo(MEMBER)
    entry.size, entry.mode, entry.mtime = whole, 0o644, 0
    yield entry.tobuf(tarfile.GNU_FORMAT)
    with file.open("rb") as stream:
        yield from iter(lambda: stream.read(_READ), b"")
    missing = whole - size
    while missing:
        yield _ZEROS[:missing]
        missing -= min(missing, _READ)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _no_image(file: Path, found: str) -> UsageError:
    return UsageError.of("gcp.image", expected=f"the raw disk image in {file}", found=found, remedy="Name the file that was ordered.")
