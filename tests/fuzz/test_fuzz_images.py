"""Whatever the bytes: readers of PE images, UKIs, disks and PCR files raise known errors only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.evidence.test_disk import FILES, a_disk, a_fat12
from tests.unit.evidence.test_pe import IMAGE
from tests.unit.evidence.test_uki import a_uki

from evident.errors import Malformed, Unsupported
from evident.evidence import disk, pe
from evident.reference_values.pcr import from_pcrlock
from evident.reference_values.uki import predict_uki
from evident.verification.ima import parse_allow_list


def _hash(raw: bytes) -> None:
    image = pe.parse(raw)
    pe.authenticode(image, "sha256")
    for section in image.sections:
        image.content(section)


def _read_all(raw: bytes) -> None:
    system = disk.open_system_partition(raw)
    for path, _ in system.walk():
        system.read(path)


UKI = a_uki(255, cmdline=b"quiet", initrd=b"i")
DISK = a_disk(a_fat12(FILES))
SEEDS: dict[str, tuple[Callable[[bytes], object], bytes, int]] = {
    "pe": (_hash, IMAGE, 0x400),
    "uki": (predict_uki, UKI, 0x400),
    "partitions": (_read_all, DISK, 1300),
    "volume": (_read_all, DISK, len(DISK)),
    "pcrlock": (from_pcrlock, b'{"records": [{"pcr": 4, "digests": [{"hashAlg": "sha1", "digest": "' + b"0" * 40 + b'"}]}]}', 120),
    "allow list": (parse_allow_list, b"0" * 64 + b"  /bin/sh\n# remark\n", 80),
}


@pytest.mark.parametrize("name", SEEDS)
@given(edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8), cut=st.none() | st.integers(0, 1 << 20))
def test_mutated_bytes_raise_known_errors_only(name: str, edits: list[tuple[int, int]], cut: int | None) -> None:
    read, seed, reach = SEEDS[name]
    data = bytearray(seed)
    start = 34 * 512 if name == "volume" else 0
    for position, value in edits:
        data[start + position % (min(reach, len(data)) - start)] = value
    try:
        read(bytes(data[: len(data) if cut is None else cut % len(data)]))
    except (Malformed, Unsupported):
        return
