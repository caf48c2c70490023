"""The driver for Vault-like stores against a small fake on loopback that asserts every request."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from evident.errors import EvidentError, Indeterminate, NotAuthentic, PolicyRefused, UsageError
from evident.keys import vault
from evident.keys.secrets import BYTES
from evident.keys.store import Held, RootVolume
from evident.keys.vault import VaultPlace, VaultSecrets

DISK = "11111111-2222-3333-4444-555555555555"
VOLUME = RootVolume(1, DISK, "image")
TOKEN = "hvs.a-token"
PATH = f"/v1/kv/data/evident/disks/{DISK}"
METADATA = f"/v1/kv/metadata/evident/disks/{DISK}"


class Fake(HTTPServer):
    """KV version 2: what the API's documentation says of these three requests, and nothing else. `versions` of one secret at a time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.versions: list[Any] = []
        self.seen: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.answer: tuple[int, bytes] | None = None
        self.namespace: str | None = "team"
        self.shown = b""

    def reply(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        newest = len(self.versions)
        if method == "POST" and path == PATH:
            document = json.loads(body)
            self.problems += [] if set(document) == {"data", "options"} else [repr(document)]
            if document["options"]["cas"] != newest:
                return 400, {"errors": ["check-and-set parameter did not match the current version"]}
            self.versions.append(document["data"])
            return 200, {"data": {"version": newest + 1}}
        if method == "GET" and path == PATH:
            if not self.versions:
                return 404, {"errors": []}
            found = {"data": {"data": self.versions[-1], "metadata": {"version": newest}}}
            return (404 if self.versions[-1] is None else 200), found
        if method == "DELETE" and path == METADATA:
            self.versions.clear()
            return 204, None
        if method == "POST" and path == "/v1/auth/certs/login" and json.loads(body) == {"name": "evident"} and self.shown:
            return 200, {"auth": {"client_token": TOKEN, "lease_duration": 60, "renewable": False}}
        return 404, {"errors": ["no handler for route"]}


class _Handler(BaseHTTPRequestHandler):
    server: Fake

    def _handle(self) -> None:
        server, body = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.seen.append((self.command, self.path))
        if isinstance(self.connection, ssl.SSLSocket):
            server.shown = self.connection.getpeercert(binary_form=True) or b""
        token = None if self.path.startswith("/v1/auth/") else TOKEN
        expected = {"X-Vault-Token": token, "X-Vault-Request": "true", "X-Vault-Namespace": server.namespace}
        server.problems += [f"{name}: {self.headers[name]}" for name, value in expected.items() if self.headers[name] != value]
        if body and self.headers["Content-Type"] != "application/json":
            server.problems.append(f"type {self.headers['Content-Type']}")
        if server.answer is not None:
            status, answer = server.answer
        else:
            status, document = server.reply(self.command, self.path, body)
            answer = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - names that http.server calls

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def faking(tls: ssl.SSLContext | None = None) -> Iterator[Fake]:
    """A fake that answers, over TLS with a context; whatever was wrong with a request is raised at the end."""
    with Fake() as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)
    assert not server.problems


@pytest.fixture
def fake() -> Iterator[Fake]:
    with faking() as server:
        yield server


def driver(server: Fake) -> VaultSecrets:
    return VaultSecrets(place(server.server_address[1]), lambda: TOKEN)


def place(port: int) -> VaultPlace:
    return VaultPlace(f"http://127.0.0.1:{port}", "kv", "evident/disks", "team")


@pytest.fixture
def secrets(fake: Fake) -> VaultSecrets:
    return driver(fake)


def test_a_key_is_kept_given_and_removed(fake: Fake, secrets: VaultSecrets) -> None:
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    held = Held(b"k" * 64, {"db": b"x" * BYTES})
    secrets.put(VOLUME, held)
    assert secrets.get(VOLUME) == held
    secrets.delete(DISK)
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    assert fake.seen == [("GET", PATH), ("GET", PATH), ("POST", PATH), ("GET", PATH), ("DELETE", METADATA), ("GET", PATH)]


