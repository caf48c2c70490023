"""Initial register state of a vCPU: the VMSA pages that the launch measurement covers.

Source: AMD64 Architecture Programmer's Manual volume 2, table B-4 (layout of the state save area) and section 14.1.3 (reset
values); what each VMM puts there is data in `VMMS`, each row with where it was observed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

PAGE = 4096
RESET_EIP = 0xFFFFFFF0

VmmFamily = Literal["qemu", "ec2", "gce"]


@dataclass(frozen=True, slots=True)
class Vmm:
    """How one virtual machine monitor, in one revision, starts a vCPU."""

    name: str
    family: VmmFamily
    """Decides how metadata sections are measured; several revisions share one."""
    source: str
    cs_attributes: int = 0x9B
    cs_attributes_at_reset: int = 0x9B
    ss_attributes: int = 0x93
    tr_attributes: int = 0x8B
    g_pat: int = 0x0007_0406_0007_0406
    rdx: int | None = None
    """None: the CPUID signature of the vCPU type."""
    mxcsr: int = 0
    x87_control: int = 0


QEMU = Vmm("qemu", "qemu", "QEMU/KVM; sev-snp-measure 0.0.13, virtee/sev, and a report of real hardware", mxcsr=0x1F80, x87_control=0x37F)
EC2 = Vmm(
    "ec2",
    "ec2",
    "AWS EC2 as stated by sev-snp-measure 0.0.13",
    cs_attributes_at_reset=0x9A,
    ss_attributes=0x92,
    tr_attributes=0x83,
    rdx=0x600,
)
EC2_BEFORE_2025 = Vmm(
    "ec2-old",
    "ec2",
    "AWS EC2 as stated by sev-snp-measure up to 0.0.12 and by virtee/sev",
    cs_attributes_at_reset=0x9A,
    ss_attributes=0x92,
    tr_attributes=0x83,
    rdx=0,
)
GCE = Vmm("gce", "gce", "Google Compute Engine as stated by sev-snp-measure 0.0.13", g_pat=0x0007_0106, rdx=0x600)

VMMS: Mapping[str, Vmm] = MappingProxyType({vmm.name: vmm for vmm in (QEMU, EC2, EC2_BEFORE_2025, GCE)})


def cpuid_signature(family: int, model: int, stepping: int) -> int:
    """CPUID 1 EAX of a part whose extended family and model are already combined (AMD publication 25481)."""
    base, extended = (0xF, family - 0xF) if family > 0xF else (family, 0)
    return extended << 20 | (model >> 4) << 16 | base << 8 | (model & 0xF) << 4 | stepping


_GENERATIONS = {
    "EPYC": (cpuid_signature(0x17, 0x01, 2), ("", "-v1", "-v2", "-IBPB", "-v3", "-v4", "-v5")),
    "EPYC-Rome": (cpuid_signature(0x17, 0x31, 0), ("", "-v1", "-v2", "-v3", "-v4", "-v5")),
    "EPYC-Milan": (cpuid_signature(0x19, 0x01, 1), ("", "-v1", "-v2", "-v3")),
    "EPYC-Genoa": (cpuid_signature(0x19, 0x11, 0), ("", "-v1", "-v2")),
    "EPYC-Turin": (cpuid_signature(0x1A, 0x00, 0), ("", "-v1")),
}
VCPU_TYPES: Mapping[str, int] = MappingProxyType(
    {generation + version: signature for generation, (signature, versions) in _GENERATIONS.items() for version in versions}
)
"""QEMU's CPU model names (target/i386/cpu.c) to CPUID signature."""


def _segments(rows: Mapping[str, tuple[int, int, int, int]]) -> bytes:
    """Selector, attributes, limit and base of es cs ss ds fs gs gdtr ldtr idtr tr: offsets 0x00 to 0x9f."""
    return b"".join(struct.pack("<HHIQ", *rows[name]) for name in ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr"))


def _page(segments: bytes, registers: Mapping[int, int], x87_control: int, mxcsr: int) -> bytes:
    page = bytearray(PAGE)
    page[: len(segments)] = segments
    for offset, value in registers.items():
        struct.pack_into("<Q", page, offset, value)
    struct.pack_into("<I", page, 0x408, mxcsr)
    struct.pack_into("<H", page, 0x410, x87_control)
    return bytes(page)


def _registers(*, rip: int, cr0: int, g_pat: int, rdx: int, features: int) -> dict[int, int]:
    return {
        0x0D0: 0x1000,  # EFER.SVME, set by KVM
        0x148: 0x40,  # CR4.MCE, set by KVM
        0x158: cr0,
        0x160: 0x400,  # DR7
        0x168: 0xFFFF0FF0,  # DR6
        0x170: 0x2,  # RFLAGS
        0x178: rip,
        0x268: g_pat,
        0x310: rdx,
        0x3B0: features,
        0x3E8: 0x1,  # XCR0
    }


def vmsa_page(vmm: Vmm, eip: int, signature: int, guest_features: int) -> bytes:
    """The 4096-byte save area of a vCPU that starts in real mode at `eip`."""
    data, empty = (0, 0x93, 0xFFFF, 0), (0, 0, 0xFFFF, 0)
    code_attributes = vmm.cs_attributes_at_reset if eip == RESET_EIP else vmm.cs_attributes
    segments = _segments(
        {
            **dict.fromkeys(("es", "ds", "fs", "gs"), data),
            **dict.fromkeys(("gdtr", "idtr"), empty),
            "cs": (0xF000, code_attributes, 0xFFFF, eip & 0xFFFF0000),
            "ss": (0, vmm.ss_attributes, 0xFFFF, 0),
            "ldtr": (0, 0x82, 0xFFFF, 0),
            "tr": (0, vmm.tr_attributes, 0xFFFF, 0),
        }
    )
    rdx = signature if vmm.rdx is None else vmm.rdx
    registers = _registers(rip=eip & 0xFFFF, cr0=0x10, g_pat=vmm.g_pat, rdx=rdx, features=guest_features)
    return _page(segments, registers, vmm.x87_control, vmm.mxcsr)


def svsm_vmsa_page(entry: int, signature: int) -> bytes:
    """The save area of a vCPU that starts in a COCONUT-SVSM image: flat protected mode at `entry`, VMPL0 (QEMU only)."""
    flat, real, empty = (16, 0xC93, 0xFFFFFFFF, 0), (0, 0x93, 0xFFFF, 0), (0, 0, 0xFFFF, 0)
    segments = _segments(
        {
            **dict.fromkeys(("es", "ss", "ds", "fs"), flat),
            **dict.fromkeys(("gdtr", "idtr"), empty),
            "cs": (8, 0xC9B, 0xFFFFFFFF, 0),
            "gs": real,
            "ldtr": (0, 0x82, 0xFFFF, 0),
            "tr": (0, 0x8B, 0xFFFF, 0),
        }
    )
    registers = _registers(rip=entry, cr0=0x11, g_pat=QEMU.g_pat, rdx=signature, features=0x1)
    return _page(segments, registers, 0, QEMU.mxcsr)
