"""Which disk opens under which terms, who may never open one again, and the disk keys themselves.

    volumes/<disk>.json        `RootVolume`: the terms, nothing secret
    secrets/<disk>.json        disk key and named secrets, AES-256-GCM under the wrapping key, bound to those very terms
    references/<name>.json     reference sets that the terms name
    revoked.json               `Revocation`s

Files are 0600 and replaced whole. The wrapping key (32 bytes) is the caller's: the store never writes it, so its files alone open no
disk, and terms that were changed by whoever cannot unwrap are noticed when the key is asked for (``keys.store.altered``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evident import codec
from evident.errors import NotAuthentic, PolicyRefused, UsageError
from evident.files import locked, read_private, write_private
from evident.identity import spiffe_id
from evident.keys.messages import check_disk, dumps
from evident.keys.secrets import check_names
from evident.reference_values.model import ReferenceSet

WRAPPING_KEY_BYTES = 32
_IV_BYTES = 12
_SECRETS = "secrets"


@dataclass(frozen=True, slots=True)
class RootVolume:
    """The terms under which one disk opens. What is not said is denied."""

    version: Literal[1]
    disk: str
    """PARTUUID of the encrypted disk; without one, the name under which the machine asks (``evident.machine``)."""
    reference_set: str
    """Name of the reference values that the guest has to match."""
    nominal: int = 3
    """Lowest nominal attestation level (0-4)."""
    trustworthy: int = 0
    """Lowest level reached without the infrastructure provider's word."""
    identities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Identity or register of the machine (`evident.appraisal.identities`) to accepted values; empty: any machine."""
    beside: tuple[Literal["tpm"], ...] = ()
    """Kinds of evidence demanded beside the TEE's."""
    root_hash: bytes | None = None
    """dm-verity root hash of the file system on the disk, handed out with the key."""
    secrets: tuple[str, ...] = ()
    """Names of the secrets that go with it: all that are held, or none of it is released."""
    machine: int = 1
    """Number of the machine that it was made for, where several share the reference set (`evident.lifecycle.generations`)."""
    spiffe_id: str | None = None
    """Whose SVID it goes to, and to nobody else (`evident.identity.spiffe_id`); without one it goes to evidence alone."""

    def __post_init__(self) -> None:
        check_disk(self.disk)
        check_disk(self.reference_set)
        check_names(self.secrets)
        if self.spiffe_id is not None:
            spiffe_id.parse(self.spiffe_id)


@dataclass(frozen=True, slots=True)
class Held:
    """What a machine gets."""

    key: bytes = field(repr=False)
    """Of its disk; empty without one."""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By name."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """No key for whoever has this identity, from now on."""

    name: str
    """``disk``, ``guest_key``, ``spiffe_id``, or an identity or register of the machine: ``chip_id``, ``report_id``, ``launch``..."""
    value: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class _Revoked:
    version: Literal[1]
    revocations: tuple[Revocation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wrapped:
    version: Literal[1]
    iv: bytes
    sealed: bytes


class Secrets(Protocol):
    """Where keys and secrets are kept: this store's `WrappedSecrets`, or another system behind a driver (`evident.keys.vault`)."""

    def put(self, volume: RootVolume, held: Held) -> None: ...

    def get(self, volume: RootVolume) -> Held:
        """Raises `PolicyRefused` ``keys.store.no-key``, `NotAuthentic` ``keys.store.altered``, `Indeterminate` when it cannot be asked."""
        ...

    def delete(self, disk: str) -> None: ...


def terms_digest(volume: RootVolume) -> bytes:
    """SHA-256 of the terms, to which a stored key is bound."""
    terms = codec.encode(volume)
    if volume.spiffe_id is None:
        del terms["spiffe_id"]  # keys that were stored before there was this member are still under their terms
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).digest()


def unknown_disk(disk: str) -> PolicyRefused:
    """Nobody registered this disk, or not here."""
    return PolicyRefused.of(
        "keys.disk-unknown",
        expected="a disk that its owner registered with this key server",
        found=disk,
        remedy="Register the disk with its terms; what is not registered gets no key.",
        layer="storage",
    )


def no_key(disk: str) -> PolicyRefused:
    """Nobody stored a key for this disk."""
    return PolicyRefused.of(
        "keys.store.no-key",
        expected=f"a key for disk {disk}",
        found="none",
        remedy="Store one with its terms before the machine asks for it.",
        layer="storage",
    )


def altered(disk: str) -> NotAuthentic:
    """The key does not belong to these terms."""
    return NotAuthentic.of(
        "keys.store.altered",
        expected=f"the terms of disk {disk} under which its key was stored",
        found="other terms, another key, or another wrapping key",
        remedy="Restore the store from a backup, or store key and terms anew if the change was yours.",
        layer="storage",
    )


