"""Questions of whoever may reach this machine, taken in and answered a piece at a time: a slow peer keeps nobody else waiting.

One thread, and `PLACES` connections at the most. A peer has `PATIENCE` seconds to send its request, and again to take the answer; where
every place is taken, the connection that is there longest makes room.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from evident.errors import Malformed
from evident.guest.http import parse_request

PLACES = 16
PATIENCE = 10.0
REQUEST_LIMIT = 4096
Answer = Callable[[bytes], tuple[int, bytes]]
"""From whatever came as a request to status and body."""


class _Peer:
    """One connection: its request as far as it came, then what is left of the answer."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.deadline = time.monotonic() + PATIENCE
        self.answer = memoryview(b"")
        self._request = bytearray()

    def advance(self, answer: Answer) -> bool:
        """Take or send what can be now; whether that was the last of it. Raises `OSError`."""
        if self.answer:
            self.answer = self.answer[self.stream.send(self.answer) :]
            return not self.answer
        chunk = self.stream.recv(REQUEST_LIMIT)
        self._request += chunk
        request = bytes(self._request)
        if not chunk or len(request) > REQUEST_LIMIT or _whole(request):
            self.answer = memoryview(_response(*answer(request)))
            self.deadline = time.monotonic() + PATIENCE
        return False


class Listener:
    """Serves whoever connects to `stream`; `turn` has to be called again and again."""

    def __init__(self, stream: socket.socket, answer: Answer) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._answer = answer
        self._peers: list[_Peer] = []
        """The one that is there longest first."""

    def turn(self, seconds: float) -> None:
        """Wait so long for something to do, and do it."""
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        for peer in self._peers:
            poll.register(peer.stream, select.POLLOUT if peer.answer else select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
        for peer in [each for each in self._peers if each.stream.fileno() in ready]:
            self._serve(peer)
        if self._stream.fileno() in ready:
            self._welcome()
        for peer in [each for each in self._peers if time.monotonic() > each.deadline]:
            self._leave(peer)

    def _welcome(self) -> None:
        with suppress(OSError):  # gone again
            stream, _ = self._stream.accept()
            stream.setblocking(False)
            if len(self._peers) == PLACES:
                self._leave(self._peers[0])
            self._peers.append(_Peer(stream))

    def _serve(self, peer: _Peer) -> None:
        try:
            over = peer.advance(self._answer)
        except OSError:  # it broke off: the peer's affair
            over = True
        if over:
            self._leave(peer)

    def _leave(self, peer: _Peer) -> None:
        self._peers.remove(peer)
        peer.stream.close()


def _whole(request: bytes) -> bool:
    with suppress(Malformed):
        parse_request(request)
        return True
    return False


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + body
