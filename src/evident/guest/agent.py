"""The guest's half of attestation: a key of this boot, a challenge, evidence that binds both, and what is released on it.

    agent = Agent(Server(host, port), pinned=bytes.fromhex(...), disk=partuuid)
    nonce = agent.challenge()
    evidence = collectors.collect(sources, agent.question)
    volume = agent.release(evidence)

The key is made in RAM and never leaves this object. The server is believed by the digest of its key in the measured command line, so
whoever answers in its place gives nothing that opens here, and gets no more than evidence that anybody may see.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from evident.errors import EvidentError, Malformed, NotAuthentic
from evident.evidence import binding, cmw
from evident.guest import libc
from evident.guest.asking import ask, check_disk
from evident.guest.http import Server
from evident.guest.source import Evidence, Question
from evident.guest.sources import vtpm
from evident.keys.exchange import open_offer, spki
from evident.keys.messages import (
    CHALLENGE,
    CONFIRM,
    CREDENTIAL,
    EVIDENCE,
    ChallengeReply,
    ChallengeRequest,
    ConfirmRequest,
    CredentialReply,
    CredentialRequest,
    Done,
    EvidenceReply,
    EvidenceRequest,
    Volume,
    loads,
)

NONCE_BYTES = 32


class Agent:
    """One attestation to the key server whose SubjectPublicKeyInfo has the SHA-256 `pinned`, for `disk`."""

    def __init__(self, server: Server, *, pinned: bytes, disk: str, activate: Callable[[bytes, bytes], bytes] = vtpm.activate) -> None:
        self._server = server
        self._pinned = pinned
        self._disk = disk
        self._activate = activate
        self._own = ec.generate_private_key(ec.SECP384R1())
        self._question: Question | None = None
        self._releaser: ec.EllipticCurvePublicKey | None = None

    @property
    def spki(self) -> bytes:
        """The public half of this boot's key, SubjectPublicKeyInfo in DER."""
        return spki(self._own.public_key())

    @property
    def question(self) -> Question:
        """What evidence has to answer; after `challenge`."""
        if self._question is None:
            raise Malformed.of("guest.order", expected="a challenge first", found="none", remedy="Call challenge() before this.")
        return self._question

    def challenge(self) -> Question:
        """Ask for a challenge. Raises `NotAuthentic` ``guest.key-server`` when another server answers than the pinned one."""
        reply = ask(self._server, CHALLENGE, ChallengeRequest(1, self._disk), ChallengeReply)
        if not hmac.compare_digest(hashlib.sha256(reply.key_server_public).digest(), self._pinned):
            raise NotAuthentic.of(
                "guest.key-server",
                expected=f"the key server whose key has the SHA-256 {self._pinned.hex()} (evident.key)",
                found=hashlib.sha256(reply.key_server_public).hexdigest(),
                remedy="Somebody answers in its place, or its key was changed: build the image anew for the new key.",
                layer="storage",
            )
        if len(reply.nonce) != NONCE_BYTES:
            raise Malformed.of(
                "guest.challenge", expected=f"{NONCE_BYTES} bytes", found=f"{len(reply.nonce)}", remedy="Update the key server."
            )
        self._releaser = _public(reply.key_server_public)
        self._question = Question(reply.nonce, self.spki)
        return self._question

    def release(self, evidence: Evidence, beside: tuple[Evidence, ...] = ()) -> Volume:
        """Send the evidence, open what comes back, and confirm it. Raises `PolicyRefused` ``guest.denied`` with the server's codes."""
        question, activated = self.question, self._activated((evidence, *beside))
        forms = form(evidence), tuple(map(form, beside))
        request = EvidenceRequest(1, self._disk, question.nonce, question.spki, *forms, activated)
        reply = ask(self._server, EVIDENCE, request, EvidenceReply)
        if self._releaser is None:
            raise Malformed.of("guest.order", expected="a challenge first", found="none", remedy="Call challenge() before this.")
        secret, confirmation = open_offer(reply.offer, own=self._own, nonce=question.nonce, releaser=self._releaser)
        volume = loads(Volume, secret)
        libc.wipe(secret)
        check_disk(volume, self._disk)
        ask(self._server, CONFIRM, ConfirmRequest(1, question.nonce, confirmation), Done)
        return volume

    def _activated(self, collected: tuple[Evidence, ...]) -> bytes | None:
        """The TPM's answer to the server's credential; None where no TPM quoted, or this one opens nothing: the server judges that."""
        keys = next(((item.pieces["ek"][0], item.pieces["ak"][0]) for item in collected if {"ek", "ak"} <= item.pieces.keys()), None)
        if keys is None:
            return None
        made = ask(self._server, CREDENTIAL, CredentialRequest(1, self.question.nonce, *keys), CredentialReply)
        try:
            secret = self._activate(made.credential_blob, made.encrypted_secret)
        except EvidentError:
            return None
        return binding.credential_answer(secret, self.question.report_data)


def form(evidence: Evidence) -> object:
    """As it travels."""
    return cmw.encode(cmw.of_pieces(evidence.kind, evidence.pieces))


def _public(der: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Malformed.of("guest.key-server.form", expected="a P-384 key", found="another key", remedy="Give the key server a P-384 key.")
    return key