def test_a_version_that_was_deleted_is_no_key_and_has_a_successor(fake: Fake, secrets: VaultSecrets) -> None:
    secrets.put(VOLUME, Held(b"k" * 64))
    fake.versions[-1] = None
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        secrets.get(VOLUME)
    secrets.put(VOLUME, Held(b"l" * 64))
    assert secrets.get(VOLUME) == Held(b"l" * 64)


def test_of_two_writers_one_is_told(fake: Fake, secrets: VaultSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look and its write another key was stored; with the check off (the newest version is taken as seen) it is overwritten."""
    honest = Fake.reply

    def overtaken(server: Fake, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if method == "POST":
            server.versions.append({"evident": "another's"})
        return honest(server, method, path, body)

    monkeypatch.setattr(Fake, "reply", overtaken)
    with pytest.raises(Indeterminate, match="another writer was first"):
        secrets.put(VOLUME, Held(b"k" * 64))
    assert fake.versions == [{"evident": "another's"}]
    monkeypatch.setattr(vault, "_version", lambda _: len(fake.versions) + 1)
    secrets.put(VOLUME, Held(b"k" * 64))
    assert len(fake.versions) == 3, "stored over the other's"


@pytest.mark.parametrize(
    "answer", [b'{"errors":["no handler for route"]}', b'{"data":{"keys":[]}}', b""], ids=["no mount", "other", "none"]
)
def test_a_404_of_something_else_is_not_a_missing_key(fake: Fake, secrets: VaultSecrets, answer: bytes) -> None:
    fake.answer = (404, answer)
    with pytest.raises(Indeterminate, match="is the mount right"):
        secrets.get(VOLUME)


def test_an_engine_of_version_1_is_not_taken(fake: Fake, secrets: VaultSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers a write with nothing, gives back what was written, and knows no metadata to delete: keys would stay for ever."""
    kept: list[Any] = []

    def version_1(_: Fake, method: str, __: str, body: bytes) -> tuple[int, Any]:
        if method == "GET":
            return (200, {"data": kept[-1]}) if kept else (404, {"errors": []})
        kept.append(json.loads(body))
        return 204, None

    monkeypatch.setattr(Fake, "reply", version_1)
    for attempt in (lambda: secrets.put(VOLUME, Held(b"k" * 64)), lambda: secrets.get(VOLUME)):
        with pytest.raises(Indeterminate, match="version 2"):
            attempt()


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
        (200, b'{"data":{"data":{"evident":7},"metadata":{"version":1}}}'),
        (200, b'{"data":{"data":{"evident":"{}"},"metadata":{"version":0}}}'),
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
    "text",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{", b"HTTP/1.1 404 No\r\nContent-Length: 400\r\n\r\n{", b"SSH-2.0-OpenSSH_9.2\r\n"],
    ids=["cut off", "refusal cut off", "no HTTP"],
)
def test_an_answer_that_breaks_off_or_is_none_releases_nothing(text: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.recv(65536)
                stream.sendall(text)

        threading.Thread(target=answer, daemon=True).start()
        store = VaultSecrets(place(listener.getsockname()[1]), lambda: TOKEN)
        with pytest.raises(Indeterminate, match=r"keys\.vault"):
            store.get(VOLUME)


def test_a_store_that_is_not_there_releases_nothing() -> None:
    with pytest.raises(Indeterminate):
        VaultSecrets(place(1), lambda: TOKEN).get(VOLUME)


@pytest.mark.parametrize("url", ["http://vault.example:8200", "ftp://127.0.0.1", "https://", "https://vault.example/?x=1"])
def test_tokens_do_not_travel_in_the_clear(url: str) -> None:
    with pytest.raises(UsageError, match=r"keys\.vault\.url"):
        VaultPlace(url, "kv", "evident/disks")


def test_any_text_in_the_secret(fake: Fake, secrets: VaultSecrets) -> None:
    for text in ("", "{}", '{"version":2}', "\x00", '{"version":1,"key":"zz","terms":""}'):
        fake.answer = (200, json.dumps({"data": {"data": {"evident": text}, "metadata": {"version": 1}}}).encode())
        with pytest.raises(EvidentError):
            secrets.get(VOLUME)
