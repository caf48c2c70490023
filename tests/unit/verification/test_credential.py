"""Credential activation: only the TPM with this EK and this AK answers (AT-22)."""

from __future__ import annotations

import dataclasses
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evident.errors import NotAuthentic, Unsupported
from evident.evidence.tpm_public import Symmetric
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential

EKS = {"rsa-2048": lambda: rsa.generate_private_key(65537, 2048), "p256": lambda: ec.generate_private_key(ec.SECP256R1())}


@pytest.mark.parametrize("kind", EKS)
def test_the_right_tpm_answers(kind):
    machine = SimulatedTpm(ek_key=EKS[kind]())
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    challenge.confirm(machine.activate(challenge.credential_blob, challenge.encrypted_secret))


@pytest.mark.attack("AT-22", "A genuine endorsement key is sent with somebody else's attestation key.", "tpm.credential", "refused")
@pytest.mark.parametrize("kind", EKS)
def test_at22_an_ak_of_another_tpm_gets_nothing(kind):
    """A genuine EK sent along with somebody else's AK: the TPM refuses, and a guess is refused by the verifier."""
    machine, other = SimulatedTpm(ek_key=EKS[kind]()), SimulatedTpm()
    challenge = credential.challenge(machine.ek, other.ak.name, os.urandom)
    with pytest.raises(NotAuthentic):
        machine.activate(challenge.credential_blob, challenge.encrypted_secret)
    for guess in (b"", bytes(32), os.urandom(32)):
        with pytest.raises(NotAuthentic) as refused:
            challenge.confirm(guess)
        assert refused.value.code == "tpm.credential"


def test_an_altered_credential_is_refused():
    machine = SimulatedTpm()
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    blob = bytearray(challenge.credential_blob)
    blob[-1] ^= 1
    with pytest.raises(NotAuthentic):
        machine.activate(bytes(blob), challenge.encrypted_secret)


def test_an_ek_that_protects_otherwise_is_unsupported():
    ek = dataclasses.replace(SimulatedTpm().ek, symmetric=Symmetric())
    with pytest.raises(Unsupported):
        credential.challenge(ek, bytes(34), os.urandom)
