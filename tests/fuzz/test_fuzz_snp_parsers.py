"""Whatever bytes come in, these parsers answer with a value that serialises back, or with `Malformed` or `Unsupported`."""

from __future__ import annotations

import json
import struct
from typing import Any

import cbor2
from hypothesis import example, given
from hypothesis import strategies as st

from evident.errors import Malformed, Unsupported
from evident.evidence import cert_table, content, snp_report, tsm_report
from evident.evidence.importers import snp_fields

GUIDS = [guid.bytes for guid in cert_table.ROLES]
NAMES = sorted(snp_fields._NEWER | snp_fields._OLDER | set(snp_fields._NEWER_OPTIONAL))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 65) | st.text(max_size=8) | st.lists(st.integers(-1, 300), max_size=80),
    lambda inner: st.dictionaries(st.sampled_from(["bootloader", "tee", "snp", "microcode", "fmc", "_reserved", "r", "s", "major"]), inner),
    max_leaves=6,
)


def _mutated(base: bytes) -> st.SearchStrategy[bytes]:
    """`base` with a few bytes changed, cut or added: closer to the parser's heart than noise."""
    changes = st.lists(st.tuples(st.integers(0, max(len(base) - 1, 0)), st.integers(0, 255)), max_size=4)
    tail = st.sampled_from([b"", b"\0", b"\xff" * 7])
    return st.builds(_apply, st.just(base), changes, st.integers(0, 3), tail)


def _apply(base: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes) -> bytes:
    content = bytearray(base)
    for offset, value in changes:
        content[offset] = value
    return bytes(content[: len(content) - cut]) + tail


def _report(version: int, family: int, model: int) -> bytes:
    raw = bytearray(snp_report.REPORT_BYTES)
    raw[0] = version
    raw[0xA] = 2
    raw[0x34] = 1
    raw[0x188:0x18A] = bytes((family, model)) if version > 2 else bytes(2)
    return bytes(raw)


REPORTS = [_report(version, *cpuid) for version in (2, 3, 4, 5) for cpuid in ((0x19, 1), (0x19, 0xA0), (0x1A, 2))]


@given(st.one_of(st.binary(max_size=1300), *map(_mutated, REPORTS)))
def test_snp_report(data: bytes) -> None:
    try:
        report = snp_report.parse(data)
    except (Malformed, Unsupported):
        return
    assert snp_report.serialize(report) == data


def _table(rows: list[tuple[bytes, int, int]], contents: bytes) -> bytes:
    return b"".join(guid + struct.pack("<II", offset, length) for guid, offset, length in rows) + bytes(24) + contents


ROWS = st.lists(st.tuples(st.sampled_from([*GUIDS, b"\7" * 16]), st.integers(0, 300), st.integers(0, 300)), max_size=5)


@given(st.one_of(st.binary(max_size=400), st.builds(_table, ROWS, st.binary(max_size=200))))
def test_cert_table(data: bytes) -> None:
    try:
        table = cert_table.parse(data)
    except Malformed:
        return
    assert cert_table.serialize(table) == data


DOCUMENTS = st.dictionaries(
    st.sampled_from(["outblob", "auxblob", "provider", "x"]),
    st.one_of(st.text(max_size=12), st.binary(max_size=12), st.integers(), st.just("sev_guest\n")),
)


@given(st.binary(max_size=200) | st.builds(cbor2.dumps, DOCUMENTS) | st.builds(lambda d: json.dumps(d, default=str).encode(), DOCUMENTS))
@example(b"\xa2" + b"\x9f" * 190)
@example(b"\xc2\x41\x00")
@example(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff")
def test_tsm_report(data: bytes) -> None:
    try:
        report = tsm_report.parse(data)
    except (Malformed, Unsupported):
        return
    assert tsm_report.parse(tsm_report.serialize(report)).outblob == report.outblob


@given(st.dictionaries(st.sampled_from(NAMES), VALUES) | st.dictionaries(st.text(max_size=8), VALUES))
def test_snp_fields(fields: dict[str, Any]) -> None:
    try:
        raw = snp_fields.report_from_fields(fields)
    except Malformed:
        return
    assert len(raw) == snp_report.REPORT_BYTES


@given(
    st.one_of(
        st.binary(max_size=1300),
        st.text(alphabet="0123456789abcdef \n", max_size=3000).map(str.encode),
        _mutated(b"\0\0\0\0\xa0\4\0\0" + REPORTS[0]),
    )
)
def test_telling_a_report_by_its_content(data: bytes) -> None:
    try:
        raw, table = content.snp_report(data)
    except (Malformed, Unsupported):
        return
    assert isinstance(raw, bytes)
    assert table is None or isinstance(table, bytes)
