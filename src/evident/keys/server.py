"""The release service over HTTP/1.1: three questions and a health check (`evident.keys.messages`), for machines that nobody trusts yet.

Bodies are bounded and need a length; every connection has a deadline; at most `CONNECTIONS` are served at once, the rest
are told to come again. A denial says codes, never why in detail, and nothing of other disks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore
from typing import Any

from evident.errors import EvidentError, Malformed
from evident.keys import messages
from evident.keys.messages import (
    ChallengeReply,
    ChallengeRequest,
    ConfirmRequest,
    Done,
    EvidenceReply,
    EvidenceRequest,
    Refusal,
)
from evident.keys.release import ReleaseService

CONNECTIONS = 32
TIMEOUT = 20.0
"""Seconds that a connection may be silent."""
_STATUS = {"malformed": 400, "unsupported": 400, "usage": 503}


class KeyServer(ThreadingHTTPServer):
    """Serves `service` on `address`; ``serve_forever`` in a thread or process of its own, ``shutdown`` ends it."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], service: ReleaseService, *, on_event: Callable[[str], None] = lambda _line: None) -> None:
        self.service = service
        self.on_event = on_event
        self._slots = BoundedSemaphore(CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            with suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature of socketserver
        """A connection that broke is the peer's affair; the server goes on."""
        self.on_event(f"connection from {client_address[0]} broke off")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "evident"
    sys_version = ""
    timeout = TIMEOUT
    server: KeyServer

    def do_GET(self) -> None:
        if self.path == messages.HEALTH:
            self._send(200, Done(1))
        else:
            self._refuse(404, "usage", "keys.path")

    def do_POST(self) -> None:
        routes = {messages.CHALLENGE: self._challenge, messages.EVIDENCE: self._evidence, messages.CONFIRM: self._confirm}
        route = routes.get(self.path)
        if route is None:
            self._refuse(404, "usage", "keys.path")
            return
        body = self._body()
        if body is None:
            return
        try:
            answer = route(body)
        except EvidentError as error:
            codes = tuple(dict.fromkeys(finding.code for finding in error.findings))
            self.server.on_event(f"{self.path}: {error.decision} {', '.join(codes)}")
            self._send(_STATUS.get(error.decision, 403), Refusal(1, error.decision, codes))
            return
        except RecursionError:  # a body nested to the limit of the reader
            self._refuse(400, Malformed.decision, "keys.message.json")
            return
        self._send(200, answer)

    def _challenge(self, body: bytes) -> ChallengeReply:
        request = messages.loads(ChallengeRequest, body)
        return ChallengeReply(1, self.server.service.challenge(request.disk), self.server.service.public_key)

    def _evidence(self, body: bytes) -> EvidenceReply:
        reply = EvidenceReply(1, self.server.service.release(messages.loads(EvidenceRequest, body)))
        self.server.on_event("released")
        return reply

    def _confirm(self, body: bytes) -> Done:
        request = messages.loads(ConfirmRequest, body)
        self.server.service.confirm(request.nonce, request.confirmation)
        return Done(1)

    def _body(self) -> bytes | None:
        """The request's body, or None after an answer that says what is wrong with it."""
        text = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdecimal() and len(text) < 12):
            self._refuse(411, Malformed.decision, "keys.message.length")
            return None
        if int(text) > messages.LIMIT:
            self._refuse(413, Malformed.decision, "keys.message.oversized")
            return None
        body = self.rfile.read(int(text))
        if len(body) != int(text):
            self._refuse(400, Malformed.decision, "keys.message.length")
            return None
        return body

    def _refuse(self, status: int, decision: str, code: str) -> None:
        self.close_connection = True
        self._send(status, Refusal(1, decision, (code,)))

    def _send(self, status: int, message: object) -> None:
        body = messages.dumps(message)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name in http.server
        """Requests are logged by what was decided, not by line."""
