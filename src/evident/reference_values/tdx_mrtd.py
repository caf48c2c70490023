"""Predict MRTD, the launch measurement of a TD, from its firmware image.

MRTD is SHA-384 over one 128-byte record per page that is added, and per 256 bytes of measured content another record and the content:

* TDH.MEM.PAGE.ADD: ``MEM.PAGE.ADD`` at byte 0, the guest physical address (little endian) at byte 16, zeros elsewhere;
* TDH.MR.EXTEND: ``MR.EXTEND`` likewise with the address of the 256 bytes, then these.

The order is the VMM's, and three are known (`Order`). Which pages hold the initial memory map (TD HOB) and temporary memory follows from
the firmware's metadata; their content is not measured. Memory size, vCPUs and ACPI tables are therefore not in MRTD.

Sources: Intel, "TDX Module Base Architecture Specification", section 12 (measurement), and ABI specification of both leaf functions;
google/gce-tcb-verifier ``tdx/measurement.go`` and ``ovmf/tdx_data.go`` (4f59856a, 2300e56d); QEMU ``target/i386/kvm/tdx.c``.
Not checked against hardware: no machine at hand whose firmware binary is public. Checked against an independent implementation.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from evident.evidence import tdvf
from evident.evidence.ovmf import PAGE
from evident.evidence.tdvf import Section, SectionKind

CHUNK = 256
RECORD = 128


class Order(StrEnum):
    """In which order a VMM adds and measures pages."""

    PAGE_BY_PAGE = "page-by-page"
    """Each page added and measured at once: Linux 6.16 and later with QEMU 10.1 and later."""
    BY_SECTION = "by-section"
    """Section by section, all pages added, then all measured: the patched kernels and QEMU before these."""
    GCE = "gce"
    """Google's VMM: page by page, and of the memory without content in the image only the TD HOB is added before launch."""


def predict(firmware: bytes, order: Order) -> bytes:
    """MRTD (48 bytes) of a TD launched from `firmware`. Raises what `tdvf.parse` raises."""
    digest = hashlib.sha384()
    for section in tdvf.parse(firmware):
        if not _taken(section, order):
            continue
        pages = range(0, section.size, PAGE)
        if order is Order.BY_SECTION:
            for offset in pages:
                digest.update(_added(section, offset))
            for offset in pages:
                digest.update(_measured(section, offset))
        else:
            for offset in pages:
                digest.update(_added(section, offset) + _measured(section, offset))
    return digest.digest()


def _taken(section: Section, order: Order) -> bool:
    if section.kind == SectionKind.TD_INFO:
        return False  # about the image, and no memory of the guest
    return order is not Order.GCE or bool(section.data) or section.kind == SectionKind.TD_HOB


def _added(section: Section, offset: int) -> bytes:
    return _record(b"MEM.PAGE.ADD", section.gpa + offset) if section.added else b""


def _measured(section: Section, offset: int) -> bytes:
    if not section.measured:
        return b""
    return b"".join(
        _record(b"MR.EXTEND", section.gpa + start) + section.data[start : start + CHUNK] for start in range(offset, offset + PAGE, CHUNK)
    )


def _record(name: bytes, gpa: int) -> bytes:
    return (name.ljust(16, b"\0") + gpa.to_bytes(8, "little")).ljust(RECORD, b"\0")
