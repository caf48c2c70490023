"""Firmware event logs: TCG crypto-agile, SHA-1 legacy, and the CC event log (CCEL) of confidential VMs.

Sources: TCG PC Client Platform Firmware Profile 1.06 (PFP), sections 10.2 (TCG_PCClientPCREvent, TCG_PCR_EVENT2) and 10.4.5.1
(TCG_EfiSpecIdEvent); UEFI Specification 2.10, section 38.4 (CC_EVENT, register mapping). All integers little endian.

A log is framed here and no more: nothing in it is authentic until it replays to signed registers (`verification.log`), and what
an event's data says is read by `tcg_events`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader

WHAT = "tcg.log"
MAX_LOG_BYTES = 16 * 1024 * 1024
MAX_EVENT_BYTES = 1024 * 1024
MAX_EVENTS = 65536
MAX_ALGORITHMS = 8
MAX_REGISTER = 31

EV_NO_ACTION = 0x00000003
AGILE_SIGNATURE = b"Spec ID Event03\0"
LEGACY_SIGNATURES = (b"Spec ID Event00\0", b"Spec ID Event02\0")

# TCG Algorithm Registry: identifier to (bank, digest size). SM3 and SHA-3 are framed, never replayed.
ALGORITHMS: Mapping[int, tuple[str, int]] = MappingProxyType(
    {
        0x0004: ("sha1", 20),
        0x000B: ("sha256", 32),
        0x000C: ("sha384", 48),
        0x000D: ("sha512", 64),
        0x0012: ("sm3_256", 32),
        0x0027: ("sha3_256", 32),
        0x0028: ("sha3_384", 48),
        0x0029: ("sha3_512", 64),
    }
)
REPLAYABLE = ("sha1", "sha256", "sha384", "sha512")

_EVENT_HEAD = struct.Struct("<III")

Format = Literal["crypto-agile", "sha1-legacy"]
RegisterKind = Literal["pcr", "rtmr"]


@dataclass(frozen=True, slots=True)
class Header:
    """The Spec ID event that opens a log (PFP 10.4.5.1); absent from logs that some operating systems rewrite."""

    register: int
    """0, or 1 in the CCEL of OVMF; nothing is extended."""
    platform_class: int
    version: tuple[int, int, int]
    """Major, minor, errata of the specification."""
    uintn_size: int
    vendor: bytes


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event as framed. `register` is the raw index: a PCR, or the CC measurement register index of a CCEL."""

    number: int
    """Position in the log, from 0, the Spec ID header not counted."""
    register: int
    type: int
    digests: Mapping[str, bytes]
    """Bank to digest."""
    data: bytes


@dataclass(frozen=True, slots=True)
class TcgLog:
    """A framed log. `padding` is what fills the rest of a fixed-size area: only ff, or only 00."""

    format: Format
    registers: RegisterKind
    header: Header | None
    algorithms: tuple[tuple[int, int], ...]
    """Algorithm identifier and digest size, in the header's order."""
    events: tuple[LogEvent, ...]
    padding: bytes
    raw: bytes

    @property
    def banks(self) -> tuple[str, ...]:
        """Names of the declared banks, in the header's order."""
        return tuple(_bank(identifier) for identifier, _ in self.algorithms)


def _bank(identifier: int) -> str:
    return ALGORITHMS[identifier][0] if identifier in ALGORITHMS else f"{identifier:#06x}"


def _refuse(problem: str, *, expected: str, found: str, remedy: str = "Collect the log again; it is damaged or was altered.") -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=remedy)


def parse(raw: bytes, *, registers: RegisterKind | None = None) -> TcgLog:
    """Frame a whole log, every event of it, in either format.

    `registers` says what the indices mean: ``rtmr`` for a CCEL, ``pcr`` for a TPM log. None decides by content: a CCEL has SHA-384
    as its only bank and no index above 4 (UEFI 38.4.1), which no complete TPM log has (PCR 7 always carries the Secure Boot policy).

    Raises `Malformed` (``tcg.log.*``: truncated, event-size, byte-order, digests, padding ...) and `Unsupported` (``tcg.log.bank``: no
    bank that can be replayed).
    """
    if len(raw) > MAX_LOG_BYTES:
        raise _refuse("oversized", expected=f"at most {MAX_LOG_BYTES} bytes", found=f"{len(raw)} bytes", remedy="Pass the log alone.")
    reader = Reader(raw, WHAT)
    first = _legacy_event(reader, 0)
    opening = first.data[:16]
    if first.type == EV_NO_ACTION and opening == AGILE_SIGNATURE:
        return _parse_agile(raw, reader, first, registers)
    return _parse_legacy(raw, registers, has_header=first.type == EV_NO_ACTION and opening in LEGACY_SIGNATURES)


