"""Images as `evident image build` leaves them, without a Debian in them: small, and measured like any other."""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from tests.unit.image.test_disk import a_stub

from evident.audit.keys import SigningKey
from evident.files import read_private
from evident.identity.registration import INTERPRETER
from evident.image import build, inventory, manifest, names, uki
from evident.image.manifest import Component, Manifest
from evident.image.spec import ImageSpec, SpireSpec, Unit
from evident.image.stated import Lock
from evident.image.tree import Tree
from evident.reference_values.model import ReferenceSet

ROOT_HASH = b"\xcd" * 32


def spire_spec(trust_domain: str) -> SpireSpec:
    """Of an image with SPIRE's agent, which is not in it."""
    return SpireSpec(bytes(32), trust_domain, "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")


def an_image(
    folder: Path,
    key: SigningKey,
    *,
    name: str,
    at: datetime,
    profile: Literal["integrity", "encrypted"] = "integrity",
    secrets: tuple[str, ...] = (),
    spire: SpireSpec | None = None,
    svid: bool = False,
) -> None:
    """An image whose initrd says `name`, and of which a unit reads `secrets` and may have an SVID, signed by `key`."""
    shutil.copytree(_made(key, name, at, profile, secrets, spire, svid).name, folder)


@functools.cache  # its disk is the smallest that FAT32 may have, and dozens of tests want the same one
def _made(
    key: SigningKey,
    name: str,
    at: datetime,
    profile: Literal["integrity", "encrypted"],
    secrets: tuple[str, ...],
    spire: SpireSpec | None,
    svid: bool,
) -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory()
    folder = Path(made.name)
    spec = ImageSpec(1, name, (Unit("shop", ("/usr/bin/true",), secrets=secrets, svid=svid),), profile=profile, spire=spire)
    line = f"ro evident.mode={profile} roothash={ROOT_HASH.hex()}"
    initrd = name.encode() * 64
    unified = uki.write(a_stub(), {".linux": a_stub(), ".cmdline": line.encode(), ".initrd": initrd, ".osrel": b"ID=evident\n"})
    files = {names.KERNEL: a_stub(), names.INITRD: initrd, names.UKI: unified, names.ROOT: b"root" * 1024, names.HASH: b"tree" * 1024}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    build.write_disk(folder / names.DISK, unified, ())
    parts = tuple(Component(file, hashlib.sha256(read_private(folder / file)).digest()) for file in (*files, names.DISK))
    taken = inventory.take(spec, Tree(), Tree(), parts={}, modules_offered=0, python_modules=0)
    if spire:
        taken = replace(taken, spire={INTERPRETER: b"\xee" * 32})
    stated = Manifest(1, spec, Lock(1, "trixie", "amd64"), parts, line, ROOT_HASH, taken, ReferenceSet(1, (), name), "0", at)
    (folder / names.MANIFEST).write_bytes(manifest.sign(stated, key))
    return made


@functools.cache  # an image is never changed
def digest(folder: Path) -> bytes:
    """What a document calls the image by."""
    return hashlib.sha256((folder / names.DISK).read_bytes()).digest()
