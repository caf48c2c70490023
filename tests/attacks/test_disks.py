"""Disks that their host changes: what is read where nothing authenticates it, and where dm-verity or dm-crypt's tags do (AT-11, AT-13).

In user space, where every check can be left out. The same changes to the disks of real machines are in `tests/boot`.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.unit.image.test_seal import CONTENT, fixed, sealed

from evident.image import seal

BLOCK = 4096
SALT = bytes(range(32)).hex()
TAG = struct.Struct("32s16s")
TAGS = seal.DATA_OFFSET + (8 + 16 * (4 * 8 * 8 + 8)) * 512
"""Where the tags of a sealed volume begin: behind dm-integrity's superblock and journal."""
DATA = TAGS + TAG.size * (32768 // 8)


class Damaged(Exception):
    """What a reader is told instead of data."""


def read_block(volume: bytes, number: int, *, authenticated: bool) -> bytes:
    """One block as dm-crypt reads it: AES-XTS, and, `authenticated`, the HMAC over sector number, IV and ciphertext first."""
    key = fixed(96)
    tag, iv = TAG.unpack_from(volume, TAGS + TAG.size * number)
    encrypted = volume[DATA + BLOCK * number :][:BLOCK]
    if authenticated and not hmac.compare_digest(tag, hmac.digest(key[64:], struct.pack("<Q", 8 * number) + iv + encrypted, "sha256")):
        raise Damaged
    decryptor = Cipher(algorithms.AES(key[:64]), modes.XTS(iv)).decryptor()
    return decryptor.update(encrypted) + decryptor.finalize()


@pytest.mark.attack("AT-13", "A byte of an encrypted disk is changed.", "HMAC-SHA-256 over every block")
@pytest.mark.attack("AT-16", "Data are changed between the disk and a machine that encrypts.", "HMAC-SHA-256 over every block", "succeeds")
@pytest.mark.attack("AT-36", "The disk of a machine is edited between two reads.", "HMAC-SHA-256 over every block", "succeeds")
def test_encryption_alone_returns_garbage_and_says_nothing() -> None:
    volume = bytearray(sealed())
    right = read_block(volume, 1, authenticated=True)
    assert right == CONTENT[BLOCK : 2 * BLOCK]
    volume[DATA + BLOCK + 100] ^= 1
    wrong = read_block(volume, 1, authenticated=False)
    changed = [at for at in range(BLOCK) if wrong[at] != right[at]]
    assert changed
    assert (changed[0] // 16, changed[-1] // 16) == (100 // 16, 100 // 16), "one block of the cipher, at the place of the host's choosing"
    with pytest.raises(Damaged):
        read_block(volume, 1, authenticated=True)


@pytest.fixture
def root(tmp_path: Path) -> tuple[Path, Path, str]:
    """A root file system's image, its hash tree and its root hash, made as the build makes them (`evident.image.root`)."""
    if shutil.which("veritysetup") is None:
        pytest.skip("veritysetup is not installed")
    image, tree = tmp_path / "root", tmp_path / "tree"
    image.write_bytes(b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(200 * BLOCK // 32)))
    command = ["veritysetup", "format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096", f"--salt={SALT}"]
    said = subprocess.run([*command, str(image), str(tree)], capture_output=True, text=True, check=True).stdout
    return image, tree, next(line.split()[-1] for line in said.splitlines() if line.startswith("Root hash"))


def read_root(image: Path, tree: Path, root_hash: str, *, checked: bool) -> bytes:
    """The whole image; `checked` against the root hash by libcryptsetup's own code, which reads every block."""
    if checked and subprocess.run(["veritysetup", "verify", str(image), str(tree), root_hash], capture_output=True, check=False).returncode:
        raise Damaged
    return image.read_bytes()


@pytest.mark.attack("AT-11", "A byte of the root file system is changed at rest, in its superblock or in its data.", "dm-verity")
@pytest.mark.parametrize("at", [1024, 100 * BLOCK + 17, 200 * BLOCK - 1], ids=["superblock", "data", "last byte"])
def test_a_changed_root_is_read_unless_verity_checks_it(root: tuple[Path, Path, str], at: int) -> None:
    image, tree, root_hash = root
    before = read_root(image, tree, root_hash, checked=True)
    raw = bytearray(before)
    raw[at] ^= 1
    image.write_bytes(raw)
    assert read_root(image, tree, root_hash, checked=False) == raw, "what the host wrote is what is read"
    with pytest.raises(Damaged):
        read_root(image, tree, root_hash, checked=True)


@pytest.mark.attack("AT-11", "A byte of the hash tree is changed, in its superblock or in a level of it.", "dm-verity", "refused")
@pytest.mark.parametrize("at", [0, 88, BLOCK, 2 * BLOCK, -1], ids=["magic", "salt", "root block", "leaf", "last byte"])
def test_a_changed_hash_tree_is_refused(root: tuple[Path, Path, str], at: int) -> None:
    """All but its identifier, of which nothing depends."""
    image, tree, root_hash = root
    raw = bytearray(tree.read_bytes())
    raw[at] ^= 1
    tree.write_bytes(raw)
    with pytest.raises(Damaged):
        read_root(image, tree, root_hash, checked=True)
