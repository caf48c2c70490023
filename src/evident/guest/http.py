"""One JSON message over HTTP/1.1 (RFC 9112) to a server by address: enough for `evident.keys.messages`, and bounded.

A connection for every message: a boot sends four at the most. No redirects, no chunks, no names to resolve.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from evident.errors import Indeterminate, Malformed

HEAD_LIMIT = 16 * 1024
BODY_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server listens. `timeout`: seconds for a whole exchange."""

    host: str
    port: int
    timeout: float = 60.0
    secured: Callable[[socket.socket], socket.socket] = lambda stream: stream
    """What a new connection goes through first, such as TLS; takes it over."""

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; `Indeterminate` ``guest.server.unreachable``, `Malformed` ``guest.http``."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        deadline = time.monotonic() + self.timeout
        try:
            with self.secured(socket.create_connection((self.host, self.port), self.timeout)) as stream:
                stream.settimeout(_left(deadline))
                stream.sendall(head.encode("ascii") + body)
                return parse_response(_read(stream, deadline))
        except OSError as error:
            raise Indeterminate.of(
                "guest.server.unreachable",
                expected=f"an answer from {self.host}:{self.port}",
                found=error.strerror or type(error).__name__,
                remedy="Start the key server where the command line says it is (evident.verifier), and let the guest reach it.",
                layer="storage",
            ) from None


def _read(stream: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while len(received) <= HEAD_LIMIT + BODY_LIMIT:
        stream.settimeout(_left(deadline))
        chunk = stream.recv(65536)
        if not chunk:
            return bytes(received)
        received += chunk
    raise _malformed(f"at most {HEAD_LIMIT + BODY_LIMIT} bytes", "more")


def _left(deadline: float) -> float:
    """Seconds until then; raises `TimeoutError` where there are none: who always sends a little is not waited for either."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def parse_response(data: bytes) -> tuple[int, bytes]:
    """Status and body of a whole response; raises `Malformed`."""
    line, body = _message(data)
    words = line.split(b" ", 2)
    if len(words) < 2 or words[0] != b"HTTP/1.1" or len(words[1]) != 3 or not words[1].isdigit():
        raise _malformed("an HTTP/1.1 status line", repr(line[:60]))
    return int(words[1]), body


def parse_request(data: bytes) -> tuple[str, bytes]:
    """Path and body of a whole POST request; raises `Malformed`."""
    line, body = _message(data)
    words = line.split(b" ")
    if len(words) != 3 or words[0] != b"POST" or words[2] != b"HTTP/1.1" or not words[1].isascii():
        raise _malformed("POST PATH HTTP/1.1", repr(line[:60]))
    return words[1].decode("ascii"), body


def _message(data: bytes) -> tuple[bytes, bytes]:
    """First line and body of a message whose length is told once, and right."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or len(head) > HEAD_LIMIT:
        raise _malformed("a whole message", f"{len(data)} bytes")
    lines = head.split(b"\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
    lengths = [value for name, value in fields if name == b"content-length"]
    if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 9 or int(lengths[0]) != len(body):
        raise _malformed("one Content-Length, and so many bytes", f"{lengths}, {len(body)} bytes"[:80])
    if any(name == b"transfer-encoding" for name, _ in fields):
        raise _malformed("no transfer coding", "one")
    return lines[0], body


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(
        "guest.http",
        expected=expected,
        found=found,
        remedy="Something else speaks at this address: correct evident.verifier.",
    )
