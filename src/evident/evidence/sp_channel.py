"""Frames and messages between a guest and a secure processor that a host process plays (Evident's own protocol, simulation only).

The channel is a virtio-serial port named ``org.evident.sp.0`` (in the guest the ``/dev/vportNpM`` whose ``name`` in
``/sys/class/virtio-ports`` says so, at the host a Unix socket), or any other pair of byte streams. Both directions carry frames: a length
(u32, big endian, 1 to `FRAME_LIMIT`), then so many bytes of JSON in UTF-8. The guest asks, the host answers in order, and the answer
repeats the question's `id`:

    {"id": 7, "op": "report", "report_data": "<128 hex digits>", "vmpl": 0}
    {"id": 7, "report": "<hex>", "auxblob": "<hex>", "launch": "<hex>"}
    {"id": 8, "op": "derive-key", "fields": 9, "vmpl": 0, "guest_svn": 0}
    {"id": 8, "key": "<64 hex digits>"}
    {"id": 9, "error": "simulator.sp.report"}

``fields`` is GUEST_FIELD_SELECT of MSG_KEY_REQ (AMD publication 56860, table "MSG_KEY_REQ"); ``launch`` is what the host says it
launched, which nobody believes before it reproduces the measurement. Nothing here is secret or protected: the host is the processor.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from evident import codec
from evident.errors import Malformed

WHAT = "sp-channel"
PORT: Final = "org.evident.sp.0"
FRAME_LIMIT: Final = 256 * 1024
REPORT_DATA_BYTES: Final = 64
KEY_BYTES: Final = 32
_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Request:
    """What the guest asks for."""

    id: int
    op: Literal["report", "derive-key"]
    report_data: bytes = b""
    vmpl: int = 0
    fields: int = 0
    guest_svn: int = 0

    def __post_init__(self) -> None:
        wanted = REPORT_DATA_BYTES if self.op == "report" else 0
        if len(self.report_data) != wanted:
            raise _malformed("report-data", f"{wanted} bytes of report data for {self.op!r}", f"{len(self.report_data)} bytes")
        if not 0 <= self.id < 1 << 32:
            raise _malformed("id", "an id of 32 bits", str(self.id))
        if not (0 <= self.vmpl <= 3 and 0 <= self.fields < 1 << 7 and 0 <= self.guest_svn < 1 << 32):
            raise _malformed("request", "VMPL 0-3, fields below 128, SVN of 32 bits", f"{self.vmpl}, {self.fields}, {self.guest_svn}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the host answers: a report, a key, or the code of an error."""

    id: int
    report: bytes = b""
    auxblob: bytes = b""
    launch: bytes = b""
    key: bytes = b""
    error: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.report, self.key, self.error))) != 1 or (self.report == b"" and (self.auxblob or self.launch)):
            raise _malformed("reply", "a report, a key, or an error", "none or several of them")
        if len(self.key) not in (0, KEY_BYTES):
            raise _malformed("reply", f"a key of {KEY_BYTES} bytes", f"{len(self.key)}")


def serialize(message: Request | Reply) -> bytes:
    """The frame that carries `message`."""
    payload = json.dumps(codec.encode(message), sort_keys=True, separators=(",", ":")).encode()
    if len(payload) > FRAME_LIMIT:
        raise _malformed("frame", f"at most {FRAME_LIMIT} bytes", str(len(payload)))
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


def read_frame(read: Callable[[int], bytes]) -> bytes:
    """The next frame's payload. `read(n)` gives exactly n bytes or raises an error of its own."""
    length = int.from_bytes(read(_LENGTH_BYTES), "big")
    if not 0 < length <= FRAME_LIMIT:
        raise _malformed("frame", f"a frame of 1 to {FRAME_LIMIT} bytes", str(length))
    return read(length)


def parse_request(payload: bytes) -> Request:
    """One request; raises `Malformed`."""
    return codec.decode(Request, codec.loads(payload, WHAT, limit=FRAME_LIMIT), WHAT)


def parse_reply(payload: bytes) -> Reply:
    """One reply; raises `Malformed`."""
    return codec.decode(Reply, codec.loads(payload, WHAT, limit=FRAME_LIMIT), WHAT)


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Restart the machine: its two ends speak different versions."
    )
