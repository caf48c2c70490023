"""The simulator's channel: a host process plays the secure processor, and the evidence says so by its TEST root."""

from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path

from evident.errors import EvidentError
from evident.evidence import sp_channel
from evident.evidence.sp_channel import Reply, Request
from evident.guest.source import Evidence, Question, absent

NAME = "simulated"
PORTS, DEVICES = Path("/sys/class/virtio-ports"), Path("/dev")
PATIENCE = 60.0
"""Seconds to wait for the host's process to attach and answer; emulated machines are slow."""
_PAUSE = 0.05


class SimulatedProcessor:
    """The guest's end of the channel; opened for every question, for it is exclusive."""

    def __init__(self, device: Path | None = None, *, patience: float = PATIENCE) -> None:
        self._device = device
        self._patience = patience

    @property
    def name(self) -> str:
        return NAME

    def collect(self, question: Question) -> Evidence:
        reply = self._ask(Request(_fresh_id(), "report", report_data=question.report_data))
        pieces = {"report": (reply.report,), "key": (question.spki,)}
        pieces |= {role: (value,) for role, value in (("auxblob", reply.auxblob), ("launch", reply.launch)) if value}
        return Evidence("snp", pieces, NAME)

    def derive_key(self, fields: int, *, guest_svn: int = 0) -> bytes:
        """MSG_KEY_REQ: 32 bytes that follow from chip, launch and the selected `fields`."""
        return self._ask(Request(_fresh_id(), "derive-key", fields=fields, guest_svn=guest_svn)).key

    def _ask(self, request: Request) -> Reply:
        device, deadline = self._device or port(), time.monotonic() + self._patience
        descriptor = _opened(device, deadline)
        try:
            line = _Port(descriptor, deadline)
            line.write(sp_channel.serialize(request))
            while True:  # an answer to a question of somebody who gave up may still lie in the channel
                reply = sp_channel.parse_reply(sp_channel.read_frame(line.read))
                if reply.id in (request.id, 0):
                    break
        except OSError as error:
            raise absent(NAME, "an answer on the channel", error.strerror or type(error).__name__) from None
        finally:
            os.close(descriptor)
        if reply.error or (request.op == "report") != bool(reply.report):
            raise absent(NAME, f"an answer to {request.op!r}", reply.error or "an answer to another question")
        return reply


def port(ports: Path = PORTS, devices: Path = DEVICES, *, patience: float = 5.0) -> Path:
    """The device of the port with our name, as the kernel lists them (no udev makes links here); waits for its driver."""
    deadline = time.monotonic() + patience
    while True:
        for entry in sorted(ports.iterdir()) if ports.exists() else ():
            if (entry / "name").exists() and (entry / "name").read_text().strip() == sp_channel.PORT:
                return devices / entry.name
        if time.monotonic() >= deadline:
            raise absent(NAME, f"a virtio-serial port named {sp_channel.PORT}", "none")
        time.sleep(_PAUSE)


def _opened(device: Path, deadline: float) -> int:
    """Waits while another process of this machine has it."""
    while True:
        try:
            return os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                raise absent(NAME, f"the channel {device}", error.strerror or type(error).__name__) from None
        time.sleep(_PAUSE)


def _fresh_id() -> int:
    return int.from_bytes(os.urandom(4), "big") or 1


class _Port:
    """Whole reads and writes on a non-blocking descriptor, until the deadline (of `time.monotonic`)."""

    def __init__(self, descriptor: int, deadline: float) -> None:
        self._descriptor = descriptor
        self._deadline = deadline

    def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def read(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            try:
                chunk = os.read(self._descriptor, count - len(received))
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            if not chunk:  # no process at the host's end yet, or no longer
                time.sleep(_PAUSE)
                self._wait(0)
            received += chunk
        return bytes(received)

    def _wait(self, event: int) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._silent()
        poll = select.poll()
        poll.register(self._descriptor, event)
        ready = poll.poll(min(left, 1.0) * 1000 if event else 0)
        if event and ready and not ready[0][1] & event:  # hung up: the host may still come
            time.sleep(_PAUSE)

    def _silent(self) -> EvidentError:
        return absent(NAME, "a process at the host's end of the channel", "no answer in time")