def _parse_agile(raw: bytes, reader: Reader, first: LogEvent, registers: RegisterKind | None) -> TcgLog:
    if first.register > 1 or first.digests["sha1"].strip(b"\0"):
        raise _refuse("header", expected="a Spec ID event in register 0 or 1 with a zero digest", found=f"register {first.register}")
    header, algorithms = _spec_id(first)
    sizes = dict(algorithms)
    events: list[LogEvent] = []
    end = _padding_start(raw)
    while reader.offset < end:
        _count(events)
        events.append(_agile_event(reader, len(events), sizes))
    if not any(_bank(identifier) in REPLAYABLE for identifier in sizes):
        raise Unsupported.of(
            f"{WHAT}.bank",
            expected="a bank of " + ", ".join(REPLAYABLE),
            found=", ".join(_bank(identifier) for identifier in sizes),
            remedy="Enable a SHA-256 or SHA-384 bank on the machine and collect the log again.",
        )
    kind = registers or _kind_by_content(events, sizes)
    log = TcgLog("crypto-agile", kind, header, algorithms, tuple(events), raw[reader.offset :], raw)
    _refuse_registers(log)
    return log


def _parse_legacy(raw: bytes, registers: RegisterKind | None, *, has_header: bool) -> TcgLog:
    if registers == "rtmr":
        raise _refuse("format", expected="a crypto-agile log (a CCEL always is)", found="a SHA-1 log", remedy="Pass the CCEL data area.")
    reader = Reader(raw, WHAT)
    header = _legacy_spec_id(_legacy_event(reader, 0)) if has_header else None
    events: list[LogEvent] = []
    end = _padding_start(raw)
    while reader.offset < end:
        _count(events)
        events.append(_legacy_event(reader, len(events)))
    log = TcgLog("sha1-legacy", "pcr", header, ((0x0004, 20),), tuple(events), raw[reader.offset :], raw)
    _refuse_registers(log)
    return log


def _count(events: list[LogEvent]) -> None:
    if len(events) >= MAX_EVENTS:
        raise _refuse("events", expected=f"at most {MAX_EVENTS} events", found="more", remedy="Check that this is an event log.")


def _padding_start(raw: bytes) -> int:
    """From where on nothing but one filling byte (ff or 00) follows; the end of the data where none does."""
    filler = raw[-1:]
    return len(raw.rstrip(filler)) if filler in (b"\0", b"\xff") else len(raw)


def _size(reader: Reader, field: str) -> int:
    size = reader.u32(field)
    if size > MAX_EVENT_BYTES:
        swapped = int.from_bytes(size.to_bytes(4, "little"), "big")
        if swapped <= reader.remaining:
            raise _refuse(
                "byte-order", expected="little-endian integers", found=f"size {size:#x}", remedy="Pass the log as the firmware left it."
            )
        raise _refuse("event-size", expected=f"at most {MAX_EVENT_BYTES} bytes of event data", found=f"{size} bytes declared")
    return size


def _legacy_event(reader: Reader, number: int) -> LogEvent:
    register, kind = reader.u32("PCR index"), reader.u32("event type")
    digest = reader.take(20, "SHA-1 digest")
    data = reader.take(_size(reader, "event size"), "event data")
    return LogEvent(number, register, kind, {"sha1": digest}, data)


def _agile_event(reader: Reader, number: int, sizes: Mapping[int, int]) -> LogEvent:
    register, kind, count = _EVENT_HEAD.unpack(reader.take(12, "register index, event type and digest count"))
    if not 1 <= count <= len(sizes):
        raise _refuse("digests", expected=f"1 to {len(sizes)} digests in event {number}", found=f"{count:#x}")
    digests: dict[str, bytes] = {}
    for _ in range(count):
        identifier = reader.u16("digest algorithm")
        if identifier not in sizes:
            raise _refuse("digests", expected="an algorithm that the header declares", found=f"{identifier:#06x} in event {number}")
        bank = _bank(identifier)
        if bank in digests:
            raise _refuse("digests", expected="one digest per bank", found=f"{bank} twice in event {number}")
        digests[bank] = reader.take(sizes[identifier], f"{bank} digest")
    data = reader.take(_size(reader, "event size"), "event data")
    return LogEvent(number, register, kind, digests, data)


