"""Carries one connection of the guest's to the key server or spire-server: QEMU starts it for each, which is its standard streams.

    python -I -S relay.py FILE

FILE holds the address where that listens now, as ADDRESS:PORT, or as a port of 127.0.0.1; it may be another after a restart, and is waited
for: a machine may ask before its key server has started. Standard library alone, for it is started often.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

PATIENCE = 45.0
"""Seconds to wait for FILE: less than a guest waits for its answer."""


def argv(python: str, port_file: str) -> tuple[str, ...]:
    """Its command line, run in the machine's directory."""
    return (python, "-I", "-S", str(Path(__file__).resolve()), port_file)


def carry(address: tuple[str, int], source: IO[bytes], sink: IO[bytes]) -> None:
    """Copy both ways until both are done."""
    with socket.create_connection(address, timeout=10) as stream:
        stream.settimeout(None)
        outward = threading.Thread(target=_outward, args=(source, stream), daemon=True)
        outward.start()
        while chunk := stream.recv(65536):
            sink.write(chunk)
            sink.flush()


def address_in(file: Path, *, patience: float = PATIENCE) -> tuple[str, int]:
    """The address that FILE names, once it does. Raises `OSError` when it stays away."""
    deadline = time.monotonic() + patience
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    host, _, port = file.read_text().rpartition(":")
    return host or "127.0.0.1", int(port)


def _outward(source: IO[bytes], stream: socket.socket) -> None:
    with suppress(OSError):  # the verifier may have said all it wants to
        while chunk := source.read(65536):
            stream.sendall(chunk)
        stream.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    for descriptor in (0, 1):
        os.set_blocking(descriptor, True)  # QEMU hands over a socket that it has connected without waiting
    with open(0, "rb", buffering=0, closefd=False) as own_input:
        carry(address_in(Path(sys.argv[1])), own_input, sys.stdout.buffer)
