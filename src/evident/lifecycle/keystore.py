"""The owner's disk keys and secrets on this machine, and the key by which guests know who releases them.

keys/volumes, references, revoked.json   `evident.keys.store`: terms, nothing secret
keys/secrets/                            disk keys and named secrets, each machine's wrapped
keys/wrapping.key                        what wraps them: 32 bytes, mode 0600; not there where the owner keeps it elsewhere
keys/releaser/                           the P-384 key whose digest is on every guest's command line (evident.key)
keys/release.jsonl                       every decision
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evident.audit import keys as signing
from evident.audit.keys import SigningKey
from evident.errors import UsageError
from evident.files import locked, read_private, write_private_bytes
from evident.keys.log import ReleaseLog
from evident.keys.store import WRAPPING_KEY_BYTES, VolumeStore, WrappedSecrets
from evident.platforms.driver import Surroundings


@dataclass(frozen=True, slots=True)
class DiskKey:
    """A disk and what opens it; or, without one, what a machine gets all the same."""

    disk: str
    """PARTUUID; without one, the name under which the machine asks (``evident.machine``)."""
    key: bytes = field(repr=False)
    """Empty where there is no disk to open."""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By name: what its machine gets besides."""
    root_hash: bytes | None = None
    """dm-verity root hash of what is on the disk."""


@dataclass(frozen=True, slots=True)
class KeyStore:
    volumes: VolumeStore
    secrets: WrappedSecrets
    releaser: SigningKey
    log: ReleaseLog

    @property
    def pin(self) -> bytes:
        """SHA-256 of the releaser's SubjectPublicKeyInfo: ``evident.key`` on a guest's command line."""
        return hashlib.sha256(self.releaser.public.spki).digest()


def directory(surroundings: Surroundings) -> Path:
    return surroundings.state / "keys"


def open_store(surroundings: Surroundings) -> KeyStore:
    """The store of this state directory, made on first use. Raises `UsageError` where it cannot be read or kept.

    A wrapping key that the owner keeps elsewhere (`Surroundings.wrapping_key`) is only ever read.
    """
    root = directory(surroundings)
    path = surroundings.wrapping_key or root / "wrapping.key"
    with locked(root / "wrapping.lock"):
        if surroundings.wrapping_key is None and not path.exists():
            write_private_bytes(path, surroundings.randomness(WRAPPING_KEY_BYTES))
    wrapping = read_private(path)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise UsageError.of(
            "keys.wrapping-key.mode",
            expected=f"{path} readable by you alone",
            found=f"mode {mode:o}",
            remedy=f"Others could have copied it. If nobody did: chmod 600 {path}; else encrypt your disks anew.",
        )
    return KeyStore(
        VolumeStore(root),
        WrappedSecrets(root, wrapping, randomness=surroundings.randomness),
        signing.load_or_create(root / "releaser", surroundings.randomness),
        release_log(surroundings),
    )


def release_log(surroundings: Surroundings) -> ReleaseLog:
    return ReleaseLog(directory(surroundings) / "release.jsonl", clock=surroundings.clock)


def disks(surroundings: Surroundings, name: str) -> dict[str, str]:
    """The disks under the terms of deployment `name`, and what is known of each: ``registered`` or ``revoked``."""
    volumes = VolumeStore(directory(surroundings))
    revoked = {each.value for each in volumes.revocations() if each.name == "disk"}
    return {disk: "revoked" if disk in revoked else "registered" for disk in volumes.disks_under(name)}
