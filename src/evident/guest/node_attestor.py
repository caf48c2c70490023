"""The machine's half of Evident's node attestor: spire-agent starts it as a plug-in, and it answers spire-server's challenge with evidence.

    NodeAttestor "evident" { plugin_cmd = "/usr/bin/python3"  plugin_args = ["-ISBm", "evident.guest.node_attestor"] }

Its key is made when it starts, and never leaves the process. Where evidence comes from, the measured command line says (``evident.tee``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import EvidentError, Malformed
from evident.evidence import binding, protobuf
from evident.guest import collectors, config
from evident.guest.agent import form
from evident.guest.source import Question, Source
from evident.guest.sources import vtpm
from evident.identity.attestation import NONCE_BYTES, WHAT, Activated, Answer, Challenge, Credential, Hello, dumps, loads, sign, spki
from evident.identity.go_plugin import Plugin, serve

TYPE, SERVICE, METHOD = "NodeAttestor", "spire.plugin.agent.nodeattestor.v1.NodeAttestor", "AidAttestation"
COMMAND_LINE, RUN = Path("/proc/cmdline"), Path("/run")
_PAYLOAD, _RESPONSE = 1, 2


class Machine:
    """Answers with evidence of the first of `sources` that works, and opens credentials with `activate`."""

    def __init__(self, sources: Sequence[Source], activate: Callable[[bytes, bytes], bytes] = vtpm.activate) -> None:
        self._sources = sources
        self._activate = activate
        self._key = ec.generate_private_key(ec.SECP384R1())

    @property
    def plugin(self) -> Plugin:
        """As SPIRE loads it."""
        return Plugin(TYPE, SERVICE, METHOD, self.converse)

    def converse(self, requests: Iterator[bytes], trust_domain: str) -> Iterator[bytes]:
        """One attestation: the server's challenges in (SPIRE's Challenge), payload and responses out. Raises `EvidentError`."""
        own = spki(self._key.public_key())
        yield protobuf.encode(((_PAYLOAD, dumps(Hello(1, own))),))
        question: Question | None = None
        for request in requests:
            message = protobuf.parse(request, WHAT).one_bytes(1)
            if question is None:
                question = Question(_nonce(loads(Challenge, message)), own)
                answer: object = self._answer(question, trust_domain)
            else:
                answer = self._activated(loads(Credential, message), question)
            yield protobuf.encode(((_RESPONSE, dumps(answer)),))

    def _answer(self, question: Question, trust_domain: str) -> Answer:
        evidence, *beside = map(form, collectors.answer(self._sources, question))
        return Answer(1, evidence, sign(self._key, question.nonce, trust_domain), tuple(beside))

    def _activated(self, given: Credential, question: Question) -> Activated:
        with suppress(EvidentError):  # a TPM that opens nothing is for the server to judge
            secret = self._activate(given.credential_blob, given.encrypted_secret)
            return Activated(1, binding.credential_answer(secret, question.report_data))
        return Activated(1)


def _nonce(challenge: Challenge) -> bytes:
    if len(challenge.nonce) != NONCE_BYTES:
        raise Malformed.of(
            f"{WHAT}.nonce",
            expected=f"{NONCE_BYTES} bytes",
            found=f"{len(challenge.nonce)}",
            remedy="Use the same version of Evident on both sides.",
        )
    return challenge.nonce


def main() -> None:
    """Serve the machine's spire-agent until it has had enough. Raises as `go_plugin.serve` and `config.parse_command_line`."""
    line = config.parse_command_line(COMMAND_LINE.read_text())
    serve(Machine(collectors.sources(line.tee)).plugin, environment=os.environ, directory=RUN)


if __name__ == "__main__":
    main()
