"""Encrypt a root file system for one machine: a LUKS2 volume with integrity, written in user space and without privileges.

A key cannot be part of a reproducible image, so the volume is made when a machine is: image and hash tree in, key in, the content of the
data partition out. cryptsetup needs the device mapper to format a volume with integrity; here the same bytes are written directly, which
needs no root and lets the key stay in this process. The guest opens the result with cryptsetup and the kernel's dm-integrity and dm-crypt.

Layout (units of 512 bytes within the segment; dm-integrity, mode with journal):

    superblock 8 | journal (empty) | { tags of an area | data of the area } ...

Each block of 4096 bytes has 48 bytes of metadata: HMAC-SHA-256 over sector number (8 bytes, little endian), IV and ciphertext, then the IV.

Sources: LUKS2 On-Disk Format Specification 1.1.3 (binary header, JSON area, key slot with anti-forensic splitter, digest); Linux
Documentation/admin-guide/device-mapper/{dm-integrity,dm-crypt}.rst; superblock, journal and areas as drivers/md/dm-integrity.c reads them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import mmap
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from evident.errors import UsageError
from evident.evidence.disk import read_partition_table
from evident.image.names import DISK, HASH, ROOT

BLOCK = 4096
SECTOR = 512
HEADER_BYTES = 16384
"""Of one copy: binary header and JSON area."""
SLOT_OFFSET = 2 * HEADER_BYTES
STRIPES = 4000
CIPHER_KEY_BYTES, MAC_KEY_BYTES = 64, 32
VOLUME_KEY_BYTES = CIPHER_KEY_BYTES + MAC_KEY_BYTES
DATA_OFFSET = 16 * 1024 * 1024
ITERATIONS = 1000
"""LUKS2's least: the key is 256 random bits, and stretching it would only delay the boot."""
LEAST_KEY_BYTES = 32
_SLOT_BYTES = (STRIPES * VOLUME_KEY_BYTES + BLOCK - 1) // BLOCK * BLOCK
_INTERLEAVE = 32768
"""Data sectors per area."""
_BLOCK_SECTORS = BLOCK // SECTOR
_TAG_BYTES = 32 + 16
_METADATA_RUN = _TAG_BYTES * (_INTERLEAVE // _BLOCK_SECTORS) // SECTOR
_JOURNAL_SECTIONS = 16
# A section has eight sectors of entries, then the data of each; an entry is its sector, eight commit ids and the tag.
_ENTRY_BYTES = 8 + 8 * _BLOCK_SECTORS + _TAG_BYTES
_ENTRY_SECTORS = 8
_COMMIT_AT = SECTOR - 8
_ENTRIES_PER_SECTOR = _COMMIT_AT // _ENTRY_BYTES
_JOURNAL_SECTION_SECTORS = _ENTRIES_PER_SECTOR * _ENTRY_SECTORS * _BLOCK_SECTORS + _ENTRY_SECTORS
_FIRST_COMMIT_ID = 0x1111111111111111
_FIRST_AREA = 8 + _JOURNAL_SECTIONS * _JOURNAL_SECTION_SECTORS
_FIXED_PADDING = 0x8

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Sealed:
    """What to remember of a volume; nothing of it is secret."""

    identifier: uuid.UUID
    size: int
    """Bytes of the partition that are used."""
    header_sha256: bytes
    """Of both header copies and the key slot: a changed header can be told."""


def needed(content: int) -> int:
    """Bytes that a partition must have for `content` bytes of plain text (a multiple of 4096)."""
    sectors = content // SECTOR
    areas = -(-sectors // _INTERLEAVE)
    return DATA_OFFSET + (_FIRST_AREA + areas * _METADATA_RUN + sectors) * SECTOR


def seal(content: bytes, key: bytes, target: BinaryIO, *, at: int, room: int, identifier: uuid.UUID, random: Random) -> Sealed:
    """Write `content` (padded to whole blocks) as a LUKS2 volume into `target` at byte `at`, where `room` bytes are free.

    `key` opens the only key slot; it has at least 32 bytes. Raises `UsageError` (``seal.key``, ``seal.room``).
    """
    if len(key) < LEAST_KEY_BYTES:
        raise UsageError.of(
            "seal.key", expected="32 random bytes or more", found=f"{len(key)} bytes", remedy="Have the key server make it."
        )
    content = content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")
    size = needed(len(content))
    if size > room:
        raise UsageError.of("seal.room", expected=f"{size} bytes of room", found=f"{room}", remedy="Build the image again; see its disk.")
    volume_key = random(VOLUME_KEY_BYTES)
    header = _header(key, volume_key, identifier, random)
    target.seek(at)
    target.write(header)
    start = at + DATA_OFFSET
    target.seek(start)
    target.write(_superblock(len(content) // SECTOR).ljust(8 * SECTOR, b"\0"))
    target.write(_journal())
    area_bytes = _INTERLEAVE * SECTOR
    for offset in range(0, len(content), area_bytes):
        tags, data = _encrypt(content[offset : offset + area_bytes], offset // SECTOR, volume_key, random)
        target.write(tags.ljust(_METADATA_RUN * SECTOR, b"\0"))
        target.write(data)
    return Sealed(identifier, size, hashlib.sha256(header).digest())


def _encrypt(plain: bytes, first_sector: int, volume_key: bytes, random: Random) -> tuple[bytes, bytes]:
    """Tags and ciphertext of one area."""
    cipher_key, mac_key = volume_key[:CIPHER_KEY_BYTES], volume_key[CIPHER_KEY_BYTES:]
    ivs = random(16 * (len(plain) // BLOCK))
    keyed, algorithm = hmac.new(mac_key, digestmod="sha256"), algorithms.AES(cipher_key)
    tags, data = bytearray(), bytearray()
    for number, offset in enumerate(range(0, len(plain), BLOCK)):
        iv = ivs[16 * number : 16 * number + 16]
        encrypted = Cipher(algorithm, modes.XTS(iv)).encryptor().update(plain[offset : offset + BLOCK])
        mac = keyed.copy()
        mac.update(struct.pack("<Q", first_sector + number * _BLOCK_SECTORS) + iv + encrypted)
        tags += mac.digest() + iv
        data += encrypted
    return bytes(tags), bytes(data)


def _superblock(sectors: int) -> bytes:
    """The first sector: version 4, with the padding of metadata fixed at 4096 bytes."""
    shifts = (_INTERLEAVE.bit_length() - 1, _TAG_BYTES)
    return struct.pack("<8sBBHIQIB", b"integrt\0", 4, *shifts, _JOURNAL_SECTIONS, sectors, _FIXED_PADDING, 3)


def _journal() -> bytes:
    """An empty journal: every sector ends in the first commit id, bound to its place, and every entry is marked unused."""
    unused = b"\0\0\0\0\xff\xff\xff\xff".ljust(_ENTRY_BYTES, b"\0") * _ENTRIES_PER_SECTOR
    out = bytearray()
    for section in range(_JOURNAL_SECTIONS):
        for sector in range(_JOURNAL_SECTION_SECTORS):
            held = unused if sector < _ENTRY_SECTORS else b""
            out += held.ljust(_COMMIT_AT, b"\0") + struct.pack("<Q", _FIRST_COMMIT_ID ^ (section << 32) ^ sector)
    return bytes(out)


def _header(key: bytes, volume_key: bytes, identifier: uuid.UUID, random: Random) -> bytes:
    """Both copies of the header, and the key slot's area."""
    slot_salt, digest_salt = random(32), random(32)
    slot_key = hashlib.pbkdf2_hmac("sha256", key, slot_salt, ITERATIONS, CIPHER_KEY_BYTES)
    slot = _slot_area(volume_key, slot_key, random)
    digest = hashlib.pbkdf2_hmac("sha256", volume_key, digest_salt, ITERATIONS, 32)
    area = {
        "type": "raw",
        "offset": str(SLOT_OFFSET),
        "size": str(_SLOT_BYTES),
        "encryption": "aes-xts-plain64",
        "key_size": CIPHER_KEY_BYTES,
    }
    kdf = {"type": "pbkdf2", "hash": "sha256", "iterations": ITERATIONS, "salt": _base64(slot_salt)}
    integrity = {"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"}
    metadata: dict[str, Any] = {
        "keyslots": {
            "0": {
                "type": "luks2",
                "key_size": VOLUME_KEY_BYTES,
                "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
                "area": area,
                "kdf": kdf,
            }
        },
        "tokens": {},
        "segments": {
            "0": {
                "type": "crypt",
                "offset": str(DATA_OFFSET),
                "size": "dynamic",
                "iv_tweak": "0",
                "encryption": "aes-xts-random",
                "sector_size": BLOCK,
                "integrity": integrity,
            }
        },
        "digests": {
            "0": {
                "type": "pbkdf2",
                "keyslots": ["0"],
                "segments": ["0"],
                "hash": "sha256",
                "iterations": ITERATIONS,
                "salt": _base64(digest_salt),
                "digest": _base64(digest),
            }
        },
        "config": {"json_size": str(HEADER_BYTES - BLOCK), "keyslots_size": str(DATA_OFFSET - SLOT_OFFSET)},
    }
    text = json.dumps(metadata, separators=(",", ":")).encode()
    copies = [_copy(number, text, identifier, random) for number in (0, 1)]
    return b"".join(copies) + slot


def _copy(number: int, text: bytes, identifier: uuid.UUID, random: Random) -> bytes:
    magic, salt, label = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")[number], random(64), b"evident-root"
    fields = (2, HEADER_BYTES, 1, label, b"sha256", salt, str(identifier).encode(), b"", number * HEADER_BYTES)
    before = struct.pack(">6sHQQ48s32s64s40s48sQ", magic, *fields).ljust(448, b"\0")
    rest = bytes(BLOCK - 512) + text.ljust(HEADER_BYTES - BLOCK, b"\0")
    checksum = hashlib.sha256(before + bytes(64) + rest).digest().ljust(64, b"\0")
    return before + checksum + rest


def _slot_area(volume_key: bytes, slot_key: bytes, random: Random) -> bytes:
    """The volume key split into stripes (LUKS1, section 2.4) and encrypted sector by sector."""
    stripes = random((STRIPES - 1) * VOLUME_KEY_BYTES)
    mixed = bytes(VOLUME_KEY_BYTES)
    for index in range(STRIPES - 1):
        stripe = stripes[index * VOLUME_KEY_BYTES : (index + 1) * VOLUME_KEY_BYTES]
        mixed = _diffuse(_xor(mixed, stripe))
    plain = (stripes + _xor(mixed, volume_key)).ljust(_SLOT_BYTES, b"\0")
    algorithm, out = algorithms.AES(slot_key), bytearray()
    for sector in range(_SLOT_BYTES // SECTOR):
        tweak = struct.pack("<QQ", sector, 0)
        out += Cipher(algorithm, modes.XTS(tweak)).encryptor().update(plain[sector * SECTOR : (sector + 1) * SECTOR])
    return bytes(out)


def _diffuse(block: bytes) -> bytes:
    parts = [block[offset : offset + 32] for offset in range(0, len(block), 32)]
    return b"".join(hashlib.sha256(struct.pack(">I", index) + part).digest()[: len(part)] for index, part in enumerate(parts))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def seal_disk(image: Path, target: Path, key: bytes, *, identifier: uuid.UUID, random: Random) -> Sealed:
    """A machine's own disk at `target`: that of the image folder `image` (profile encrypted), with its root sealed under `key`.

    Raises `UsageError` (``seal.profile``: the image has no data partition, and as `seal`).
    """
    shutil.copyfile(image / DISK, target)
    with _mapped(target) as disk:
        table, sector = read_partition_table(disk)
    partition = next((item for item in table.partitions if item.name == "data"), None)
    if partition is None:
        raise UsageError.of(
            "seal.profile",
            expected="an image of profile encrypted",
            found="a disk without data partition",
            remedy="Build it with that profile.",
        )
    content = (image / ROOT).read_bytes() + (image / HASH).read_bytes()
    room = (partition.last - partition.first + 1) * sector
    with target.open("r+b") as stream:
        return seal(content, key, stream, at=partition.first * sector, room=room, identifier=identifier, random=random)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped
