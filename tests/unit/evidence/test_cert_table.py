"""The extended report's certificate table, strictly."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

import pytest

from evident.errors import Malformed
from evident.evidence import cert_table

VCEK, ASK, ARK = (next(guid for guid, role in cert_table.ROLES.items() if role == name) for name in ("vcek", "ask", "ark"))
OTHER = UUID("11111111-2222-3333-4444-555555555555")
CASE = "snp/veraison-genoa-v3-tsm"


def rows(*entries: tuple[UUID, int, int], contents: bytes = b"") -> bytes:
    return b"".join(guid.bytes + struct.pack("<II", offset, length) for guid, offset, length in entries) + bytes(24) + contents


def test_real_table_with_pem_inside(vectors: Any) -> None:
    raw = vectors.read(CASE, "auxblob.bin")
    table = cert_table.parse(raw)
    assert {str(entry.guid): len(entry.content) for entry in table.entries} == vectors.facts(CASE)["auxblob_table"]
    assert table.get("vcek") == vectors.read(CASE, "vcek.pem")
    assert table.get("vlek") is None
    assert cert_table.serialize(table) == raw


def test_build_parse_and_serialize_agree() -> None:
    table = cert_table.build({ARK: b"root", ASK: b"intermediate", OTHER: b"?"})
    assert table.get("ask") == b"intermediate"
    assert [entry.guid for entry in table.entries] == [ARK, ASK, OTHER]
    assert cert_table.serialize(cert_table.parse(table.raw)) == table.raw


def test_zero_padding_to_a_page_is_kept() -> None:
    raw = cert_table.build({VCEK: b"leaf"}).raw.ljust(4096, b"\0")
    assert cert_table.serialize(cert_table.parse(raw)) == raw


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "cert-table.truncated"),
        (rows((VCEK, 48, 4))[:30], "cert-table.truncated"),
        (rows((VCEK, 48, 4), contents=b"abc"), "cert-table.bounds"),
        (rows((VCEK, 24, 4), contents=b"abcd"), "cert-table.bounds"),
        (rows((VCEK, 0, 4), contents=b"abcd"), "cert-table.bounds"),
        (rows((VCEK, 0xFFFFFFFF, 0xFFFFFFFF), contents=b"abcd"), "cert-table.bounds"),
        (rows((VCEK, 72, 4), (ASK, 74, 4), contents=b"abcdef"), "cert-table.bounds"),
        (rows((VCEK, 72, 4), (VCEK, 76, 4), contents=b"abcdefgh"), "cert-table.duplicate"),
        (rows((VCEK, 48, 0)), "cert-table.empty"),
        (rows((VCEK, 52, 4), contents=b"\0\0\1\0abcd"), "cert-table.gap"),
        (rows((VCEK, 48, 4), contents=b"abcdx"), "cert-table.gap"),
        (bytes(16) + struct.pack("<II", 1, 0), "cert-table.terminator"),
        (rows(*((UUID(int=number), 1000, 1) for number in range(1, 40)), contents=bytes(100)), "cert-table.rows"),
        (bytes(cert_table.MAX_BYTES + 1), "cert-table.oversized"),
    ],
)
def test_refused(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as refusal:
        cert_table.parse(raw)
    assert refusal.value.code == code
