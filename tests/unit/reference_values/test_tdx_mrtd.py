"""MRTD from firmware, RTMR1 and RTMR2 from what is booted: equal to another implementation, and in the form that real logs have."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from tests.conftest import Vectors
from tests.unit.evidence.test_disk import a_disk, a_fat12
from tests.unit.evidence.test_pe import a_pe
from tests.unit.evidence.test_uki import a_uki

from evident.errors import Malformed, Unsupported
from evident.evidence import disk, efi, pe, tdvf
from evident.evidence.importers import event_log
from evident.evidence.tdvf import SectionKind
from evident.reference_values import tdx_mrtd, tdx_reference
from evident.reference_values.model import Strength
from evident.reference_values.pcr import Measurement
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


@pytest.mark.parametrize("case", ["tdx/attestation-rs-live-ccel", "tdx/dstack-quote-report"])
def test_the_form_of_a_direct_boot_is_that_of_real_machines(vectors: Vectors, case: str) -> None:
    """With the digests that their logs have for kernel, command line and initrd, the predicted sequence gives the signed RTMR1 and 2."""
    name = "ccel.bin" if "ccel" in case else "quote-report.json"
    log = event_log.read(vectors.read(case, name), registers="rtmr")
    digests = {index: [event.digests["sha384"] for event in log.events if event.register == index + 1] for index in (1, 2)}
    form = tdx_reference.direct_boot(a_pe({".text": b"kernel"}), b"initrd", "quiet").measurements
    known = {"kernel": digests[1][0], "cmdline": digests[2][0], "initrd": digests[2][1]}
    placed = [Measurement(item.pcr, {"sha384": known.get(item.stage, item.digests["sha384"])}, item.what) for item in form]
    facts = vectors.facts(case)
    for number in (1, 2):
        assert tdx_reference.value_of([item for item in placed if item.pcr == number]).hex() == facts[f"rtmr{number}"]


def test_direct_boot() -> None:
    kernel = a_pe({".text": b"kernel"})
    after, before = (
        tdx_reference.direct_boot(kernel, b"initrd", f"quiet roothash={ROOT_HASH}", initrd_argument=place) for place in ("after", "before")
    )
    one, two = tdx_reference.references(after, origin="a test")
    assert one.components["kernel"] == pe.authenticode(pe.parse(kernel), "sha384")
    text = f"quiet roothash={ROOT_HASH} initrd=initrd".encode("utf-16-le") + b"\0\0"
    assert two.components["cmdline"] == hashlib.sha384(text).digest()
    assert two.components["verity_root_hash"].hex() == ROOT_HASH
    assert two.layers == ("boot_chain", "root_filesystem")
    assert (one.strength, one.endorser, one.register, two.register) == (Strength.RECOMPUTED, "you", "rtmr1", "rtmr2")
    other = tdx_reference.references(before, origin="a test")
    assert other[0].value == one.value
    assert other[1].value != two.value
    assert any("RTMR0 is not predicted" in text for text in after.assumptions)
    alone = tdx_reference.direct_boot(kernel, None, "quiet")
    assert [item.what for item in alone.measurements if item.pcr == 2] == ["load options"]


def test_a_unified_image_from_the_vmm_and_from_a_disk() -> None:
    image = a_uki(cmdline=b"quiet", initrd=b"initrd")
    handed = tdx_reference.unified_image(image, stub_version=257)
    booted = a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": image}))
    started = tdx_reference.unified_image(image, stub_version=257, booted_from=booted)
    first = [[item.what for item in prediction.measurements if item.pcr == 1] for prediction in (handed, started)]
    assert first[0][:3] == ["unified kernel image", "boot attempt", "separator"]
    assert first[1][:4] == ["boot attempt", "separator", "partition table", "unified kernel image"]
    second = [item.what for item in started.measurements if item.pcr == 2]
    assert second[0] == "name of .linux"
    assert second[-2:] == ["load options", "initrd"]
    assert tdx_reference.references(handed, origin="x")[1].value == tdx_reference.references(started, origin="x")[1].value


def test_the_partition_table_is_measured_as_a_real_firmware_does(vectors: Vectors) -> None:
    """What is predicted reads back as the event that firmware logs for the same disk."""
    image = a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": a_uki()}))
    table, _ = disk.read_partition_table(image)
    assert efi.parse_gpt(disk.gpt_event(image)) == table
