"""What form a piece of evidence has, told by its content and never by its file name: raw bytes, hex text, JSON or CBOR."""

from __future__ import annotations

import re

from evident import codec
from evident.errors import Malformed
from evident.evidence import tsm_report
from evident.evidence.importers import snp_fields

_HEX = re.compile(rb"\s*(?:[0-9A-Fa-f]{2}\s*)+", re.ASCII)
_SEV_HEADER = b"\0\0\0\0\xa0\x04\0\0"
"""Status 0 and size 0x4a0: the head of an SNP_GET_REPORT response (56860, MSG_REPORT_RSP)."""


def unhex(data: bytes) -> bytes:
    """`data` itself, or the bytes that it spells when it is nothing but pairs of hex digits and white space."""
    if _HEX.fullmatch(data):
        return bytes.fromhex(data.decode("ascii"))
    return data


def snp_report(data: bytes) -> tuple[bytes, bytes | None]:
    """The raw SNP report in `data`, and the certificate table that came with it.

    Understands raw bytes, hex text, configfs-tsm documents (JSON, CBOR) and field JSON; raises `Malformed` and `Unsupported`.
    A raw report is returned as it is, whatever its length: its parser judges it.
    """
    if tsm_report.looks_like(data):
        document = tsm_report.parse(data)
        return document.outblob, document.auxblob or None
    if data.lstrip()[:1] == b"{":
        value = codec.loads(data, snp_fields.WHAT, limit=snp_fields.MAX_BYTES)
        return snp_fields.report_from_fields(value), None
    raw = unhex(data)
    if raw.startswith(_SEV_HEADER):
        raise Malformed.of(
            "snp.report.header",
            expected="the report alone, 1184 bytes",
            found=f"{len(raw)} bytes that begin with the 32-byte head of an SNP_GET_REPORT response",
            remedy="Cut the first 32 bytes off (dd bs=32 skip=1), or have the guest write the report alone.",
        )
    return raw, None