def _spec_id(event: LogEvent) -> tuple[Header, tuple[tuple[int, int], ...]]:
    reader = Reader(event.data, WHAT + ".header")
    reader.take(16, "signature")
    platform_class, minor, major, errata = reader.u32("platform class"), reader.u8("minor"), reader.u8("major"), reader.u8("errata")
    uintn_size = reader.u8("UINTN size")
    count = reader.u32("number of algorithms")
    if not 1 <= count <= MAX_ALGORITHMS:
        raise _refuse("header", expected=f"1 to {MAX_ALGORITHMS} algorithms", found=f"{count}")
    algorithms: list[tuple[int, int]] = []
    for _ in range(count):
        identifier, size = reader.u16("algorithm"), reader.u16("digest size")
        known = ALGORITHMS.get(identifier)
        if identifier in dict(algorithms) or not 1 <= size <= 64 or (known and known[1] != size):
            raise _refuse("header", expected="distinct algorithms with their digest sizes", found=f"{identifier:#06x} of {size} bytes")
        algorithms.append((identifier, size))
    vendor = reader.take(reader.u8("vendor size"), "vendor information")
    reader.end()
    return Header(event.register, platform_class, (major, minor, errata), uintn_size, vendor), tuple(algorithms)


def _legacy_spec_id(event: LogEvent) -> Header:
    reader = Reader(event.data, WHAT + ".header")
    reader.take(16, "signature")
    platform_class, minor, major, errata = reader.u32("platform class"), reader.u8("minor"), reader.u8("major"), reader.u8("errata")
    uintn_size = reader.u8("UINTN size")
    vendor = reader.take(reader.u8("vendor size"), "vendor information")
    reader.end()
    return Header(event.register, platform_class, (major, minor, errata), uintn_size, vendor)


def _kind_by_content(events: list[LogEvent], sizes: Mapping[int, int]) -> RegisterKind:
    indices = {event.register for event in events if event.type != EV_NO_ACTION}
    return "rtmr" if tuple(sizes) == (0x000C,) and indices and indices <= {1, 2, 3, 4} else "pcr"


def _refuse_registers(log: TcgLog) -> None:
    """Indices beyond what exists; a no-action event may carry ffffffff (PFP 10.4.5)."""
    highest = 4 if log.registers == "rtmr" else MAX_REGISTER
    for event in log.events:
        if event.register > highest and not (event.type == EV_NO_ACTION and event.register == 0xFFFFFFFF):
            raise _refuse("register", expected=f"an index up to {highest} in event {event.number}", found=f"{event.register:#x}")


def serialize(log: TcgLog) -> bytes:
    """The wire form, built from the fields; equals `log.raw`."""
    parts: list[bytes] = []
    agile = log.format == "crypto-agile"
    if log.header is not None:
        data = _serialize_header(log, agile=agile)
        parts.append(
            log.header.register.to_bytes(4, "little")
            + EV_NO_ACTION.to_bytes(4, "little")
            + _legacy_header_digest(log)
            + len(data).to_bytes(4, "little")
            + data
        )
    identifiers = {_bank(identifier): identifier for identifier, _ in log.algorithms}
    for event in log.events:
        parts.append(event.register.to_bytes(4, "little") + event.type.to_bytes(4, "little"))
        if agile:
            parts.append(len(event.digests).to_bytes(4, "little"))
            parts.extend(identifiers[bank].to_bytes(2, "little") + digest for bank, digest in event.digests.items())
        else:
            parts.append(event.digests["sha1"])
        parts.append(len(event.data).to_bytes(4, "little") + event.data)
    return b"".join(parts) + log.padding


def _legacy_header_digest(log: TcgLog) -> bytes:
    return log.raw[8:28] if log.format == "sha1-legacy" else bytes(20)


def _serialize_header(log: TcgLog, *, agile: bool) -> bytes:
    header = log.header
    if header is None:
        return b""
    major, minor, errata = header.version
    signature = AGILE_SIGNATURE if agile else log.raw[32:48]
    fixed = signature + header.platform_class.to_bytes(4, "little") + bytes((minor, major, errata, header.uintn_size))
    table = b"".join(identifier.to_bytes(2, "little") + size.to_bytes(2, "little") for identifier, size in log.algorithms)
    declared = len(log.algorithms).to_bytes(4, "little") + table if agile else b""
    return fixed + declared + bytes((len(header.vendor),)) + header.vendor
