"""What form a piece of evidence has, told by its content and never by its file name: raw bytes, hex text, JSON or CBOR."""

from __future__ import annotations

from evident import codec
from evident.errors import Malformed, Unsupported
from evident.evidence import tsm_report
from evident.evidence.importers import snp_fields
from evident.evidence.snp_report import REPORT_BYTES

_RESPONSE_HEAD = b"\0\0\0\0\xa0\x04\0\0"
"""Status 0 and size 0x4a0: the head of an SNP_GET_REPORT response (56860, MSG_REPORT_RSP)."""

_SEV_REPORT_BYTES = 0xD0
"""SEV and SEV-ES attestation reports (AMD publication 55766, ATTESTATION command), which no remote party can verify alone."""


def unhex(data: bytes) -> bytes:
    """`data` itself, or the bytes that it spells when it is nothing but pairs of hex digits and white space."""
    return _spelled(data) or data


def _spelled(data: bytes) -> bytes | None:
    """The bytes that hex text spells, None for anything else."""
    if not data.isascii():
        return None
    try:
        return bytes.fromhex(data.decode("ascii"))  # skips ASCII white space between pairs, and takes nothing else
    except ValueError:
        return None


def snp_report(data: bytes) -> tuple[bytes, bytes | None]:
    """The raw SNP report in `data`, and the certificate table that came with it.

    Understands raw bytes, hex text, configfs-tsm documents (JSON, CBOR) and field JSON; raises `Malformed` and `Unsupported`.
    A raw report is returned as it is, whatever its length: its parser judges it.
    """
    if len(data) == REPORT_BYTES and data[1:4] == b"\0\0\0":  # a version as u32; no text and no CBOR map goes on like this
        return data, None
    if tsm_report.looks_like(data):
        document = tsm_report.parse(data)
        return document.outblob, document.auxblob or None
    if data.lstrip()[:1] == b"{":
        value = codec.loads(data, snp_fields.WHAT, limit=snp_fields.MAX_BYTES)
        return snp_fields.report_from_fields(value), None
    raw = unhex(data)
    _refuse_relatives(raw)
    if raw.startswith(_RESPONSE_HEAD):
        raise Malformed.of(
            "snp.report.header",
            expected="the report alone, 1184 bytes",
            found=f"{len(raw)} bytes that begin with the 32-byte head of an SNP_GET_REPORT response",
            remedy="Cut the first 32 bytes off (dd bs=32 skip=1), or have the guest write the report alone.",
        )
    return raw, None


def tdx_quote(data: bytes) -> bytes:
    """The raw TDX quote in `data`: raw bytes, hex text, a configfs-tsm document, or a JSON object whose member ``quote`` is hex.

    A raw quote is returned as it is: its parser judges it.
    """
    if tsm_report.looks_like(data):
        return tsm_report.parse(data).outblob
    if data.lstrip()[:1] == b"{":
        value = codec.loads(data, "tdx.quote")
        text = value.get("quote") if isinstance(value, dict) else None
        quote = _spelled(text.encode("utf-8")) if isinstance(text, str) else None
        if not quote:
            raise Malformed.of(
                "tdx.quote.json",
                expected="a JSON object whose member quote is hex",
                found="no such member",
                remedy="Pass the quote itself.",
            )
        return quote
    return unhex(data)


def _refuse_relatives(raw: bytes) -> None:
    """Name the evidence that is most often taken for an SNP report."""
    if raw[2:8] == b"\x02\0\x81\0\0\0":  # attestation key type 2 and TEE type 0x81 of a quote header, versions 4 and 5
        found, remedy = "a TDX quote", "Use --kind tdx quote=PATH."
    elif raw.startswith(b"HCLA"):
        found, remedy = "the attestation blob of an Azure paravisor", "Use --kind azure-snp hcl=PATH."
    elif len(raw) == _SEV_REPORT_BYTES:
        found, remedy = (
            "208 bytes, the size of an SEV or SEV-ES report",
            "SEV and SEV-ES prove too little to appraise; run the guest with SEV-SNP.",
        )
    else:
        return
    raise Unsupported.of("snp.report.relative", expected="an SEV-SNP attestation report", found=found, remedy=remedy)