class WrappedSecrets:
    """Files below `directory`, each wrapped by `wrapping_key`."""

    def __init__(self, directory: Path, wrapping_key: bytes, *, randomness: Callable[[int], bytes] = os.urandom) -> None:
        if len(wrapping_key) != WRAPPING_KEY_BYTES:
            raise UsageError.of(
                "keys.wrapping-key",
                expected=f"a wrapping key of {WRAPPING_KEY_BYTES} bytes",
                found=f"{len(wrapping_key)}",
                remedy="Make one from a good source of randomness, and keep it apart from the store.",
            )
        self._directory = directory / _SECRETS
        self._cipher = AESGCM(wrapping_key)
        self._randomness = randomness

    def put(self, volume: RootVolume, held: Held) -> None:
        iv = self._randomness(_IV_BYTES)
        sealed = self._cipher.encrypt(iv, dumps(held), terms_digest(volume))
        write_private(self._path(volume.disk), codec.encode(_Wrapped(1, iv, sealed)))

    def get(self, volume: RootVolume) -> Held:
        path = self._path(volume.disk)
        if not path.exists():
            raise no_key(volume.disk)
        wrapped = codec.decode(_Wrapped, codec.loads(read_private(path), "keys.store"), "keys.store")
        try:
            held = self._cipher.decrypt(wrapped.iv, wrapped.sealed, terms_digest(volume))
        except (InvalidTag, ValueError):
            raise altered(volume.disk) from None
        return codec.decode(Held, codec.loads(held, "keys.store"), "keys.store")

    def delete(self, disk: str) -> None:
        self._path(disk).unlink(missing_ok=True)

    def _path(self, disk: str) -> Path:
        return _secret(self._directory, disk)


def forget(directory: Path, disk: str) -> None:
    """Delete the key of `disk` from the store in `directory`, without the wrapping key: whoever denies need not be able to open."""
    _secret(directory / _SECRETS, disk).unlink(missing_ok=True)


def holds(directory: Path, disk: str) -> bool:
    """Whether a key of `disk` is in the store in `directory`."""
    return _secret(directory / _SECRETS, disk).exists()


def _secret(directory: Path, disk: str) -> Path:
    return directory / f"{check_disk(disk)}.json"


class VolumeStore:
    """Terms, reference sets and revocations below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, volume: RootVolume) -> None:
        write_private(self._path("volumes", volume.disk), codec.encode(volume))

    def get(self, disk: str) -> RootVolume:
        """The terms of `disk`; `PolicyRefused` ``keys.disk-unknown`` for any that nobody registered."""
        path = self._path("volumes", disk)
        if not path.exists():
            raise unknown_disk(disk)
        return codec.decode(RootVolume, codec.loads(read_private(path), "keys.store"), "keys.store")

    def disks(self) -> tuple[str, ...]:
        """Every registered disk, in order."""
        return tuple(sorted(path.stem for path in (self._directory / "volumes").glob("*.json")))

    def disks_under(self, reference_set: str) -> tuple[str, ...]:
        """Those whose terms name this reference set, in order."""
        return tuple(disk for disk in self.disks() if self.get(disk).reference_set == reference_set)

    def delete(self, disk: str) -> None:
        self._path("volumes", disk).unlink(missing_ok=True)

    def put_references(self, name: str, references: ReferenceSet) -> None:
        write_private(self._path("references", name), codec.encode(references))

    def references(self, name: str) -> ReferenceSet:
        """The reference set `name`; `PolicyRefused` ``keys.references`` where there is none."""
        path = self._path("references", name)
        if not path.exists():
            raise PolicyRefused.of(
                "keys.references",
                expected=f"the reference set {name!r} that the terms name",
                found="none of this name",
                remedy="Store the reference values of the image that may open this disk.",
                layer="boot_chain",
            )
        return codec.decode(ReferenceSet, codec.loads(read_private(path), "reference-values"), "reference-values")

    def revoke(self, revocation: Revocation) -> None:
        """From now on no key for whoever has this identity."""
        with locked(self._directory / "revoked.lock"):
            known = self.revocations()
            if (revocation.name, revocation.value) not in {(item.name, item.value) for item in known}:
                write_private(self._directory / "revoked.json", codec.encode(_Revoked(1, (*known, revocation))))

    def revocations(self) -> tuple[Revocation, ...]:
        path = self._directory / "revoked.json"
        if not path.exists():
            return ()
        return codec.decode(_Revoked, codec.loads(read_private(path), "keys.store"), "keys.store").revocations

    def _path(self, folder: str, name: str) -> Path:
        return self._directory / folder / f"{check_disk(name)}.json"
