"""Ask the agent in a machine, wherever that runs: a challenge goes there, evidence comes back.

The question and the answer are `evident.keys.messages`: a nonce, a key of this boot, and a CMW collection that binds both. Nothing rests
on the way there: the evidence speaks for itself, or not at all.
"""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import suppress
from functools import partial
from threading import Timer
from typing import Final

from evident.errors import Indeterminate
from evident.evidence import cmw
from evident.keys.messages import ACTIVATE, ATTEST, ActivateReply, ActivateRequest, AttestReply, AttestRequest, dumps, loads
from evident.platforms.driver import Collected
from evident.verification import snp, snp_tpm, tpm

TIMEOUT: Final = 60.0
"""Seconds for a whole answer, however busily it comes: the guest may be emulated."""
_CONNECT_TIMEOUT: Final = 5.0
_ANSWER_LIMIT: Final = 4 * 1024 * 1024


def ask(host: str, port: int, nonce: bytes) -> Collected:
    """The answer to `nonce` of the machine at `host`. Raises `Indeterminate` ``agent.unreachable``, and `Malformed`."""
    reply = loads(AttestReply, post(host, port, ATTEST, dumps(AttestRequest(1, nonce))))
    kind, pieces = cmw.to_pieces(cmw.decode(reply.evidence))
    for form in reply.beside:
        other, its = cmw.to_pieces(cmw.decode(form))
        if (kind, other) == (snp.NAME, tpm.NAME):
            kind, pieces = snp_tpm.NAME, snp_tpm.together(pieces, its)
    return Collected(kind, {**pieces, "key": (reply.key,)}, partial(activate, host, port, nonce), reply.certificates)


def activate(host: str, port: int, nonce: bytes, credential_blob: bytes, encrypted_secret: bytes) -> bytes | None:
    """What the TPM of that machine answers to a credential (`Activate`); None where it, or its agent, cannot."""
    try:
        answer = post(host, port, ACTIVATE, dumps(ActivateRequest(1, nonce, credential_blob, encrypted_secret)))
    except Indeterminate:
        return None
    return loads(ActivateReply, answer).answer


def post(host: str, port: int, path: str, body: bytes) -> bytes:
    """The body of the agent's answer with status 200. Raises `Indeterminate` ``agent.unreachable``."""
    connection, began = http.client.HTTPConnection(host, port, timeout=TIMEOUT), time.monotonic()
    try:
        connection.connect()
        deadline = Timer(TIMEOUT, _hang_up, (connection.sock,))
        deadline.daemon = True
        deadline.start()
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read(_ANSWER_LIMIT)
        finally:
            deadline.cancel()
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if time.monotonic() - began >= TIMEOUT:  # what came is not all
        raise unreachable(f"no whole answer within {TIMEOUT:.0f} s")
    if response.status != 200:
        raise unreachable(f"status {response.status}: {answer[:200].decode('ascii', 'replace')}")
    return answer


def _hang_up(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there; who, only evidence tells."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT):
            return True
    except OSError:
        return False


def unreachable(found: str) -> Indeterminate:
    return Indeterminate.of(
        "agent.unreachable",
        expected="an answer of the agent in the machine",
        found=found,
        remedy="Wait until it has booted, and see that its network lets you reach it (evident status NAME).",
    )
