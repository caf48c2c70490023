"""Slow and silent peers keep nobody waiting: neither those that ask the guest, nor the server that it asks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from evident.errors import Indeterminate
from evident.guest import listener
from evident.guest.http import Server
from evident.guest.listener import PLACES, Listener

LARGE = bytes(8 * 1024 * 1024)
HALF = b"POST /half HTTP/1.1\r\nContent-Length: 100\r\n\r\n..."


@pytest.fixture
def port() -> Iterator[int]:
    """A listener that answers with the request's size; with more than any buffer holds where the path says so."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as stream:
        serving = Listener(stream, lambda request: (200, LARGE if b"/large" in request else str(len(request)).encode()))

        def serve() -> None:
            while not stop.is_set():
                serving.turn(0.02)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield stream.getsockname()[1]
        stop.set()
        thread.join(5)
        for peer in list(serving._peers):
            serving._leave(peer)


def connect(port: int, *pieces: bytes) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), 5)
    for piece in pieces:
        stream.sendall(piece)
    return stream


@pytest.mark.parametrize("said", [b"", b"P", HALF], ids=["silent", "one byte", "half a request"])
def test_nobody_waits_for_a_slow_peer(port: int, said: bytes) -> None:
    with connect(port, said):
        assert Server("127.0.0.1", port, 3).post("/", b"{}")[0] == 200


def test_who_does_not_take_an_answer_keeps_nobody_waiting(port: int) -> None:
    with connect(port, b"POST /large HTTP/1.1\r\nContent-Length: 0\r\n\r\n"):
        assert Server("127.0.0.1", port, 3).post("/", b"{}")[0] == 200


def test_a_request_may_come_in_pieces(port: int) -> None:
    with connect(port, *(bytes([byte]) for byte in b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")) as stream:
        assert stream.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_what_is_no_request_is_answered_once_it_cannot_become_one(port: int) -> None:
    with connect(port, b"x" * (listener.REQUEST_LIMIT + 1)) as stream:
        assert stream.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_patience_ends(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PATIENCE", 0.1)
    with connect(port, HALF) as stream:
        assert stream.recv(1) == b"", "hung up on"


def test_more_silent_peers_than_places(port: int) -> None:
    """Without the place that the oldest makes, the next one would wait until their patience is over."""
    silent = [connect(port, HALF) for _ in range(2 * PLACES)]
    assert Server("127.0.0.1", port, 3).post("/", b"{}")[0] == 200
    assert silent[0].recv(1) == b"", "the oldest made room"
    for stream in silent:
        stream.close()


def dripping(stream: socket.socket, stop: threading.Event) -> None:
    connection, _ = stream.accept()
    with connection:
        while not stop.wait(0.001):
            try:
                connection.sendall(b"x")
            except OSError:
                return


def silent(stream: socket.socket, stop: threading.Event) -> None:
    connection, _ = stream.accept()
    with connection:
        stop.wait(10)


@pytest.mark.parametrize("behaviour", [dripping, silent])
def test_a_slow_server_is_given_up(behaviour: Callable[[socket.socket, threading.Event], None]) -> None:
    """A deadline for each byte would let one that always sends a little hold the boot for ever."""
    stop, began = threading.Event(), time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as stream:
        thread = threading.Thread(target=behaviour, args=(stream, stop), daemon=True)
        thread.start()
        with pytest.raises(Indeterminate) as caught:
            Server("127.0.0.1", stream.getsockname()[1], 0.3).post("/", b"x" * 4_000_000)
        stop.set()
        thread.join(5)
    assert caught.value.code == "guest.server.unreachable"
    assert time.monotonic() - began < 5
