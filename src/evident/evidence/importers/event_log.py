"""Event logs as machines hand them out: binary (TPM or CCEL), or the JSON array that dstack keeps of all four RTMRs.

Source: dstack ``cc-eventlog`` (members ``imr``, ``event_type``, ``digest``, ``event``, ``event_payload``; run-time events have the type
0x08000001 and the digest SHA-384(type, little endian || ":" || event || ":" || payload)), and its quote report, which holds the array as a
string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evident import codec
from evident.errors import Malformed
from evident.evidence import tcg_log
from evident.evidence.tcg_events import EV_RUNTIME
from evident.evidence.tcg_log import LogEvent, RegisterKind, TcgLog

WHAT = "event-log"
SHA384 = 0x000C


@dataclass(frozen=True, slots=True)
class _Event:
    imr: int
    event_type: int
    digest: bytes
    event: str
    event_payload: bytes


def read(raw: bytes, *, registers: RegisterKind | None = None) -> TcgLog:
    """A log in either form, told by content. Raises `Malformed` (``tcg.log.*``, ``event-log.*``) and `Unsupported` (``tcg.log.bank``)."""
    if raw.lstrip()[:1] not in (b"[", b"{"):
        return tcg_log.parse(raw, registers=registers)
    value = codec.loads(raw, WHAT, limit=tcg_log.MAX_LOG_BYTES)
    if isinstance(value, dict):
        value = value.get("event_log")
    if isinstance(value, str):
        value = codec.loads(value.encode("utf-8", "surrogatepass"), WHAT, limit=tcg_log.MAX_LOG_BYTES)
    return _from_json(value, raw)


def _from_json(value: Any, raw: bytes) -> TcgLog:
    listed = codec.decode(tuple[_Event, ...], value, WHAT)
    if not 0 < len(listed) <= tcg_log.MAX_EVENTS:
        raise _refuse("events", f"1 to {tcg_log.MAX_EVENTS} events", str(len(listed)))
    events = tuple(_event(number, item) for number, item in enumerate(listed))
    return TcgLog("crypto-agile", "rtmr", None, ((SHA384, 48),), events, b"", raw)


def _event(number: int, item: _Event) -> LogEvent:
    if not 0 <= item.imr <= 3 or not 0 <= item.event_type < 1 << 32 or len(item.digest) != 48:
        raise _refuse("event", "RTMR 0 to 3, a 32-bit type and a SHA-384 digest", f"event {number}: {item.imr}, {item.event_type:#x}")
    data = item.event_payload
    if item.event_type == EV_RUNTIME:
        data = item.event.encode("utf-8", "surrogatepass") + b":" + data
    return LogEvent(number, item.imr + 1, item.event_type, {"sha384": item.digest}, data)


def _refuse(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy="Collect the log again, as the guest's agent gives it.")
