"""The driver for Vault-like stores against a small fake on loopback that asserts every request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from evident.errors import EvidentError, Indeterminate, NotAuthentic, PolicyRefused, UsageError
from evident.keys.secrets import BYTES
from evident.keys.store import Held, RootVolume
from evident.keys.vault import VaultPlace, VaultSecrets

DISK = "11111111-2222-3333-4444-555555555555"
VOLUME = RootVolume(1, DISK, "image")
TOKEN = "hvs.a token"
PATH = f"/v1/kv/data/evident/disks/{DISK}"


class Fake(HTTPServer):
    """KV version 2: what the API's documentation says of these three requests, and nothing else."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stored: dict[str, Any] = {}
        self.seen: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.answer: tuple[int, bytes] | None = None


class _Handler(BaseHTTPRequestHandler):
    server: Fake

    def _handle(self) -> None:
        server, body = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.seen.append((self.command, self.path))
        expected = {"X-Vault-Token": TOKEN, "X-Vault-Request": "true", "X-Vault-Namespace": "team"}
        server.problems += [f"{name}: {self.headers[name]}" for name, value in expected.items() if self.headers[name] != value]
        status, answer = 404, b'{"errors":[]}'
        if server.answer is not None:
            status, answer = server.answer
        elif self.command == "POST" and self.path == PATH:
            document = json.loads(body)
            server.problems += [] if self.headers["Content-Type"] == "application/json" and set(document) == {"data"} else [repr(document)]
            server.stored[self.path] = document["data"]
            status, answer = 200, b'{"data":{"version":1}}'
        elif self.command == "GET" and self.path in server.stored:
            status, answer = 200, json.dumps({"data": {"data": server.stored[self.path], "metadata": {"version": 1}}}).encode()
        elif self.command == "DELETE" and self.path == PATH.replace("/data/", "/metadata/"):
            server.stored.clear()
            status, answer = 204, b""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - names that http.server calls

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)
    assert not server.problems


@pytest.fixture
def secrets(fake: Fake) -> VaultSecrets:
    return VaultSecrets(VaultPlace(f"http://127.0.0.1:{fake.server_address[1]}", "kv", namespace="team"), lambda: TOKEN)


def test_a_key_is_kept_given_and_removed(fake: Fake, secrets: VaultSecrets) -> None:
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    held = Held(b"k" * 64, {"db": b"x" * BYTES})
    secrets.put(VOLUME, held)
    assert secrets.get(VOLUME) == held
    secrets.delete(DISK)
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    metadata = PATH.replace("/data/", "/metadata/")
    assert fake.seen == [("GET", PATH), ("POST", PATH), ("GET", PATH), ("DELETE", metadata), ("GET", PATH)]


def test_changed_terms_are_noticed(secrets: VaultSecrets) -> None:
    secrets.put(VOLUME, Held(b"k" * 64))
    with pytest.raises(NotAuthentic, match=r"keys\.store\.altered"):
        secrets.get(RootVolume(1, DISK, "image", nominal=0))


@pytest.mark.parametrize(
    "answer",
    [
        (403, b'{"errors":["permission denied"]}'),
        (503, b'{"errors":["Vault is sealed"]}'),
        (302, b""),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"data":{"data":{"evident":7}}}'),
        (200, b"x" * 300_000),
    ],
)
def test_whatever_else_it_says_releases_nothing(fake: Fake, secrets: VaultSecrets, answer: tuple[int, bytes]) -> None:
    fake.answer = answer
    with pytest.raises(Indeterminate, match=r"keys\.vault") as caught:
        secrets.get(VOLUME)
    assert TOKEN not in str(caught.value)
    assert ("GET", "/elsewhere") not in fake.seen, "no redirect is followed"


@pytest.mark.parametrize(
    "text", [b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["cut off", "no HTTP"]
)
def test_an_answer_that_breaks_off_or_is_none_releases_nothing(text: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.recv(65536)
                stream.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        store = VaultSecrets(VaultPlace(f"http://127.0.0.1:{listener.getsockname()[1]}"), lambda: TOKEN)
        with pytest.raises(Indeterminate, match=r"keys\.vault"):
            store.get(VOLUME)


def test_a_store_that_is_not_there_releases_nothing() -> None:
    with pytest.raises(Indeterminate):
        VaultSecrets(VaultPlace("http://127.0.0.1:1"), lambda: TOKEN).get(VOLUME)


@pytest.mark.parametrize("url", ["http://vault.example:8200", "ftp://127.0.0.1", "https://", "https://vault.example/?x=1"])
def test_tokens_do_not_travel_in_the_clear(url: str) -> None:
    with pytest.raises(UsageError, match=r"keys\.vault\.url"):
        VaultPlace(url)


def test_any_text_in_the_secret(fake: Fake, secrets: VaultSecrets) -> None:
    for text in ("", "{}", '{"version":2}', "\x00", '{"version":1,"key":"zz","terms":""}'):
        fake.answer = (200, json.dumps({"data": {"data": {"evident": text}}}).encode())
        with pytest.raises(EvidentError):
            secrets.get(VOLUME)
