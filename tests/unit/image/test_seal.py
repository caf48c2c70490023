"""A sealed volume: accepted by the guest's own check and by cryptsetup, decrypted here by the book, and closed to every other key.

That the kernel opens it is shown by a real boot (tests/boot).
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from evident.errors import UsageError
from evident.guest import luks_header
from evident.image import disk, seal

KEY = bytes(range(32))
CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(600)) + b"MARKER"
IDENTIFIER = uuid.UUID(int=5)


def fixed(size: int) -> bytes:
    """Bytes that look random and are the same every time."""
    return hashlib.shake_256(b"random %d" % size).digest(size)


def sealed(content: bytes = CONTENT, *, at: int = 0, key: bytes = KEY) -> bytes:
    out = io.BytesIO()
    seal.seal(content, key, out, at=at, room=1 << 30, identifier=IDENTIFIER, random=fixed)
    return out.getvalue()


def test_the_guest_accepts_the_header() -> None:
    checked = luks_header.check(sealed())
    assert (checked.uuid, checked.cipher, checked.sector) == (str(IDENTIFIER), "aes-xts-random", 4096)


def test_nothing_of_the_content_is_readable() -> None:
    volume = sealed()
    assert b"MARKER" not in volume
    assert CONTENT[:32] not in volume
    assert KEY not in volume
    assert len(volume) == seal.needed(5 * 4096)


def test_blocks_decrypt_and_authenticate_by_the_book() -> None:
    """dm-crypt's documented form: HMAC over sector number, IV and ciphertext; AES-XTS under the stored IV."""
    volume, key = sealed(), fixed(96)
    journal = 16 * (4 * 8 * 8 + 8)
    area = seal.DATA_OFFSET + (8 + journal) * 512
    run = 48 * (32768 // 8)
    for number in range(5):
        tag, iv = struct.unpack_from("32s16s", volume, area + 48 * number)
        encrypted = volume[area + run + 4096 * number :][:4096]
        assert tag == hmac.digest(key[64:], struct.pack("<Q", 8 * number) + iv + encrypted, "sha256")
        plain = Cipher(algorithms.AES(key[:64]), modes.XTS(iv)).decryptor().update(encrypted)
        assert plain == CONTENT.ljust(5 * 4096, b"\0")[4096 * number :][:4096]


def test_an_area_boundary() -> None:
    """The second area's tags lie behind the first area's data."""
    content = bytes(32768 * 512) + b"x" * 4096
    volume, key = sealed(content), fixed(96)
    second = seal.DATA_OFFSET + (8 + 16 * 264 + 384 + 32768) * 512
    tag, iv = struct.unpack_from("32s16s", volume, second)
    encrypted = volume[second + 384 * 512 :][:4096]
    assert tag == hmac.digest(key[64:], struct.pack("<Q", 32768) + iv + encrypted, "sha256")
    assert len(volume) == second + 384 * 512 + 4096 == seal.needed(len(content))


def opens(volume: Path, key: bytes) -> bool:
    """Whether cryptsetup opens the key slot of `volume` with `key`; the test is skipped where it is not installed."""
    if shutil.which("cryptsetup") is None:
        pytest.skip("cryptsetup is not installed")
    command = ["cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file=-", str(volume)]
    status = subprocess.run(command, input=key, capture_output=True, check=False).returncode
    assert status in (0, 2), "2: no slot for this key"
    return status == 0


def test_cryptsetup_opens_the_slot_with_this_key_alone(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.write_bytes(sealed()[: seal.DATA_OFFSET])
    assert opens(volume, KEY)
    assert not opens(volume, KEY[:-1] + b"x")
    dumped = subprocess.run(["cryptsetup", "luksDump", "--dump-json-metadata", str(volume)], capture_output=True, check=True).stdout
    assert json.loads(dumped)["segments"]["0"]["integrity"]["type"] == "hmac(sha256)"


def test_refuses_weak_keys_and_small_disks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seal\.key"):
        seal.seal(CONTENT, KEY[:31], io.BytesIO(), at=0, room=1 << 30, identifier=IDENTIFIER, random=fixed)
    with pytest.raises(UsageError, match=r"seal\.room"):
        seal.seal(CONTENT, KEY, io.BytesIO(), at=0, room=seal.needed(5 * 4096) - 1, identifier=IDENTIFIER, random=fixed)
    disk.write(tmp_path / "disk.raw", IDENTIFIER, [disk.Partition("root", disk.ROOT, IDENTIFIER, b"plain")])
    with pytest.raises(UsageError, match=r"seal\.profile"):
        seal.seal_disk(tmp_path, tmp_path / "own.raw", KEY, identifier=IDENTIFIER, random=fixed)


def test_a_disk_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "root.erofs").write_bytes(CONTENT.ljust(5 * 4096, b"\0"))
    (tmp_path / "root.verity").write_bytes(bytes(4096))
    disk.write(tmp_path / "disk.raw", IDENTIFIER, [disk.Partition("data", disk.LINUX_DATA, IDENTIFIER, b"", seal.needed(6 * 4096))])
    made = seal.seal_disk(tmp_path, tmp_path / "own.raw", KEY, identifier=IDENTIFIER, random=fixed)
    raw = (tmp_path / "own.raw").read_bytes()[1024 * 1024 :]
    assert luks_header.check(raw).uuid == str(IDENTIFIER)
    assert hashlib.sha256(raw[: 32768 + 385024]).digest() == made.header_sha256
