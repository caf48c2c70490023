"""/dev/sev-guest: messages to AMD's secure processor by ioctl.

Source: Linux, ``include/uapi/linux/sev-guest.h`` and Documentation/virt/coco/sev-guest.rst; the payloads are those of AMD publication
56860, tables "MSG_REPORT_RSP" (report at 0x20) and "MSG_KEY_RSP" (key at 0x20). The ioctl takes addresses; they are those of arrays
that live as long as the call.
"""

from __future__ import annotations

import fcntl
import os
import struct
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path

from evident.evidence.snp_report import REPORT_BYTES
from evident.guest.source import Evidence, Question, absent, with_key

NAME = "sev-guest"
DEVICE = Path("/dev/sev-guest")
GET_DERIVED_KEY = 0xC0205301
GET_EXT_REPORT = 0xC0205302
"""_IOWR('S', number, 32 bytes)"""
MESSAGE_VERSION = 1
CERTIFICATES_BYTES = 0x4000
"""SEV_FW_BLOB_MAX_SIZE: the largest certificate table that the kernel hands through."""
_RESPONSE_BYTES = 4000
_PAYLOAD_AT = 0x20
_KEY_BYTES = 32
_VMM_ERROR_SHIFT = 32

Ioctl = Callable[[int, int, bytearray], int]


def _ioctl(descriptor: int, number: int, argument: bytearray) -> int:
    result: int = fcntl.ioctl(descriptor, number, argument, True)
    return result


class SevGuest:
    def __init__(self, device: Path = DEVICE, *, ioctl: Ioctl = _ioctl) -> None:
        self._device = device
        self._call = ioctl

    @property
    def name(self) -> str:
        return NAME

    def collect(self, question: Question) -> Evidence:
        return with_key(self.report({"snp": question.report_data}), question)

    def report(self, report_data: Mapping[str, bytes]) -> Evidence:
        """A report over these 64 bytes."""
        certificates = array("B", bytes(CERTIFICATES_BYTES))
        request = struct.pack("<64sI28xQI4x", report_data["snp"], 0, certificates.buffer_info()[0], CERTIFICATES_BYTES)
        response = self._exchange(GET_EXT_REPORT, request, _RESPONSE_BYTES)
        status, size = struct.unpack_from("<II", response)
        if status or size != REPORT_BYTES:
            raise absent(NAME, f"a report of {REPORT_BYTES} bytes", f"status {status:#x}, {size} bytes")
        pieces = {"report": (response[_PAYLOAD_AT : _PAYLOAD_AT + size],)}
        table = certificates.tobytes()
        if table.strip(b"\0"):
            pieces["auxblob"] = (table,)
        return Evidence("snp", pieces, NAME)

    def derive_key(self, fields: int, *, guest_svn: int = 0) -> bytes:
        """MSG_KEY_REQ at VMPL 0 on the chip's root: 32 bytes that follow from chip, launch and the selected `fields`."""
        request = struct.pack("<IIQIIQ", 0, 0, fields, 0, guest_svn, 0)
        response = self._exchange(GET_DERIVED_KEY, request, 64)
        (status,) = struct.unpack_from("<I", response)
        key = response[_PAYLOAD_AT : _PAYLOAD_AT + _KEY_BYTES]
        if status or not key.strip(b"\0"):
            raise absent(NAME, "a derived key", f"status {status:#x}")
        return key

    def _exchange(self, number: int, request: bytes, response_bytes: int) -> bytes:
        asked, answered = array("B", request), array("B", bytes(response_bytes))
        argument = bytearray(struct.pack("<B7xQQQ", MESSAGE_VERSION, asked.buffer_info()[0], answered.buffer_info()[0], 0))
        try:
            descriptor = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise absent(NAME, f"the device {self._device}", error.strerror or type(error).__name__) from None
        try:
            self._call(descriptor, number, argument)
        except OSError as error:
            (problem,) = struct.unpack_from("<Q", argument, 24)
            found = f"{error.strerror} (firmware {problem & 0xFFFFFFFF:#x}, hypervisor {problem >> _VMM_ERROR_SHIFT:#x})"
            raise absent(NAME, "an answer of the secure processor", found) from None
        finally:
            os.close(descriptor)
        return answered.tobytes()
