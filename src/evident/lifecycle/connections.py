"""TLS to a deployment: a live connection is held against the key that the attested machine certified (AT-50).

Nothing is connected to, and nothing written, unless an answer to our own challenge was accepted. The comparison speaks for the one
connection that was made: names are the network's, and the next one may lead elsewhere. Whoever wants every connection checked gives
its client the instance certificate, or the key's pin.
"""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Final

from evident.appraisal.statement import TrustStatement
from evident.endorsements import pem, x509
from evident.endorsements.x509 import Certificate
from evident.errors import Indeterminate, NotAuthentic
from evident.files import write_private_bytes
from evident.keys import tls
from evident.lifecycle import logins
from evident.lifecycle.attest import Answer

TIMEOUT: Final = 30.0
"""Seconds for a whole handshake, however busily it comes: the guest may be emulated."""
_PIECE: Final = 16 * 1024


def certified(answer: Answer) -> tls.Certified | None:
    """What the machine certified; None for an answer that was not accepted. Raises as `tls.certified`."""
    statement = answer.outcome
    if not isinstance(statement, TrustStatement) or statement.decision != "accepted":
        return None
    spki = answer.case.pieces.get("key", (b"",))[0]
    return tls.certified(answer.certificates, statement, logins.bound(statement, spki))


def check(known: tls.Certified, host: str, port: int) -> None:
    """Connect, and hold the key that is shown there against the machine's. Raises as `served` and `tls.check_served`."""
    tls.check_served(served(host, port), known.spki)


def remember(known: tls.Certified, file: Path) -> None:
    """Write the instance certificate as PEM, for ``curl --cacert`` and its like. Raises `UsageError` ``state.write``."""
    write_private_bytes(file, pem.encode(known.instance.der, "CERTIFICATE"))


def served(host: str, port: int) -> Certificate:
    """The certificate of whoever answers there, who has shown in a handshake that he holds its key.

    Raises `Indeterminate` ``tls.unreachable``, `NotAuthentic` ``tls.handshake`` for one that does not complete, and `Malformed`.
    """
    deadline = time.monotonic() + TIMEOUT
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = _context().wrap_bio(incoming, outgoing, server_hostname=host)
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as stream:
            while not _done(session):
                _send(stream, outgoing, deadline)
                incoming.write(_received(stream))
            _send(stream, outgoing, deadline)
    except ssl.SSLError as error:
        raise NotAuthentic.of(
            "tls.handshake",
            expected=f"a TLS handshake at {host}:{port}",
            found=error.reason or "something else",
            remedy="Check host and port; whoever answers there has not shown the machine's key.",
            layer="identity",
        ) from None
    except OSError as error:
        raise Indeterminate.of(
            "tls.unreachable",
            expected=f"a TLS server at {host}:{port}, within {TIMEOUT:.0f} s",
            found=str(error) or type(error).__name__,
            remedy="Check that the workload serves there, and that the network lets you reach it.",
            layer="identity",
        ) from None
    return x509.parse(session.getpeercert(binary_form=True) or b"")


def _context() -> ssl.SSLContext:
    """For a handshake that shows possession of a key. Who signed for the key, and under which name, decides nothing here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _done(session: ssl.SSLObject) -> bool:
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _received(stream: socket.socket) -> bytes:
    received = stream.recv(_PIECE)
    if not received:
        raise ConnectionAbortedError("the other end hung up")
    return received


def _send(stream: socket.socket, outgoing: ssl.MemoryBIO, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no whole handshake")
    stream.settimeout(left)
    stream.sendall(outgoing.read())
