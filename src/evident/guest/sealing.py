"""Secrets that only this launch opens again: by the chip's derived key (RV-09), or by a TPM's PCRs (FS-05).

By the chip: MSG_KEY_REQ gives a key that follows from the chip's own root, the launch measurement, the guest policy and the guest SVN.
HKDF-SHA-384 makes one key for each label of it, so that two uses never share a key. Another chip, another measurement, another policy
or a lower privilege gets another key; the same launch gets the same one after every boot. Source: AMD publication 56860, MSG_KEY_REQ.

By a TPM: sealed to the values of PCRs (TPM2_PolicyPCR). As strong as the TPM is independent of the host; whoever copies state and TPM
together gets both, and a TPM that the host runs keeps nothing from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from evident import codec
from evident.errors import NotAuthentic
from evident.evidence import tpm
from evident.evidence import tpm_algorithms as alg
from evident.guest.source import absent
from evident.guest.tpm_device import Sealed, Tpm

POLICY, MEASUREMENT, GUEST_SVN = 1 << 0, 1 << 3, 1 << 4
FIELDS = POLICY | MEASUREMENT | GUEST_SVN
"""GUEST_FIELD_SELECT. The TCB version is left out: an update of the firmware must not lock the owner out."""
KEY_BYTES = 64
STORED_LIMIT = 16 * 1024
_IV_BYTES = 12
_LABEL = b"evident sealing v1\0"


class KeyDeriver(Protocol):
    """A source that can ask the secure processor for a derived key (`SevGuest`, `SimulatedProcessor`)."""

    def derive_key(self, fields: int, *, guest_svn: int = 0) -> bytes: ...


def launch_key(deriver: KeyDeriver, label: str, *, guest_svn: int = 0, size: int = KEY_BYTES) -> bytes:
    """`size` bytes for the use that `label` names: the same for the same launch on the same chip, and for no other.

    `guest_svn` may be at most that of the launch; a newer image still derives the keys of older ones.
    """
    root = deriver.derive_key(FIELDS, guest_svn=guest_svn)
    return HKDF(hashes.SHA384(), size, salt=None, info=_LABEL + label.encode()).derive(root)


def seal(key: bytes, secret: bytes, *, label: str, randomness: Callable[[int], bytes] = os.urandom) -> bytes:
    """`secret` under a 32-byte `key` of `launch_key`: IV, ciphertext, tag. It may be stored anywhere."""
    iv = randomness(_IV_BYTES)
    return iv + AESGCM(key).encrypt(iv, secret, _LABEL + label.encode())


def unseal(key: bytes, stored: bytes, *, label: str) -> bytes:
    """The inverse; raises `NotAuthentic` ``guest.sealing`` under another key or label."""
    try:
        return AESGCM(key).decrypt(stored[:_IV_BYTES], stored[_IV_BYTES:], _LABEL + label.encode())
    except (InvalidTag, ValueError):
        raise NotAuthentic.of(
            "guest.sealing",
            expected=f"a secret sealed by this launch for {label!r}",
            found="one that does not open",
            remedy="Another image, chip or policy sealed it: release the key by attestation, and seal it anew.",
            layer="storage",
        ) from None


@dataclass(frozen=True, slots=True)
class _Stored:
    version: Literal[1]
    pcrs: tuple[int, ...]
    private: bytes
    public: bytes


def seal_to_pcrs(chip: Tpm, secret: bytes, pcrs: tuple[int, ...]) -> bytes:
    """`secret` (at most 128 bytes) sealed to these PCRs of the SHA-256 bank as they are now; a document that may be stored anywhere."""
    selections = (tpm.PcrSelection.of("sha256", pcrs),)
    expected = tpm.pcr_digest(selections, {"sha256": chip.pcr_read("sha256", pcrs)}, alg.ALG_SHA256)
    sealed = chip.seal(secret, selections, expected)
    return json.dumps(codec.encode(_Stored(1, pcrs, sealed.private, sealed.public)), sort_keys=True).encode()


def unseal_from_pcrs(chip: Tpm, stored: bytes) -> bytes:
    """The inverse, on the same TPM while the PCRs have the same values; raises `EvidentError` with the TPM's code otherwise."""
    read = codec.decode(_Stored, codec.loads(stored, "guest.sealing", limit=STORED_LIMIT), "guest.sealing")
    if not read.pcrs or not all(0 <= index < 24 for index in read.pcrs):
        raise absent("sealing", "PCRs from 0 to 23", str(read.pcrs)[:60])
    return chip.unseal(Sealed(read.private, read.public), (tpm.PcrSelection.of("sha256", read.pcrs),))
