"""QEMU's machine protocol, as much of it as starting, watching and stopping a machine takes.

Source: QEMU's qmp-spec: one JSON object per line; a greeting, `qmp_capabilities`, then commands, among whose answers events may stand.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from evident.errors import UsageError
from evident.platforms.qemu import vm

_LINE_LIMIT: Final = 1 << 20
_FORWARDED = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


def connect_unix(path: Path, timeout: float) -> socket.socket:
    """A stream connected to the Unix socket `path`, which may be longer than an address can be (108 bytes)."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = -1
    try:
        stream.settimeout(timeout)
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        stream.connect(f"/proc/self/fd/{directory}/{path.name}")
    except OSError:
        stream.close()
        raise
    finally:
        if directory >= 0:
            os.close(directory)
    return stream


class Monitor:
    """One conversation."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self.lines = stream.makefile("rb")
        """Keeps the connection as long as it is open, and QEMU talks to one at a time."""

    def command(self, name: str, **arguments: Any) -> Any:
        """What QEMU returns; events before it are passed over. Raises `UsageError` ``qemu.monitor``."""
        try:
            self._stream.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise _broken(name, error.strerror or type(error).__name__) from None
        while True:
            message = self.read(name)
            if "error" in message:
                raise _broken(name, str(message["error"].get("desc", message["error"])))
            if "return" in message:
                return message["return"]

    def read(self, what: str) -> dict[str, Any]:
        """The next message."""
        try:
            line = self.lines.readline(_LINE_LIMIT)
            message = json.loads(line)
        except (OSError, ValueError) as error:
            raise _broken(what, str(error) or type(error).__name__) from None
        if not isinstance(message, dict):
            raise _broken(what, "no JSON object")
        return message

    def forwarded(self) -> dict[int, int]:
        """Port of the guest to the port of 127.0.0.1 that reaches it."""
        text = self.command("human-monitor-command", **{"command-line": "info usernet"})
        return {int(guest): int(host) for host, guest in _FORWARDED.findall(str(text))}


@contextmanager
def monitor(machine: Path, *, timeout: float = 5.0) -> Iterator[Monitor]:
    """Talk to the QEMU of `machine`; it takes one at a time. Raises `UsageError` ``qemu.monitor``."""
    try:
        stream = _connect_when_listening(machine / vm.QMP_SOCKET, timeout)
    except OSError as error:
        raise _broken("connect", error.strerror or type(error).__name__) from None
    with stream:
        talk = Monitor(stream)
        with talk.lines:
            talk.read("greeting")
            talk.command("qmp_capabilities")
            yield talk


def _connect_when_listening(path: Path, timeout: float) -> socket.socket:
    """A socket's file is there from bind on, but connections are refused until listen: QEMU starts up in between."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect_unix(path, timeout)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _broken(what: str, found: str) -> UsageError:
    return UsageError.of(
        "qemu.monitor",
        expected=f"QEMU to answer {what!r}",
        found=found,
        remedy="Look at `evident status`; `evident down` removes a machine whose QEMU has ended.",
    )
