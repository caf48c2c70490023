"""The key server towards machines that nobody trusts: bounded, patient to a point, and the same after anything they send (AT-62)."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evident.errors import PolicyRefused
from evident.keys import messages, server
from evident.keys.messages import ChallengeReply, ChallengeRequest, Refusal, dumps, loads
from evident.keys.server import KeyServer

DISK = "11111111-2222-3333-4444-555555555555"


class Service:
    """A release service that refuses everything but challenges."""

    public_key = b"the server's key"

    def challenge(self, disk: str) -> bytes:
        assert disk == DISK
        return b"n" * 32

    def release(self, _request: Any) -> Any:
        raise PolicyRefused.of("launch.kernel", expected="a", found="secret details", remedy="b")

    confirm = release


Serve = Callable[[], tuple[str, int]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with the bounds as they are then."""
    running: list[tuple[KeyServer, threading.Thread]] = []

    def start() -> tuple[str, int]:
        made = KeyServer(("127.0.0.1", 0), Service(), on_event=events.append)  # type: ignore[arg-type]
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        running.append((made, thread))
        return made.server_address  # type: ignore[return-value]

    events: list[str] = []
    yield start
    for made, thread in running:
        made.shutdown()
        thread.join(5)
        made.server_close()


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> tuple[str, int]:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    monkeypatch.setattr(server._Handler, "timeout", 0.4)
    return serve()


def send(address: tuple[str, int], data: bytes) -> tuple[int, bytes]:
    """Raw bytes in, status and body out."""
    with socket.create_connection(address, 10) as stream:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := stream.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


def post(path: str, body: bytes, *fields: str) -> bytes:
    named = fields or (f"Content-Length: {len(body)}",)
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *named, "", "")).encode() + body


def test_a_challenge_and_the_health_check(address: tuple[str, int]) -> None:
    status, body = send(address, post(messages.CHALLENGE, dumps(ChallengeRequest(1, DISK))))
    assert (status, loads(ChallengeReply, body)) == (200, ChallengeReply(1, b"n" * 32, b"the server's key"))
    assert send(address, f"GET {messages.HEALTH} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())[0] == 200


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (post("/v2/challenge", b"{}"), 404, "keys.path"),
        (b"GET / HTTP/1.1\r\n\r\n", 404, "keys.path"),
        (post(messages.CHALLENGE, b"{}", "X: y"), 411, "keys.message.length"),
        (post(messages.CHALLENGE, b"{}", "Content-Length: +2"), 411, "keys.message.length"),
        (post(messages.CHALLENGE, b"0\r\n\r\n", "Transfer-Encoding: chunked"), 411, "keys.message.length"),
        (post(messages.CHALLENGE, b"{}", f"Content-Length: {messages.LIMIT + 1}"), 413, "keys.message.oversized"),
        (post(messages.CHALLENGE, b"{}", "Content-Length: 100"), 400, "keys.message.length"),
        (post(messages.CHALLENGE, b"\xff\xfe"), 400, "keys.message.json"),
        (post(messages.CHALLENGE, b"[" * 100_000), 400, "keys.message.json"),
        (post(messages.CHALLENGE, b'{"version":1,"disk":"../x"}'), 400, "keys.message.disk"),
        (post(messages.CHALLENGE, b'{"version":1,"version":1,"disk":"x"}'), 400, "keys.message.duplicate-key"),
    ],
)
def test_whatever_is_wrong_has_a_code(address: tuple[str, int], data: bytes, status: int, code: str) -> None:
    found, body = send(address, data)
    assert (found, loads(Refusal, body).codes) == (status, (code,))
    assert send(address, post(messages.CHALLENGE, dumps(ChallengeRequest(1, DISK))))[0] == 200, "and it goes on"


