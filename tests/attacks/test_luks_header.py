"""A LUKS header by the host that opens with any key, and shows the guest a disk of the host's own (CVE-2025-59054 and its kin).

With just the guest's check off, cryptsetup accepts the key server's secret key for a disk that it never encrypted. That is shown where
cryptsetup is installed (Debian: cryptsetup-bin), does not refuse by itself (2.8.1 and later do), and finds the null cipher in the kernel;
skipped, saying so, elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from evident.errors import NotAuthentic
from evident.guest import luks_header
from evident.image import seal

CRYPTSETUP = shutil.which("cryptsetup", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
SECRET = bytes(range(64))


def sealed(key: bytes) -> bytes:
    """The beginning of a disk as `evident` seals one."""
    target = io.BytesIO()
    seal.seal(b"root" * 1024, key, target, at=0, room=1 << 30, identifier=uuid.UUID(int=1), random=os.urandom)
    return target.getvalue()


def hosts_own(disk: bytes, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The host's header over a disk of the host's: its key slot is encrypted by nothing."""
    plain: list[bytes] = []

    class Keep:
        """In place of the slot's cipher: what would be encrypted stays as it is."""

        def __init__(self, *_: object) -> None: ...

        def encryptor(self) -> Keep:
            return self

        def update(self, data: bytes) -> bytes:
            plain.append(data)
            return data

    with monkeypatch.context() as patched:
        patched.setattr(seal, "Cipher", Keep)
        changed = bytearray(sealed(b"a key that the host made up........"))
    header = luks_header.parse(bytes(changed))
    metadata = header.metadata
    metadata["keyslots"]["0"]["area"]["encryption"] = "cipher_null-ecb"
    metadata["keyslots"]["0"]["area"]["key_size"] = 16
    text = json.dumps(metadata).encode().ljust(header.size - 4096, b"\0")
    for number in (0, 1):
        begin = number * header.size
        changed[begin + 4096 : begin + header.size] = text
        changed[begin + 448 : begin + 512] = bytes(64)
        changed[begin + 448 : begin + 480] = hashlib.sha256(bytes(changed[begin : begin + header.size])).digest()
    return bytes(changed)


def opens(disk: Path, key: bytes) -> bool:
    """Whether cryptsetup takes `key` for this disk."""
    words = (str(CRYPTSETUP), "open", "--test-passphrase", "--type", "luks2", "--batch-mode", "--key-file", "-", str(disk))
    return subprocess.run(words, input=key, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.attack("BW-20", "The LUKS header names the null cipher for its key slot: any key opens the host's own disk.", "luks.weak")
@pytest.mark.skipif(CRYPTSETUP is None, reason="not installed: cryptsetup (Debian: cryptsetup-bin)")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_header_that_any_key_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    own = sealed(SECRET)
    fake = hosts_own(own, monkeypatch)
    disk = tmp_path / "disk"
    if checked:
        luks_header.check(own)
        with pytest.raises(NotAuthentic, match=r"luks\.weak.*cipher_null"):
            luks_header.check(fake)
        return
    disk.write_bytes(own)
    assert opens(disk, SECRET)
    assert not opens(disk, b"another key" * 4)
    disk.write_bytes(fake)
    if not opens(disk, SECRET):
        pytest.skip("this cryptsetup refuses the null cipher by itself, or this kernel has none for programs (AF_ALG)")
    assert opens(disk, b"another key" * 4), "the secret key opens what the host made, and so does any other"
