"""Evidence of Azure confidential VMs as Trustee, attestation-rs and azure-cvm-tooling write it.

Source: confidential-containers/trustee ``deps/verifier/src/az_snp_vtpm`` and ``az_tdx_vtpm`` (78962cd4), evidence versions 0
(byte arrays, PEM), 1 and 2 (base64url report, hex quote, base64url certificate); confidential-dot-ai/attestation-rs (67ee36f8),
the same below ``{"platform": ..., "evidence": ...}``; kinvolk/azure-cvm-tooling (e4e44074), a quote serialised by bincode.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from evident import codec
from evident.errors import Malformed
from evident.evidence.reader import Reader

WHAT = "azure.evidence"
MAX_BYTES = 1024 * 1024
BINCODE_LIMIT = 8192
PCR_BYTES = 32

Pieces = dict[str, tuple[bytes, ...]]


def from_json(raw: bytes) -> Pieces:
    """Roles ``hcl``, ``tpm-quote``, ``signature``, ``pcrs`` (JSON), ``vcek`` and ``quote`` (TDX), as far as present. Raises `Malformed`."""
    value = codec.loads(raw, WHAT, limit=MAX_BYTES)
    if isinstance(value, dict) and "evidence" in value:
        value = value["evidence"]
    if not isinstance(value, dict):
        raise _malformed("an object", type(value).__name__)
    pieces: Pieces = {}
    report = value.get("hcl_report", value.get("report"))
    if report is not None:
        pieces["hcl"] = (_bytes(report, "the HCL report"),)
    quote = value.get("tpm_quote", value.get("quote", value if "message" in value else None))
    if isinstance(quote, dict):
        pieces |= _quote(quote)
    if value.get("vcek") is not None:
        certificate = value["vcek"]
        pieces["vcek"] = (certificate.encode() if _is_pem(certificate) else _bytes(certificate, "the VCEK"),)
    if value.get("td_quote") is not None:
        pieces["quote"] = (_bytes(value["td_quote"], "the TD quote"),)
    if not pieces:
        raise _malformed("an HCL report or a vTPM quote", ", ".join(sorted(value))[:80] or "nothing")
    return pieces


def from_bincode(raw: bytes) -> Pieces:
    """Roles ``tpm-quote``, ``signature`` and ``pcrs`` of a quote written by bincode (64-bit little-endian lengths). Raises `Malformed`."""
    reader = Reader(raw, WHAT)
    signature = reader.take(_bounded(reader.u64("signature length")), "signature")
    message = reader.take(_bounded(reader.u64("message length")), "message")
    count = _bounded(reader.u64("number of PCRs"))
    values = reader.take(count * PCR_BYTES, "PCR values")
    reader.end()
    return {"tpm-quote": (message,), "signature": (signature,), "pcrs": (_pcrs_json(values),)}


def looks_like_bincode(raw: bytes) -> bool:
    """Told by the length of an RSA-2048 signature in front."""
    return raw[:8] == (256).to_bytes(8, "little")


def _pcrs_json(values: bytes) -> bytes:
    digests = ",".join(f'"{values[at : at + PCR_BYTES].hex()}"' for at in range(0, len(values), PCR_BYTES))
    return f'{{"pcrs":[{digests}]}}'.encode()


def _quote(quote: dict[str, Any]) -> Pieces:
    pieces: Pieces = {
        "tpm-quote": (_bytes(quote.get("message"), "the quote"),),
        "signature": (_bytes(quote.get("signature"), "its signature"),),
    }
    listed = quote.get("pcrs")
    if listed is not None:
        if not isinstance(listed, list):
            raise _malformed("an array of PCR values", type(listed).__name__)
        values = [_bytes(item, "a PCR") for item in listed]
        if any(len(value) != PCR_BYTES for value in values):
            raise _malformed(f"PCR values of {PCR_BYTES} bytes", "another size")
        pieces["pcrs"] = (_pcrs_json(b"".join(values)),)
    return pieces


def _bytes(value: Any, field: str) -> bytes:
    """Bytes from an array of numbers, hex, or base64url."""
    try:
        if isinstance(value, list):
            if not all(type(item) is int for item in value):
                raise ValueError
            return bytes(value)
        if not isinstance(value, str) or not value:
            raise ValueError
        if len(value) % 2 == 0 and not set(value.lower()) - set("0123456789abcdef"):
            return bytes.fromhex(value)
        text = value.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise _malformed(f"{field} as bytes, hex or base64url", repr(value)[:60]) from None


def _is_pem(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("-----BEGIN")


def _bounded(length: int) -> int:
    if length > BINCODE_LIMIT:
        raise _malformed(f"a length of at most {BINCODE_LIMIT}", str(length))
    return length


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(WHAT, expected=expected, found=found, remedy="Pass the evidence as the other tool wrote it.")
