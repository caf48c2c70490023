"""Whatever the bytes, reading a firmware image or a launch template raises nothing but its own refusals."""

from __future__ import annotations

import json
import struct
import uuid
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed, Unsupported
from evident.evidence import ovmf, tdvf
from evident.reference_values import tdx_mrtd
from evident.reference_values.snp_launch import LaunchTemplate
from evident.simulator import tdvf as simulated

GUIDS = st.sampled_from((ovmf.SEV_METADATA, ovmf.SEV_ES_RESET_BLOCK, ovmf.SEV_HASH_TABLE, ovmf.SVSM_INFO, ovmf.FOOTER))
ENTRIES = st.lists(st.tuples(GUIDS, st.binary(max_size=12), st.integers(-2, 2)), max_size=6)


@given(ENTRIES, st.integers(0, 0xFFFF), st.binary(max_size=300), st.booleans())
def test_images(entries: list[tuple[uuid.UUID, bytes, int]], size: int, metadata: bytes, true_size: bool) -> None:
    table = b""
    for guid, data, error in entries:
        table += data + struct.pack("<H", max(0, len(data) + 18 + error)) + guid.bytes_le
    table += struct.pack("<H", len(table) + 18 if true_size else size) + ovmf.FOOTER.bytes_le
    raw = bytearray(4096)
    raw[4096 - 32 - len(table) : 4096 - 32] = table
    raw[: len(metadata)] = metadata
    with suppress(Malformed):
        firmware = ovmf.parse(bytes(raw))
        assert firmware.raw == bytes(raw)


@given(st.binary(max_size=512))
def test_anything(data: bytes) -> None:
    with suppress(Malformed):
        ovmf.parse(data.rjust(4096, b"\0"))


@given(st.binary(max_size=512))
def test_templates(data: bytes) -> None:
    with suppress(Malformed, Unsupported):
        LaunchTemplate.parse(data)


@given(
    st.fixed_dictionaries(
        {
            "firmware_digest": st.sampled_from(("00" * 48, "00", "zz")),
            "sections": st.lists(
                st.fixed_dictionaries(
                    {
                        "gpa": st.sampled_from((0, 4096, -4096, 1 << 31, 1 << 80)),
                        "size": st.sampled_from((0, 4096, -4096, 1 << 30, 1 << 80)),
                        "kind": st.sampled_from((1, 2, 3, 4, 16, 7)),
                    }
                ),
                max_size=3,
            ),
            "vmm": st.sampled_from(("qemu", "ec2", "gce", "other")),
            "vcpus": st.integers(-1, 5),
            "vcpu_signature": st.integers(-1, 1 << 33),
            "guest_features": st.integers(-1, 1 << 65),
            "reset_eip": st.none() | st.integers(-1, 1 << 33),
            "hash_table_gpa": st.none() | st.integers(-1, 1 << 33),
            "hashes": st.none() | st.fixed_dictionaries(dict.fromkeys(("kernel", "initrd", "cmdline"), st.sampled_from(("00" * 32, "00")))),
            "svsm_entry": st.none() | st.integers(-1, 1 << 33),
        }
    )
)
def test_almost_templates(document: dict[str, object]) -> None:
    with suppress(Malformed, Unsupported):
        template = LaunchTemplate.parse(json.dumps(document).encode())
        assert LaunchTemplate.parse(template.serialize()) == template
        assert len(template.digest()) == 48


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_tdx_metadata_is_read_or_refused(place: int, change: bytes) -> None:
    """A descriptor with bytes changed: it parses, and then has an MRTD in bounded time, or is refused."""
    raw = bytearray(simulated.firmware_image())
    start = simulated.SIZE - simulated.TABLE_AT + place % 144
    raw[start : start + len(change)] = change
    try:
        sections = tdvf.parse(bytes(raw))
    except (Malformed, Unsupported):
        return
    if sum(section.size for section in sections) < 1 << 20:
        assert len(tdx_mrtd.predict(bytes(raw), tdx_mrtd.Order.PAGE_BY_PAGE)) == 48


@given(st.binary(max_size=600))
def test_any_tail_as_tdx_metadata(data: bytes) -> None:
    raw = simulated.firmware_image()
    try:
        tdvf.parse(
            raw[: simulated.SIZE - simulated.TABLE_AT] + data[:400].ljust(400, b"\0") + raw[simulated.SIZE - simulated.TABLE_AT + 400 :]
        )
    except (Malformed, Unsupported):
        return
