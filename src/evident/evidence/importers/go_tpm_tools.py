"""Attestations as go-tpm-tools and go-sev-guest write them: protobuf containers of otherwise raw evidence.

Source: google/go-tpm-tools ``proto/attest.proto`` and ``proto/tpm.proto`` (67670e5c); google/go-sev-guest
``proto/sevsnp.proto`` (af1c107a), whose report is a field-by-field copy that is put back into its 1184 bytes here.
"""

from __future__ import annotations

from dataclasses import dataclass

from evident.errors import Malformed
from evident.evidence import protobuf, snp_report
from evident.evidence import tpm_algorithms as alg
from evident.evidence.protobuf import Message, malformed

WHAT = "go-tpm-tools"
MAX_BYTES = 8 * 1024 * 1024
MAX_QUOTES = 8

_REPORT_NUMBERS = {
    # field: (offset, bytes) in ATTESTATION_REPORT
    1: (0x000, 4),
    2: (0x004, 4),
    3: (0x008, 8),
    6: (0x030, 4),
    7: (0x034, 4),
    8: (0x038, 8),
    9: (0x040, 8),
    10: (0x048, 4),
    18: (0x180, 8),
    20: (0x1E0, 8),
    21: (0x1E8, 1),
    22: (0x1E9, 1),
    23: (0x1EA, 1),
    24: (0x1EC, 1),
    25: (0x1ED, 1),
    26: (0x1EE, 1),
    27: (0x1F0, 8),
    30: (0x1F8, 8),
    31: (0x200, 8),
}
_REPORT_BYTES = {
    4: (0x010, 16),
    5: (0x020, 16),
    11: (0x050, 64),
    12: (0x090, 48),
    13: (0x0C0, 32),
    14: (0x0E0, 48),
    15: (0x110, 48),
    16: (0x140, 32),
    17: (0x160, 32),
    19: (0x1A0, 64),
    28: (0x2A0, 512),
}
_CPUID_FIELD, _CPUID_OFFSET = 29, 0x188


@dataclass(frozen=True, slots=True)
class SnpAttestation:
    """A report with the certificates sent along; empty bytes for what is absent."""

    report: bytes
    vcek: bytes
    vlek: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BankQuote:
    """The quote over one PCR bank, with the values of that bank."""

    quote: bytes
    signature: bytes
    bank: str
    values: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Attestation:
    """attest.Attestation, its pieces raw."""

    ak: bytes
    quotes: tuple[BankQuote, ...]
    event_log: bytes
    canonical_event_log: bytes
    ak_certificate: bytes
    intermediates: tuple[bytes, ...]
    snp: SnpAttestation | None
    instance: dict[str, str]
    """What the guest says of its instance: unsigned."""


def parse(raw: bytes) -> Attestation:
    """Parse an attest.Attestation. Raises `Malformed`."""
    _bounded(raw)
    message = protobuf.parse(raw, WHAT).only(1, 2, 3, 4, 5, 6, 7, 8, 9)
    quotes = message.all_bytes(2)
    ak = message.one_bytes(1)
    if not ak or not 1 <= len(quotes) <= MAX_QUOTES:
        raise malformed(WHAT, f"an AK and 1 to {MAX_QUOTES} quotes", f"{len(ak)} bytes of AK, {len(quotes)} quotes")
    snp = message.one_bytes(8)
    return Attestation(
        ak,
        tuple(_quote(item) for item in quotes),
        message.one_bytes(3),
        message.one_bytes(5),
        message.one_bytes(6),
        message.all_bytes(7),
        parse_snp(snp) if snp else None,
        _instance(message.one_bytes(4)),
    )


def parse_snp(raw: bytes) -> SnpAttestation:
    """Parse a sevsnp.Attestation. Raises `Malformed`."""
    _bounded(raw)
    message = protobuf.parse(raw, WHAT).only(1, 2, 3)
    report = _report(protobuf.parse(message.one_bytes(1), WHAT))
    chain = protobuf.parse(message.one_bytes(2), WHAT)
    issuers = tuple(item for item in (chain.one_bytes(2), chain.one_bytes(3)) if item)
    return SnpAttestation(report, chain.one_bytes(1), chain.one_bytes(6), issuers)


def _bounded(raw: bytes) -> None:
    if len(raw) > MAX_BYTES:
        raise Malformed.of(
            WHAT + ".size", expected=f"at most {MAX_BYTES} bytes", found=f"{len(raw)} bytes", remedy="Pass the attestation alone."
        )


def _report(message: Message) -> bytes:
    message.only(*_REPORT_NUMBERS, *_REPORT_BYTES, _CPUID_FIELD)
    wire = bytearray(snp_report.REPORT_BYTES)
    for field, (offset, size) in _REPORT_NUMBERS.items():
        value = message.one_int(field)
        if value >> 8 * size:
            raise malformed(WHAT, f"{size} bytes in report field {field}", str(value))
        wire[offset : offset + size] = value.to_bytes(size, "little")
    for field, (offset, size) in _REPORT_BYTES.items():
        content = message.one_bytes(field)
        if len(content) != size:
            raise malformed(WHAT, f"{size} bytes in report field {field}", f"{len(content)} bytes")
        wire[offset : offset + size] = content
    # CPUID 1 EAX: stepping 3:0, model 7:4 and 19:16, family 11:8 plus 27:20; the report keeps the combined values.
    eax = message.one_int(_CPUID_FIELD)
    family, model = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF), eax >> 4 & 0xF | eax >> 12 & 0xF0
    if family > 0xFF:
        raise malformed(WHAT, "a CPUID family of one byte", hex(family))
    wire[_CPUID_OFFSET : _CPUID_OFFSET + 3] = bytes((family, model, eax & 0xF))
    return bytes(wire)


def _quote(raw: bytes) -> BankQuote:
    message = protobuf.parse(raw, WHAT).only(1, 2, 3)
    values = protobuf.parse(message.one_bytes(3), WHAT).only(1, 2)
    bank = alg.hash_of(values.one_int(1), "the PCR values").name
    registers: dict[int, bytes] = {}
    for entry in values.all_bytes(2):
        pair = protobuf.parse(entry, WHAT).only(1, 2)
        index = pair.one_int(1)
        if index in registers or index > 31:
            raise malformed(WHAT, "every PCR (0-31) once", f"PCR {index}")
        registers[index] = pair.one_bytes(2)
    return BankQuote(message.one_bytes(1), message.one_bytes(2), bank, registers)


def _instance(raw: bytes) -> dict[str, str]:
    if not raw:
        return {}
    message = protobuf.parse(raw, WHAT).only(1, 2, 3, 4, 5)
    words = {"zone": 1, "project_id": 2, "instance_name": 4}
    named = {name: message.one_bytes(field).decode("utf-8", "replace") for name, field in words.items()}
    return {**named, "project_number": str(message.one_int(3)), "instance_id": str(message.one_int(5))}