def test_a_denial_tells_codes_alone(address: tuple[str, int]) -> None:
    request = {"version": 1, "disk": DISK, "nonce": "00", "key": "00", "evidence": {}}
    status, body = send(address, post(messages.EVIDENCE, json.dumps(request).encode()))
    assert (status, loads(Refusal, body)) == (403, Refusal(1, "refused", ("launch.kernel",)))
    assert b"secret details" not in body


def test_silent_connections_do_not_hold_the_server(address: tuple[str, int]) -> None:
    idle = [socket.create_connection(address, 10) for _ in range(2)]
    try:
        for stream in idle:
            stream.sendall(b"POST /v1/challenge HTTP/1.1\r\n")
        statuses = {send_or_none(address) for _ in range(40)}
    finally:
        for stream in idle:
            stream.close()
    assert 200 in statuses, "after the deadline their places are free"


def send_or_none(address: tuple[str, int]) -> int | None:
    threading.Event().wait(0.03)
    try:
        return send(address, post(messages.CHALLENGE, dumps(ChallengeRequest(1, DISK))))[0]
    except OSError:
        return None


def status_and_codes(address: tuple[str, int]) -> tuple[int, tuple[str, ...]]:
    status, body = send(address, post(messages.CHALLENGE, dumps(ChallengeRequest(1, DISK))))
    return status, loads(Refusal, body).codes if status != 200 else ()


@pytest.mark.attack("AT-62", "A peer asks the key server without end.", "keys.rate")
@pytest.mark.parametrize("bounded", [False, True])
def test_a_peer_has_so_many_requests(monkeypatch: pytest.MonkeyPatch, serve: Serve, bounded: bool) -> None:
    monkeypatch.setattr(server, "REQUESTS_PER_SECOND", 0.0)
    monkeypatch.setattr(server, "REQUESTS_AT_ONCE", 5 if bounded else math.inf)
    address = serve()
    answers = [status_and_codes(address) for _ in range(8)]
    assert answers == [(200, ())] * (5 if bounded else 8) + [(429, ("keys.rate",))] * (3 if bounded else 0)


@pytest.mark.attack("AT-62", "A peer holds all connections of the key server.", "keys.connections")
@pytest.mark.parametrize("bounded", [False, True])
def test_a_peer_has_so_many_connections(monkeypatch: pytest.MonkeyPatch, serve: Serve, bounded: bool) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_EACH", 2 if bounded else 10**6)
    address = serve()
    held = [socket.create_connection(address, 10) for _ in range(2)]
    # The refused hears of it before it says a word; one that speaks meanwhile may lose the answer to its own reset.
    question = b"" if bounded else post(messages.CHALLENGE, dumps(ChallengeRequest(1, DISK)))
    try:
        status, body = send(address, question)
        assert (status, loads(Refusal, body).codes if bounded else ()) == ((503, ("keys.connections",)) if bounded else (200, ()))
    finally:
        for stream in held:
            stream.close()


@pytest.mark.parametrize("bounded", [False, True])
def test_a_connection_that_is_never_quite_silent_ends_too(monkeypatch: pytest.MonkeyPatch, serve: Serve, bounded: bool) -> None:
    monkeypatch.setattr(server, "DEADLINE", 0.3 if bounded else 60.0)
    with socket.create_connection(serve(), 10) as stream:
        stream.sendall(b"POST /v1/challenge HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        for _ in range(8):
            time.sleep(0.1)
            try:
                stream.sendall(b"x")
            except OSError:
                break
        stream.setblocking(False)
        try:
            ended = stream.recv(1) == b""
        except BlockingIOError:
            ended = False
        except ConnectionError:
            ended = True
    assert ended == bounded


def test_a_connection_that_gets_no_thread_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("socketserver.ThreadingMixIn.process_request", refused)
    with KeyServer(("127.0.0.1", 0), Service()) as made:  # type: ignore[arg-type]
        for _ in range(server.CONNECTIONS + 1):
            with pytest.raises(RuntimeError):
                made.process_request(None, ("192.0.2.1", 1))
