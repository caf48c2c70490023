"""The table by which a VMM hands the hashes of kernel, initrd and command line to the firmware, and so into the launch digest.

Source: QEMU target/i386/sev.c and EDK2 OvmfPkg/AmdSev/BlobVerifierLibSevHashes: a GUIDed table of three SHA-256 entries, padded to 16
bytes.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from evident.errors import UsageError

_TABLE = uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
_COMMAND_LINE = uuid.UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD = uuid.UUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL = uuid.UUID("4de79437-abd2-427f-b835-d5b172d2045b")
_ENTRY_BYTES = 16 + 2 + 32
_TABLE_BYTES = 16 + 2 + 3 * _ENTRY_BYTES
PADDED_BYTES = (_TABLE_BYTES + 15) // 16 * 16

STAGES = ("kernel", "initrd", "cmdline")
"""The stages of the boot chain that the table settles."""


@dataclass(frozen=True, slots=True)
class KernelHashes:
    """SHA-256 of the kernel, the initrd (of nothing, when there is none) and the command line with its terminating NUL."""

    kernel: bytes
    initrd: bytes
    cmdline: bytes

    def __post_init__(self) -> None:
        for name, digest in self.components().items():
            if len(digest) != 32:
                raise UsageError.of(
                    "snp-launch.hash",
                    expected=f"32 bytes of SHA-256 for {name}",
                    found=f"{len(digest)} bytes",
                    remedy="State the SHA-256 of the file (for the command line: of its bytes and one NUL).",
                )

    @classmethod
    def of(cls, kernel: bytes, initrd: bytes = b"", command_line: str = "") -> KernelHashes:
        """Hash the inputs as QEMU does."""
        return cls(hashlib.sha256(kernel).digest(), hashlib.sha256(initrd).digest(), command_line_hash(command_line))

    def components(self) -> dict[str, bytes]:
        """Stage name to digest."""
        return {"kernel": self.kernel, "initrd": self.initrd, "cmdline": self.cmdline}

    @classmethod
    def from_components(cls, components: Mapping[str, bytes]) -> KernelHashes:
        return cls(**{stage: components[stage] for stage in STAGES})

    def table(self) -> bytes:
        entries = b"".join(
            guid.bytes_le + struct.pack("<H", _ENTRY_BYTES) + digest
            for guid, digest in ((_COMMAND_LINE, self.cmdline), (_INITRD, self.initrd), (_KERNEL, self.kernel))
        )
        return (_TABLE.bytes_le + struct.pack("<H", _TABLE_BYTES) + entries).ljust(PADDED_BYTES, b"\0")

    def page(self, offset: int) -> bytes:
        """The 4096-byte page with the table at `offset` (at most 4096 - 176)."""
        return (bytes(offset) + self.table()).ljust(4096, b"\0")


def command_line_hash(command_line: str) -> bytes:
    """SHA-256 over the command line and one NUL."""
    return hashlib.sha256(command_line.encode("utf-8", "surrogateescape") + b"\0").digest()
