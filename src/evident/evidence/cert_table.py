"""The certificate table of an SNP extended report: GUID entries, then the certificates they point to.

Source: GHCB specification (AMD publication 56421) revision 2.03, section 4.1.8.1 "SNP_EXTENDED_GUEST_REQUEST", table
"Certificate table": entries of 24 bytes (GUID, u32 offset from the start of the table, u32 length), ended by an entry of
zeros. configfs-tsm hands out the same table as ``auxblob``. GUIDs are stored in the order of their text form.

Hosts put DER there by specification and PEM in practice; the contents are kept as they are and told apart by whoever
needs a certificate. What they prove is nothing until a chain was verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from evident.errors import Malformed
from evident.evidence.reader import Reader

WHAT = "cert-table"
ENTRY_BYTES = 24
MAX_ENTRIES = 32
MAX_BYTES = 1024 * 1024
ROLES: Mapping[UUID, str] = MappingProxyType(
    {
        UUID("63da758d-e664-4564-adc5-f4b93be8accd"): "vcek",
        UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): "vlek",
        UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): "ask",
        UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): "ark",
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table and what it points to."""

    guid: UUID
    offset: int
    """Bytes from the start of the table."""
    content: bytes
    """As the host stored it: a certificate in DER or PEM for the GUIDs in `ROLES`."""


@dataclass(frozen=True, slots=True)
class CertTable:
    """Entries in the order of the table; each GUID at most once."""

    entries: tuple[Entry, ...]
    raw: bytes

    def get(self, role: str) -> bytes | None:
        """The content for ``vcek``, ``vlek``, ``ask`` or ``ark``, or None."""
        return next((entry.content for entry in self.entries if ROLES.get(entry.guid) == role), None)


def parse(raw: bytes) -> CertTable:
    """Parse one table; raises `Malformed`.

    Contents may not reach into the rows, overlap one another or leave the table; bytes that no row covers must be zero (hosts
    pad to a page).
    """
    if len(raw) > MAX_BYTES:
        raise _malformed("oversized", expected=f"at most {MAX_BYTES} bytes", found=f"{len(raw)} bytes")
    reader = Reader(raw, WHAT)
    rows: list[tuple[UUID, int, int]] = []
    while True:
        guid = UUID(bytes=reader.take(16, f"GUID of row {len(rows)}"))
        offset, length = reader.u32("offset"), reader.u32("length")
        if not guid.int:
            if offset or length:
                raise _malformed("terminator", expected="a last row of zeros", found=f"offset {offset:#x}, length {length:#x}")
            break
        if guid in (known for known, _, _ in rows):
            raise _malformed("duplicate", expected="every GUID once", found=f"{guid} twice")
        if len(rows) == MAX_ENTRIES:
            raise _malformed("rows", expected=f"at most {MAX_ENTRIES} rows", found="more")
        rows.append((guid, offset, length))
    _refuse_overlaps(raw, rows, reader.offset)
    return CertTable(tuple(Entry(guid, offset, raw[offset : offset + length]) for guid, offset, length in rows), raw)


def serialize(table: CertTable) -> bytes:
    """The wire form of `table`, built from its entries; as long as `raw`, whose padding is zero."""
    wire = bytearray(len(table.raw))
    for index, entry in enumerate(table.entries):
        row = entry.guid.bytes + entry.offset.to_bytes(4, "little") + len(entry.content).to_bytes(4, "little")
        wire[index * ENTRY_BYTES : (index + 1) * ENTRY_BYTES] = row
        wire[entry.offset : entry.offset + len(entry.content)] = entry.content
    return bytes(wire)


def build(contents: Mapping[UUID, bytes]) -> CertTable:
    """The table that holds `contents` one after the other, without padding."""
    offset = (len(contents) + 1) * ENTRY_BYTES
    entries = []
    for guid, content in contents.items():
        entries.append(Entry(guid, offset, content))
        offset += len(content)
    return parse(serialize(CertTable(tuple(entries), bytes(offset))))


def _refuse_overlaps(raw: bytes, rows: list[tuple[UUID, int, int]], end_of_rows: int) -> None:
    covered = end_of_rows
    for guid, offset, length in sorted(rows, key=lambda row: row[1]):
        if not length:
            raise _malformed("empty", expected=f"a content for {guid}", found="length 0")
        if offset < covered or offset + length > len(raw):
            raise _malformed(
                "bounds",
                expected=f"the content of {guid} within {covered:#x} to {len(raw):#x}, apart from the rows and the other contents",
                found=f"{offset:#x} to {offset + length:#x}",
            )
        _refuse_gap(raw[covered:offset])
        covered = offset + length
    _refuse_gap(raw[covered:])


def _refuse_gap(gap: bytes) -> None:
    if gap.strip(b"\0"):
        raise _malformed("gap", expected="zero bytes wherever no row points", found=gap[:16].hex())


def _malformed(problem: str, *, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}",
        expected=expected,
        found=found,
        remedy="Ask the host for the extended report again, or pass the certificates one by one.",
    )
