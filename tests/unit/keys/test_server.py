"""The key server towards machines that nobody trusts: bounded, patient to a point, and the same after anything they send."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
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


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    monkeypatch.setattr(server._Handler, "timeout", 0.4)
    with KeyServer(("127.0.0.1", 0), Service()) as running:  # type: ignore[arg-type]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running.server_address  # type: ignore[misc]
        running.shutdown()
        thread.join(5)


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
