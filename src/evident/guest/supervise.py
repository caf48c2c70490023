"""After the boot: the units run as children, their orphans are reaped, and challenges are answered where the command line says so.

    POST /v1/attest  {"version": 1, "nonce": "<64 hex digits>"}
                 ->  {"version": 1, "key": "<SPKI>", "evidence": <CMW collection>, "beside": [<CMW collection>...]}
    POST /v1/activate  {"version": 1, "nonce": "<as before>", "credential_blob": "<HEX>", "encrypted_secret": "<HEX>"}
                 ->  {"version": 1, "answer": "<64 hex digits>"}

The evidence binds the asker's nonce and the key of this boot; it says nothing that is secret, so anybody may ask. The answer to a
credential for this machine's TPM binds the same two; the credential's secret stays here. One question is answered at a time
(`guest.listener`).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evident.errors import EvidentError, Indeterminate, Malformed
from evident.evidence import binding
from evident.guest import certificate, collectors
from evident.guest.agent import form
from evident.guest.config import CommandLine, Unit
from evident.guest.console import Console, code_of
from evident.guest.http import parse_request
from evident.guest.listener import Listener
from evident.guest.source import Evidence, Question
from evident.guest.sources import vtpm
from evident.guest.units import NOWHERE, Units
from evident.keys.exchange import spki
from evident.keys.messages import (
    ACTIVATE,
    ATTEST,
    ActivateReply,
    ActivateRequest,
    AttestReply,
    AttestRequest,
    Refusal,
    dumps,
    loads,
)

NONCE_BYTES = 32
HOST_KEY = Path("/run/evident/ssh_host_ecdsa_key")
_TICK = 0.2


class Responder:
    """Answers challenges with evidence that `collect` makes, the TEE's first, for a key of its own."""

    def __init__(
        self, collect: Callable[[Question], tuple[Evidence, ...]], activate: Callable[[bytes, bytes], bytes] = vtpm.activate
    ) -> None:
        self._collect = collect
        self._activate = activate
        self._own = ec.generate_private_key(ec.SECP384R1())
        self._spki = spki(self._own.public_key())
        self._certificates: tuple[bytes, ...] = ()

    def write_host_key(self, path: Path) -> None:
        """Put the key of this boot where the SSH server finds it, in memory: whoever attests this machine knows its host key (SG-02)."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = self._own.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text)

    def certify(self, names: Sequence[str], owner: int, place: Path = certificate.PLACE) -> None:
        """Give user `owner` a TLS key for `names` that the key of this boot has certified, and say so in every answer (AT-50)."""
        self._certificates = certificate.make(self._own, names, owner, place)

    def answer(self, request: bytes) -> tuple[int, bytes]:
        """Status and body for a whole HTTP request."""
        try:
            path, body = parse_request(request)
            if path == ATTEST:
                evidence, *beside = map(form, self._collect(self._question(loads(AttestRequest, body).nonce)))
                return 200, dumps(AttestReply(1, self._spki, evidence, tuple(beside), self._certificates))
            if path == ACTIVATE:
                asked = loads(ActivateRequest, body)
                challenge = self._question(asked.nonce).report_data
                secret = self._activate(asked.credential_blob, asked.encrypted_secret)
                return 200, dumps(ActivateReply(1, binding.credential_answer(secret, challenge)))
            return 404, dumps(Refusal(1, "usage", ("guest.path",)))
        except EvidentError as error:
            return 400 if isinstance(error, Malformed) else 503, dumps(Refusal(1, error.decision, (error.code,)))
        except OSError as error:  # of this machine's kernel
            return 503, dumps(Refusal(1, Indeterminate.decision, (code_of(error),)))

    def _question(self, nonce: bytes) -> Question:
        if len(nonce) != NONCE_BYTES:
            raise Malformed.of("guest.challenge", expected=f"{NONCE_BYTES} bytes", found=f"{len(nonce)}", remedy="Send a nonce.")
        return Question(nonce, self._spki)


class Supervisor:
    """PID 1 after the boot."""

    def __init__(self, console: Console, line: CommandLine) -> None:
        self._console = console
        self._line = line
        candidates = collectors.sources(line.tee)
        self._responder = Responder(lambda question: collectors.answer(candidates, question))

    def write_host_key(self) -> Path:
        """For images whose configuration lets somebody log in: where it is."""
        self._responder.write_host_key(HOST_KEY)
        self._console.say(f"SSH host key of this boot: {HOST_KEY}")
        return HOST_KEY

    def certify(self, names: Sequence[str], owner: int) -> None:
        """For images of which a unit serves TLS."""
        self._responder.certify(names, owner)
        self._console.say(f"TLS key of this boot, for {', '.join(names)}: {certificate.PLACE}")

    def run(self, units: Sequence[Unit], elsewhere: Mapping[str, int] = NOWHERE) -> None:
        """Start the units and look after them until the machine's end. Raises as `Units`."""
        listener = self._listen()  # before any unit, so that nobody else answers there
        running = Units(units, self._console.say, elsewhere=elsewhere)
        while True:
            running.start()
            if listener is None:
                time.sleep(_TICK)
            else:
                listener.turn(_TICK)
            if any(running.ended(*child) for child in _children_that_ended()):
                return

    def _listen(self) -> Listener | None:
        if not self._line.attest:
            return None
        stream = socket.create_server(("0.0.0.0", self._line.attest))  # noqa: S104 - whoever may reach this machine may ask
        return Listener(stream, self._responder.answer)


def _children_that_ended() -> Iterator[tuple[int, int]]:
    """Process and status of each, the orphans among them, for they are PID 1's."""
    with suppress(ChildProcessError):  # none is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended
