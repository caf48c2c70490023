"""MRTD from firmware: equal to another implementation, to the byte, and refused for metadata that lies."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from evident.errors import Malformed, Unsupported
from evident.evidence import tdvf
from evident.evidence.tdvf import SectionKind
from evident.reference_values import tdx_mrtd
from evident.reference_values.tdx_mrtd import Order
from evident.simulator import tdvf as simulated

DEBIAN = Path("/usr/share/ovmf/OVMF.fd")
IMAGE = simulated.firmware_image()
ROOT_HASH = "cd" * 32


def straightforward(raw: bytes, order: str) -> str:
    """The same from the specifications, over the raw table, with nothing of Evident's."""
    at = raw.rindex(b"TDVF")
    (count,) = struct.unpack_from("<I", raw, at + 12)
    stream = bytearray()
    for index in range(count):
        offset, length, gpa, size, kind, attributes = struct.unpack_from("<IIQQII", raw, at + 16 + 32 * index)
        if order == "gce" and not length and kind != 2:
            continue
        adds, extends, both = bytearray(), bytearray(), bytearray()
        for page in range(gpa, gpa + size, 4096):
            add = struct.pack("<12s4xQ104x", b"MEM.PAGE.ADD", page) if attributes & 2 == 0 else b""
            extend = bytearray()
            if attributes & 1:
                for chunk in range(page, page + 4096, 256):
                    place = offset + chunk - gpa
                    extend += struct.pack("<9s7xQ104x", b"MR.EXTEND", chunk) + raw[place : place + 256]
            adds += add
            extends += extend
            both += add + extend
        stream += adds + extends if order == "by-section" else both
    return hashlib.sha384(stream).hexdigest()


@pytest.mark.parametrize("order", list(Order))
def test_equals_a_straightforward_implementation(order: Order) -> None:
    assert tdx_mrtd.predict(IMAGE, order).hex() == straightforward(IMAGE, order)


@pytest.mark.parametrize("order", list(Order))
def test_equals_it_on_a_real_firmware(order: Order) -> None:
    if not DEBIAN.exists():
        pytest.skip(f"no {DEBIAN} (Debian: ovmf)")
    raw = DEBIAN.read_bytes()
    try:
        kinds = [section.kind for section in tdvf.parse(raw)]
    except Unsupported:
        pytest.skip(f"{DEBIAN} is a build without TDX")
    assert {SectionKind.BOOT_VOLUME, SectionKind.CONFIGURATION_VOLUME, SectionKind.TD_HOB} <= set(kinds)
    assert tdx_mrtd.predict(raw, order).hex() == straightforward(raw, order)


def test_the_orders_differ_and_measured_content_counts_to_the_byte() -> None:
    values = {tdx_mrtd.predict(IMAGE, order) for order in Order}
    assert len(values) == 3
    inside, outside = bytearray(IMAGE), bytearray(IMAGE)
    inside[simulated.CONFIGURATION + 5] ^= 1
    outside[5] ^= 1
    assert tdx_mrtd.predict(bytes(inside), Order.PAGE_BY_PAGE) not in values
    assert tdx_mrtd.predict(bytes(outside), Order.PAGE_BY_PAGE) in values, "the variable store is added and not measured"


def test_pages_added_later_are_not_measured() -> None:
    later = (*simulated.sections(), (0, 0, 0x900000, 4096, SectionKind.PERMANENT_MEMORY, tdvf.AUGMENT))
    changed = simulated.firmware_image(later)
    without = tuple(section for section in tdvf.parse(changed) if section.kind != SectionKind.PERMANENT_MEMORY)
    assert len(without) == 4
    assert tdx_mrtd.predict(changed, Order.PAGE_BY_PAGE).hex() == straightforward(changed, "page-by-page")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ((0, 0, 0x810001, 4096, 3, 0), "tdvf.section"),
        ((0, 0, 0x810000, 4095, 3, 0), "tdvf.section"),
        ((0, 0, 0x810000, 1 << 40, 3, 0), "tdvf.section"),
        ((0, 0, 0x810000, 0, 3, 0), "tdvf.section"),
        ((0, 0, 0x810000, 4096, 3, 4), "tdvf.section"),
        ((0, 0, 0x810000, 4096, 3, tdvf.EXTEND), "tdvf.measured"),
        ((0, 4096, 0x810000, 8192, 0, tdvf.EXTEND), "tdvf.measured"),
        ((simulated.SIZE - 4096, 8192, 0x810000, 8192, 0, 0), "tdvf.data"),
        ((0, 8192, 0x810000, 4096, 0, 0), "tdvf.data"),
        ((0, 0, 0x810000, 4096, 99, 0), "tdvf.kind"),
        ((0, 0, (1 << 32) - 4096, 4096, 3, 0), "tdvf.overlap"),
    ],
)
def test_metadata_that_lies_is_refused(row: simulated.Row, code: str) -> None:
    with pytest.raises(Malformed) as refused:
        tdvf.parse(simulated.firmware_image((*simulated.sections()[:2], row)))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("offset", "value", "code"), [(0, 0, "tdvf.signature"), (4, 7, "tdvf.length"), (8, 2, "tdvf.version"), (12, 99, "tdvf.length")]
)
def test_a_descriptor_that_is_none_is_refused(offset: int, value: int, code: str) -> None:
    raw = bytearray(IMAGE)
    raw[simulated.SIZE - simulated.TABLE_AT + offset] = value
    with pytest.raises((Malformed, Unsupported)) as refused:
        tdvf.parse(bytes(raw))
    assert refused.value.code == code


def test_a_build_without_tdx_is_unsupported() -> None:
    raw = IMAGE.replace(tdvf.TDX_METADATA.bytes_le, bytes(16))
    with pytest.raises(Unsupported) as refused:
        tdvf.parse(raw)
    assert refused.value.code == "tdvf.none"
