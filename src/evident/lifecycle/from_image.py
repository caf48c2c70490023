"""From a built image (`evident image build`) to an order: what to boot, how the guest finds its key server, and its encrypted disk.

The manifest must be signed by this verifier or another that is trusted, and the files must be those that it names. The profile
``encrypted`` gets a disk of its own here: a fresh key, and root and hash tree sealed under it; nothing but the key server keeps that key.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evident.audit.keys import VerifyingKey
from evident.errors import NotAuthentic, UsageError
from evident.evidence import disk as partitions
from evident.files import read_private
from evident.image import build, manifest, seal
from evident.image.manifest import Manifest
from evident.lifecycle.keystore import DiskKey
from evident.platforms.driver import Disk, Order, Surroundings

MANIFEST: Final = "manifest.json"
DISK_KEY_BYTES: Final = 64
_TABLE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    order: Order
    key: DiskKey | None
    """For the key server; None where the image needs none."""


def prepare(
    image: Path,
    directory: Path,
    surroundings: Surroundings,
    *,
    trusted: Iterable[VerifyingKey],
    parameters: Mapping[str, str],
    machine: Order,
) -> Prepared:
    """The order for `image`, its disk made in `directory`; `parameters` are appended to the command line, `machine` says all the rest.

    Raises `NotAuthentic` for a manifest or a file that is not what was signed, `UsageError` for what cannot be read.
    """
    stated, _ = manifest.verify(read_private(image / MANIFEST), trusted)
    kernel, initrd = (_file(image, stated, name) for name in (build.KERNEL, build.INITRD))
    line = " ".join((stated.command_line, *(f"{name}={value}" for name, value in parameters.items())))
    own, key = _disk(image, stated, directory, surroundings) if stated.root_hash else ((), None)
    order = Order(
        firmware=machine.firmware,
        kernel=kernel,
        initrd=initrd,
        command_line=line,
        vcpus=machine.vcpus,
        memory_mib=machine.memory_mib,
        disks=(*own, *machine.disks),
        published=machine.published,
    )
    return Prepared(order, key)


def needs_key(image: Path) -> bool:
    """Whether a machine of `image` will ask a key server."""
    return manifest.read(read_private(image / MANIFEST))[0].spec.profile == "encrypted"


def _file(image: Path, stated: Manifest, name: str) -> bytes:
    content = read_private(image / name)
    if hashlib.sha256(content).digest() != stated.file(name):
        raise NotAuthentic.of(
            "image.file",
            expected=f"{name} with SHA-256 {stated.file(name).hex()}, as the manifest says",
            found=hashlib.sha256(content).hexdigest(),
            remedy="Build the image again, or fetch it again.",
        )
    return content


def _disk(image: Path, stated: Manifest, directory: Path, surroundings: Surroundings) -> tuple[tuple[Disk, ...], DiskKey | None]:
    """The machine's own copy of the image's disk; encrypted where its profile says so."""
    own = directory / "disk.raw"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(image / build.DISK, own)
    if stated.spec.profile != "encrypted":
        return (Disk(str(own.resolve()), read_only=True),), None
    surroundings.progress("sealing the root file system under a fresh key")
    identifier = str(build.data_identifier(stated.root_hash or b""))
    key = surroundings.randomness(DISK_KEY_BYTES)
    content = _file(image, stated, build.ROOT) + _file(image, stated, build.HASH)
    with own.open("r+b") as stream:
        at, room = _partition(stream.read(_TABLE_BYTES), identifier)
        name = uuid.UUID(bytes=surroundings.randomness(16), version=4)
        seal.seal(content, key, stream, at=at, room=room, identifier=name, random=surroundings.randomness)
    return (Disk(str(own.resolve())),), DiskKey(identifier, key)


def _partition(table: bytes, identifier: str) -> tuple[int, int]:
    """Offset and size in bytes of the partition with this PARTUUID."""
    found, sector = partitions.read_partition_table(table)
    for each in found.partitions:
        if each.guid == identifier:
            return each.first * sector, (each.last - each.first + 1) * sector
    raise UsageError.of("image.partition", expected=f"a partition {identifier}", found="none", remedy="Build the image again.")
