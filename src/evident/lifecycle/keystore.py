"""The owner's disk keys and secrets on this machine, and the key by which guests know who releases them.

keys/volumes, references, revoked.json   `evident.keys.store`: terms, nothing secret
keys/secrets/                            disk keys and named secrets, each machine's wrapped
keys/wrapping.key                        what wraps them: 32 bytes, mode 0600; not there where the owner keeps it elsewhere
                                         (of neither anything is there where the owner's Vault has them: `Surroundings.vault`)
keys/releaser/                           the P-384 key whose digest is on every guest's command line (evident.key)
keys/release.jsonl                       every decision
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evident.audit import keys as signing
from evident.audit.keys import SigningKey
from evident.errors import UsageError
from evident.files import check_private, locked, read_private, write_private_bytes
from evident.keys.log import ReleaseLog
from evident.keys.store import WRAPPING_KEY_BYTES, Secrets, VolumeStore, WrappedSecrets
from evident.keys.store import forget as delete_file
from evident.platforms.driver import Surroundings


@dataclass(frozen=True, slots=True)
class BySvid:
    """What asks on a machine, in words of its image."""

    trust_domain: str
    interpreter: bytes
    """SHA-256 of what it runs in."""
    units: Mapping[str, int] = field(default_factory=dict)
    """Those that have SVIDs of their own, and the numbers of their users."""


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
    by_svid: BySvid | None = None
    """Where the machine asks by its SVID; None: by its evidence."""


@dataclass(frozen=True, slots=True)
class KeyStore:
    volumes: VolumeStore
    secrets: Secrets
    releaser: SigningKey
    log: ReleaseLog

    @property
    def pin(self) -> bytes:
        """SHA-256 of the releaser's SubjectPublicKeyInfo: ``evident.key`` on a guest's command line."""
        return hashlib.sha256(self.releaser.public.spki).digest()


def directory(surroundings: Surroundings) -> Path:
    return surroundings.state / "keys"


def open_store(surroundings: Surroundings) -> KeyStore:
    """The store of this state directory, made on first use. Raises `UsageError` where it cannot be read or kept."""
    root = directory(surroundings)
    return KeyStore(
        VolumeStore(root),
        _secrets(surroundings),
        signing.load_or_create(root / "releaser", surroundings.randomness),
        release_log(surroundings),
    )


def _secrets(surroundings: Surroundings) -> Secrets:
    if surroundings.vault is None:
        return WrappedSecrets(directory(surroundings), _wrapping_key(surroundings), randomness=surroundings.randomness)
    if surroundings.wrapping_key is not None:
        raise UsageError.of(
            "keys.place",
            expected="one place for disk keys: a Vault, or files under a wrapping key",
            found=f"both {surroundings.vault} and {surroundings.wrapping_key}",
            remedy="Unset EVIDENT_VAULT or EVIDENT_WRAPPING_KEY.",
        )
    from evident.keys.vault_document import open_vault  # HTTP and TLS, for whoever has one

    return open_vault(surroundings.vault)


def _wrapping_key(surroundings: Surroundings) -> bytes:
    """Made on first use; one that the owner keeps elsewhere (`Surroundings.wrapping_key`) is only ever read."""
    root = directory(surroundings)
    path = surroundings.wrapping_key or root / "wrapping.key"
    with locked(root / "wrapping.lock"):
        if surroundings.wrapping_key is None and not path.exists():
            write_private_bytes(path, surroundings.randomness(WRAPPING_KEY_BYTES))
    wrapping = read_private(path)
    check_private(path, "keys.wrapping-key.mode", "encrypt your disks anew")
    return wrapping


def deletion(surroundings: Surroundings) -> Callable[[str], None]:
    """Deletes the key of a disk. From files that takes no wrapping key: it may be sealed elsewhere, or lost, when all has to be denied."""
    if surroundings.vault is not None:
        return _secrets(surroundings).delete
    return lambda disk: delete_file(directory(surroundings), disk)


def release_log(surroundings: Surroundings) -> ReleaseLog:
    return ReleaseLog(directory(surroundings) / "release.jsonl", clock=surroundings.clock)


def disks(surroundings: Surroundings, name: str) -> dict[str, str]:
    """The disks under the terms of deployment `name`, and what is known of each: ``registered`` or ``revoked``."""
    volumes = VolumeStore(directory(surroundings))
    revoked = {each.value for each in volumes.revocations() if each.name == "disk"}
    return {disk: "revoked" if disk in revoked else "registered" for disk in volumes.disks_under(name)}
