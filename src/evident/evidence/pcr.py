"""The extend operation: how a measurement changes a register.

Source: TCG TPM 2.0 Library, Part 1, section 17 (PCR); Intel TDX module ABI, TDG.MR.RTMR.EXTEND.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

DIGEST_SIZES: Mapping[str, int] = MappingProxyType({"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64})
"""Banks that are computed here."""
DRTM_REGISTERS = range(17, 23)  # start as ff (TCG PFP 1.06, section 2.3.4, table 1)


HASHES: Mapping[str, Callable[[bytes], hashlib._Hash]] = MappingProxyType(
    {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
)


def digest(bank: str, content: bytes) -> bytes:
    """The digest of `content` in a bank's algorithm."""
    return HASHES[bank](content).digest()


def extend(bank: str, value: bytes, measured: bytes) -> bytes:
    """One extend: H(value || measured digest)."""
    return HASHES[bank](value + measured).digest()


def initial_pcr(index: int, bank: str, locality: int = 0) -> bytes:
    """What a PCR holds after TPM2_Startup, whose locality concerns PCR 0 alone."""
    size = DIGEST_SIZES[bank]
    if index in DRTM_REGISTERS:
        return b"\xff" * size
    return locality.to_bytes(size, "big") if index == 0 else bytes(size)
