"""Passphrases that only the launch which was released gets again: by the chip's derived key (RV-09), or by a TPM's PCRs (FS-05).

By the chip: MSG_KEY_REQ gives a key that follows from the chip's own root, the launch measurement, the guest policy and the guest SVN.
HKDF-SHA-384 makes one key for each label of it, so that two uses never share a key. Another chip, another measurement, another policy
or a lower privilege gets another key; the same launch gets the same one after every boot. Source: AMD publication 56860, MSG_KEY_REQ.

By a TPM: kept by the TPM itself (TPM2_EvictControl) and given back while its PCRs have the values that they had (TPM2_PolicyPCR). As
strong as the TPM is independent of the host; whoever copies a TPM's state copies what it keeps, and a TPM that the host runs keeps nothing
from it. Source: TCG "Trusted Platform Module Library", version 1.83, Part 3 (commands), Part 2 ("Handle Value Assignments").
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from evident.evidence import tpm
from evident.evidence import tpm_algorithms as alg
from evident.guest.source import absent
from evident.guest.tpm_device import Tpm

POLICY, MEASUREMENT, GUEST_SVN = 1 << 0, 1 << 3, 1 << 4
FIELDS = POLICY | MEASUREMENT | GUEST_SVN
"""GUEST_FIELD_SELECT. The TCB version is left out: it would have to be remembered where the host can change it."""
KEY_BYTES = 64
HANDLE = 0x81457601
"""Of the TPM's persistent handles one of the owner's, and of none that the TCG's registry of reserved handles names."""
BANK = "sha256"
PCRS = (0, 2, 3, 4, 7, 9, 11, 12, 13)
"""What was started: firmware and what it loads from devices, boot loader, Secure Boot, initrd, UKI, command line, extensions. The others
count boots' circumstances (1, 5), belong to other boot loaders (8, 14), or go on after the boot (10, IMA).
"""
_LABEL = b"evident sealing v1\0"


class KeyDeriver(Protocol):
    """A source that can ask the secure processor for a derived key (`SevGuest`, `SimulatedProcessor`)."""

    def derive_key(self, fields: int, *, guest_svn: int = 0) -> bytes: ...


def launch_key(deriver: KeyDeriver, label: str, *, guest_svn: int = 0) -> bytes:
    """`KEY_BYTES` for the use that `label` names: the same for the same launch on the same chip, and for no other.

    `guest_svn` may be at most that of the launch; a newer image still derives the keys of older ones.
    """
    root = deriver.derive_key(FIELDS, guest_svn=guest_svn)
    return HKDF(hashes.SHA384(), KEY_BYTES, salt=None, info=_LABEL + label.encode()).derive(root)


def seal(chip: Tpm, secret: bytes) -> None:
    """Have the TPM keep `secret` (at most 128 bytes) for the boots whose `PCRS` are as they are now, in the place of what it kept before.

    Raises `EvidentError` ``guest.tpm.unavailable``, ``guest.sealing.unavailable`` where the TPM has no such PCRs.
    """
    values = chip.pcr_read(BANK, PCRS)
    if len(values) != len(PCRS):
        raise absent("sealing", f"PCRs of bank {BANK}", f"{len(values)} of {len(PCRS)}")
    chip.seal(HANDLE, secret, _selections(), tpm.pcr_digest(_selections(), {BANK: values}, alg.ALG_SHA256))


def unseal(chip: Tpm) -> bytes:
    """What `seal` had the TPM keep; raises `EvidentError` with the TPM's code after another boot, or where nothing is kept."""
    return chip.unseal(HANDLE, _selections())


def _selections() -> tuple[tpm.PcrSelection, ...]:
    return (tpm.PcrSelection.of(BANK, PCRS),)
