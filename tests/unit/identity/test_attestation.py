"""The messages of the node attestor, and whose signature stands under an answer."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import Malformed, NotAuthentic
from evident.identity import attestation
from evident.identity.attestation import Activated, Answer, Challenge, Credential, Hello

KEY = ec.generate_private_key(ec.SECP384R1())
SPKI = attestation.spki(KEY.public_key())
NONCE = bytes(range(32))
MESSAGES = (
    Hello(1, SPKI),
    Challenge(1, NONCE),
    Answer(1, {"a": "b"}, b"\1\2", ({"c": "d"},)),
    Credential(1, b"\1", b"\2"),
    Activated(1),
    Activated(1, bytes(32)),
)


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_messages_come_back_as_they_were_sent(number: int) -> None:
    message = MESSAGES[number]
    assert attestation.loads(type(message), attestation.dumps(message)) == message


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"version":2,"nonce":""}', b'{"version":1,"nonce":"00","more":1}', b'{"version":1,"nonce":"AA"}']
)
def test_what_is_no_message_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed, match=r"spire\.message"):
        attestation.loads(Challenge, text)


def test_the_agents_id_follows_from_the_key() -> None:
    digest = hashlib.sha256(SPKI).hexdigest()
    assert str(attestation.agent_id("example.org", SPKI)) == f"spiffe://example.org/spire/agent/evident/{digest[:32]}"


def test_the_key_signs_one_challenge_in_one_trust_domain() -> None:
    signature = attestation.sign(KEY, NONCE, "example.org")
    attestation.check_possession(SPKI, signature, NONCE, "example.org")
    other = attestation.spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    for key, nonce, domain in ((other, NONCE, "example.org"), (SPKI, bytes(32), "example.org"), (SPKI, NONCE, "example.com")):
        with pytest.raises(NotAuthentic, match=r"spire\.possession"):
            attestation.check_possession(key, signature, nonce, domain)


def test_challenge_and_trust_domain_do_not_run_into_each_other() -> None:
    assert attestation.proof(b"ab", "c") != attestation.proof(b"a", "bc")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP521R1()], ids=["P-256", "P-521"])
def test_the_key_is_on_p384(curve: ec.EllipticCurve) -> None:
    with pytest.raises(Malformed, match=r"spire\.message\.key"):
        attestation.public(attestation.spki(ec.generate_private_key(curve).public_key()))
    with pytest.raises(Malformed, match=r"spire\.message\.key"):
        attestation.public(SPKI + b"\0")
