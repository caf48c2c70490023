"""The release service over HTTP/1.1: four questions and a health check (`evident.keys.messages`), for machines that nobody trusts yet.

Bodies are bounded and need a length; every connection has a deadline, silent or not. A peer has so many connections at a time
(`keys.connections`) and so many requests a second (`keys.rate`); whoever has more is told to come again, before anything is read or
decided. A denial says codes, never why in detail, and nothing of other disks.

With an SVID of its own the server speaks TLS (`evident.keys.mutual_tls`), and answers one question instead of the four: what the SVID that
the connection was made with opens. It is for machines that SPIRE has attested; who shows none is not listened to (`keys.handshake`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from threading import Timer
from typing import Any

from evident.errors import EvidentError, Indeterminate, Malformed, NotAuthentic
from evident.identity.workload_api import Svid
from evident.keys import messages
from evident.keys.admission import Places, Rate, Unlisted
from evident.keys.messages import (
    ChallengeReply,
    ChallengeRequest,
    ConfirmRequest,
    CredentialReply,
    CredentialRequest,
    Done,
    EvidenceReply,
    EvidenceRequest,
    KeyRequest,
    Refusal,
    Volume,
)
from evident.keys.mutual_tls import MutualTls
from evident.keys.release import ReleaseService

CONNECTIONS, CONNECTIONS_EACH = 32, 8
"""Served at once: in all, and of one peer."""
REQUESTS_PER_SECOND, REQUESTS_AT_ONCE = 4.0, 32
"""Of one peer; a boot takes three, or four with a TPM."""
TIMEOUT = 20.0
"""Seconds that a connection may be silent."""
DEADLINE = 60.0
"""Seconds that a connection may last, however busy."""
EVENTS_PER_SECOND, EVENTS_AT_ONCE = 0.5, 32
"""Refusals and broken connections that `on_event` hears of; the rest are counted."""
_STATUS = {"malformed": 400, "unsupported": 400, "usage": 503}


class KeyServer(ThreadingHTTPServer):
    """Serves `service` on `address`; ``serve_forever`` in a thread or process of its own, ``shutdown`` ends it.

    `tls` gives the server's own SVID, as renewed; without it, machines come with evidence.
    """

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        service: ReleaseService,
        *,
        on_event: Callable[[str], None] = lambda _line: None,
        tls: Callable[[], Svid] | None = None,
    ) -> None:
        self.service = service
        self.tls = None if tls is None else MutualTls(tls)
        self.requests = Rate(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)
        self._on_event = on_event
        self._unlisted = Unlisted(Rate(EVENTS_PER_SECOND, EVENTS_AT_ONCE))
        self._places = Places(CONNECTIONS, CONNECTIONS_EACH)
        super().__init__(address, _Handler)

    def say(self, text: str) -> None:
        """Tell of something that anybody can cause, as often as they like."""
        if self._unlisted.listed("events"):
            left_out = self._unlisted.counts()
            self._on_event(f"{text} (not listed before this: {', '.join(left_out)})" if left_out else text)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.enter(client_address[0]):
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread to be had: nobody would leave the place
                self._places.leave(client_address[0])
                raise
            return
        if self.tls is None:  # there, nothing can be said before the handshake
            body = messages.dumps(Refusal(1, Indeterminate.decision, (_no_place().code,)))
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            with suppress(OSError):
                request.sendall(head.encode() + body)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            connection = request if self.tls is None else self.tls.wrap(request)
            with _deadline(connection):
                super().process_request_thread(connection, client_address)
        except EvidentError as error:  # this server has no SVID
            self.say(f"{client_address[0]}: {error.code}")
            self.shutdown_request(request)
        except OSError:  # gone before the handshake
            self.handle_error(request, client_address)
            self.shutdown_request(request)
        finally:
            self._places.leave(client_address[0])

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            request.settimeout(_Handler.timeout)
            try:
                request.do_handshake()
            except ssl.SSLError as error:
                refusal = _no_handshake(error)
                self.say(f"{client_address[0]}: {refusal.code}, {refusal.findings[0].found}")
                return
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature of socketserver
        """A connection that broke is the peer's affair; the server goes on."""
        self.say(f"connection from {client_address[0]} broke off")


