"""What an image can run, as a reference value: path and SHA-256 of every program, library and kernel module among its files.

A kernel that measures user space (IMA) extends PCR 10 with each of them as it is loaded. Which, and in what order, differs from boot to
boot, so that the register's value cannot be predicted: the list that explains it is held against these digests instead
(`evident.verification.ima`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from evident.reference_values.model import Provenance, ReferenceValue, Strength

REGISTER: Final = "ima"
LIST, ALLOWED = "ima", "allow-list"
"""Roles of pieces: the kernel's list, and what it is held against."""
Pieces = Mapping[str, tuple[bytes, ...]]


def reference(files: Mapping[str, bytes], *, of: str, origin: str, recorded_at: datetime | None = None) -> ReferenceValue:
    """`files`: absolute path to SHA-256, of one file system, which `of` says in words. Several values are no alternatives: each adds to
    what may be loaded."""
    return ReferenceValue(
        layers=("userspace",),
        register=REGISTER,
        value=hashlib.sha256(_lines(files)).digest(),
        strength=Strength.RECOMPUTED,
        endorser="you",
        description=f"programs, libraries and kernel modules of {of}",
        provenance=Provenance(origin, f"SHA-256 of {len(files)} files", {}, recorded_at),
        components=files,
        algorithm="sha256",
    )


def among(values: Iterable[ReferenceValue]) -> tuple[ReferenceValue, ...]:
    """Those of `values` that say what may be loaded."""
    return tuple(value for value in values if value.register == REGISTER)


def held_against(pieces: Pieces, values: Iterable[ReferenceValue]) -> Pieces:
    """`pieces` with what these values allow, where a kernel's list is among them."""
    allowed = tuple(_lines(value.components) for value in among(values))
    return {**pieces, ALLOWED: (*pieces.get(ALLOWED, ()), *allowed)} if allowed and LIST in pieces else pieces


def _lines(files: Mapping[str, bytes]) -> bytes:
    """As sha256sum prints them, by path."""
    return "".join(f"{digest.hex()}  {path}\n" for path, digest in sorted(files.items())).encode()
