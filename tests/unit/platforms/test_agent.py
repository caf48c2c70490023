"""What answers at a machine's address is nobody in particular: it cannot keep the asker for ever, nor write on its terminal."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from evident.cli import main
from evident.errors import EvidentError
from evident.platforms import agent

Answer = Callable[[socket.socket], None]
Serve = Callable[[Answer], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Has every connection answered in this way; gives the port."""
    listeners: list[socket.socket] = []

    def start(answer: Answer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            while True:
                try:
                    stream, _ = listener.accept()
                    with stream:
                        stream.recv(65536)
                        answer(stream)
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        port: int = listener.getsockname()[1]
        return port

    yield start
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 -\r\nContent-Length: 4000000\r\n\r\n", b""], ids=["body", "head"])
def test_an_answer_in_drops_has_a_deadline(serve: Serve, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    ended = threading.Event()

    def drip(stream: socket.socket) -> None:
        stream.sendall(head)
        while not ended.wait(0.05):
            stream.sendall(b" ")

    monkeypatch.setattr(agent, "TIMEOUT", 0.4)
    port, began = serve(drip), time.monotonic()
    caught: list[EvidentError] = []

    def ask() -> None:
        try:
            agent.post("127.0.0.1", port, "/v1/attest", b"{}")
        except EvidentError as error:
            caught.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    ended.set()
    assert [error.code for error in caught] == ["agent.unreachable"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 500 -\r\nContent-Length: 9\r\n\r\n\x1b[2J\x1b]0;x", b"\x1b[2J\x1b]0;x\r\n\r\n"], ids=["body", "head"]
)
def test_an_answer_steers_no_terminal(serve: Serve, capsys: pytest.CaptureFixture[str], answer: bytes) -> None:
    port = serve(lambda stream: stream.sendall(answer))
    with pytest.raises(EvidentError) as refused:
        agent.post("127.0.0.1", port, "/v1/attest", b"{}")
    main._report(refused.value, "text")
    told = capsys.readouterr().err
    assert "agent.unreachable" in told
    assert "\x1b" not in told
    assert "\\u001b[2J" in told
