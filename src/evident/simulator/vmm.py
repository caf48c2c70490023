"""A simulated host: a well-formed TEST firmware, and the launch of a confidential VM from bytes.

The host decides what is launched, so every field of `LaunchDescription` is an attacker's to change; what the secure
processor measured is what the report will say.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass
from typing import Final

from evident.evidence import ovmf
from evident.evidence.ovmf import SectionKind
from evident.evidence.snp_report import DEFAULT_POLICY
from evident.reference_values import vmsa
from evident.reference_values.kernel_hashes import KernelHashes
from evident.reference_values.snp_launch import SnpLaunch, launch_pages
from evident.simulator.secure_processor import Guest, SecureProcessor

"""SMT allowed, reserved bit 17 set; no debug, no migration."""
_HASH_TABLE: Final = 0x80FC00
_RESET_ADDRESS: Final = 0x80B004
# As the AmdSev build of OVMF lays them out.
_SECTIONS: tuple[tuple[int, int, SectionKind], ...] = (
    (0x800000, 0x9000, SectionKind.SEC_MEMORY),
    (0x80A000, 0x3000, SectionKind.SEC_MEMORY),
    (0x80D000, 0x1000, SectionKind.SECRETS),
    (0x80E000, 0x1000, SectionKind.CPUID),
    (0x80F000, 0x1000, SectionKind.KERNEL_HASHES),
    (0x810000, 0x10000, SectionKind.SEC_MEMORY),
)


@dataclass(frozen=True, slots=True)
class LaunchDescription:
    """What a host puts into a confidential VM before it runs."""

    firmware: bytes
    kernel: bytes = b""
    initrd: bytes = b""
    command_line: str = ""
    kernel_hashes: bool = True
    """Hand the hashes of kernel, initrd and command line to the firmware (QEMU's ``kernel-hashes=on``), so that they are measured."""
    vcpus: int = 1
    vcpu_type: str = "EPYC-v4"
    guest_features: int = 0x1
    vmm: str = "qemu"
    policy: int = DEFAULT_POLICY
    host_data: bytes = bytes(32)
    id_block: bytes | None = None
    id_auth: bytes | None = None
    migration_agent: bytes | None = None
    """Report id of a migration agent, 32 bytes."""

    def hashes(self) -> KernelHashes | None:
        """The table the firmware gets; None when the host hands none over."""
        return KernelHashes.of(self.kernel, self.initrd, self.command_line) if self.kernel_hashes and self.kernel else None

    def snp_launch(self) -> SnpLaunch:
        """The same launch as reference values are predicted from."""
        signature = vmsa.VCPU_TYPES[self.vcpu_type]
        return SnpLaunch(self.firmware, self.vcpus, signature, self.guest_features, self.vmm, self.hashes())


def boot(processor: SecureProcessor, description: LaunchDescription) -> Guest:
    """Launch `description` page by page on `processor`; refusals are those of the secure processor and of the launch itself."""
    launch = processor.launch_start(description.policy, migration_agent=description.migration_agent)
    for page in launch_pages(description.snp_launch()):
        launch.update(page.type, page.gpa, page.contents)
    return launch.finish(host_data=description.host_data, id_block=description.id_block, id_auth=description.id_auth)


def make_firmware(*, build: str = "1", kernel_hashes: bool = True, size: int = 64 * 1024) -> bytes:
    """An image with OVMF's tables and no code worth running; `build` names it, and any other name gives other bytes.

    Without `kernel_hashes` it has no place for the hash table, like firmware that starts any kernel the host hands it (AT-10).
    """
    entries = [
        (ovmf.SEV_ES_RESET_BLOCK, struct.pack("<I", _RESET_ADDRESS)),
        *([(ovmf.SEV_HASH_TABLE, struct.pack("<II", _HASH_TABLE, 0x400))] if kernel_hashes else []),
    ]
    sections = [section for section in _SECTIONS if kernel_hashes or section[2] != SectionKind.KERNEL_HASHES]
    metadata = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    metadata += b"".join(struct.pack("<III", *section) for section in sections)
    # The offset of the metadata from the image's end goes into the table, whose size is the same whatever the offset.
    table = _footer_table([*entries, (ovmf.SEV_METADATA, bytes(4))])
    from_end = len(metadata) + len(table) + 32
    table = _footer_table([*entries, (ovmf.SEV_METADATA, struct.pack("<I", from_end))])
    banner = f"TEST FIRMWARE of the Evident simulator, build {build}: runs nowhere. ".encode()
    body_bytes = size - len(metadata) - len(table) - 32
    body = (banner + hashlib.shake_256(banner).digest(size))[:body_bytes]
    reset_vector = b"TEST reset vector".ljust(28, b"\0") + bytes.fromhex("f4ebfdcc")
    return body + metadata + table + reset_vector


def _footer_table(entries: list[tuple[uuid.UUID, bytes]]) -> bytes:
    """OVMF's table, read from its end: each entry is data, size with header, GUID."""
    body = b"".join(data + _entry_header(len(data), guid) for guid, data in entries)
    return body + _entry_header(len(body), ovmf.FOOTER)


def _entry_header(data_bytes: int, guid: uuid.UUID) -> bytes:
    return struct.pack("<H", data_bytes + 18) + guid.bytes_le