@contextmanager
def _deadline(connection: socket) -> Iterator[None]:
    timer = Timer(DEADLINE, _hang_up, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(connection: socket) -> None:
    with suppress(OSError):
        socket.shutdown(connection, SHUT_RDWR)  # that of ssl would first let what is being sent go out in the clear


def _no_place() -> Indeterminate:
    return Indeterminate.of(
        "keys.connections",
        expected=f"at most {CONNECTIONS_EACH} connections of one peer and {CONNECTIONS} in all at a time",
        found="one more",
        remedy="Come again in a moment; if it stays so, find out who holds them.",
    )


def _no_handshake(error: ssl.SSLError) -> NotAuthentic:
    return NotAuthentic.of(
        "keys.handshake",
        expected="a handshake in TLS 1.3 with a certificate of this trust domain, in its time",
        found=getattr(error, "verify_message", "") or error.reason or "none",
        remedy="Ask with an SVID of this trust domain, renewed by its agent.",
        layer="identity",
    )


def _too_often(peer: str) -> Indeterminate:
    return Indeterminate.of(
        "keys.rate",
        expected=f"at most {REQUESTS_PER_SECOND:g} requests a second of one peer, {REQUESTS_AT_ONCE} at once",
        found=f"more of {peer}",
        remedy="Come again in a moment; a boot takes four requests at the most.",
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "evident"
    sys_version = ""
    timeout = TIMEOUT
    server: KeyServer

    def do_GET(self) -> None:
        if not self._admitted():
            return
        if self.path == messages.HEALTH:
            self._send(200, Done(1))
        else:
            self._refuse(404, "usage", "keys.path")

    def do_POST(self) -> None:
        if not self._admitted():
            return
        route = self._routes().get(self.path)
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
            self.server.say(f"{self.path}: {error.decision} {', '.join(codes)}")
            self._send(_STATUS.get(error.decision, 403), Refusal(1, error.decision, codes))
            return
        except RecursionError:  # a body nested to the limit of the reader
            self._refuse(400, Malformed.decision, "keys.message.json")
            return
        self._send(200, answer)

    def _routes(self) -> dict[str, Callable[[bytes], object]]:
        if self.server.tls is not None:
            return {messages.KEY: partial(self._key, self.server.tls)}
        return {
            messages.CHALLENGE: self._challenge,
            messages.CREDENTIAL: self._credential,
            messages.EVIDENCE: self._evidence,
            messages.CONFIRM: self._confirm,
        }

    def _key(self, tls: MutualTls, body: bytes) -> Volume:
        request = messages.loads(KeyRequest, body)
        released = self.server.service.release_to(tls.peer(self.connection), request)
        self.server.say("released")
        return released

    def _challenge(self, body: bytes) -> ChallengeReply:
        request = messages.loads(ChallengeRequest, body)
        return ChallengeReply(1, self.server.service.challenge(request.disk), self.server.service.public_key)

    def _credential(self, body: bytes) -> CredentialReply:
        request = messages.loads(CredentialRequest, body)
        made = self.server.service.credential(request)
        return CredentialReply(1, made.credential_blob, made.encrypted_secret)

    def _evidence(self, body: bytes) -> EvidenceReply:
        reply = EvidenceReply(1, self.server.service.release(messages.loads(EvidenceRequest, body)))
        self.server.say("released")
        return reply

    def _confirm(self, body: bytes) -> Done:
        request = messages.loads(ConfirmRequest, body)
        self.server.service.confirm(request.nonce, request.confirmation)
        return Done(1)

    def _admitted(self) -> bool:
        """Whether this peer may ask once more; it is told where not."""
        peer = self.client_address[0]
        if self.server.requests.take(peer):
            return True
        error = _too_often(peer)
        self.server.say(f"{peer}: {error.code}")
        self._refuse(429, error.decision, error.code)
        return False

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
