"""Credential activation: only the TPM with this EK and this AK gets at the secret, and anybody can make the credential again (AT-22)."""

from __future__ import annotations

import dataclasses
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evident.errors import Malformed, NotAuthentic, Unsupported
from evident.evidence.tpm_public import Symmetric
from evident.evidence.tpm_templates import AES_128_CFB
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential

EKS = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


@pytest.mark.parametrize("kind", EKS)
def test_the_right_tpm_gets_at_the_secret(kind):
    machine = SimulatedTpm(ek_key=EKS[kind]())
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    assert machine.activate(challenge.credential_blob, challenge.encrypted_secret) == challenge.secret


@pytest.mark.parametrize("kind", EKS)
def test_the_record_makes_the_same_credential_again(kind):
    machine = SimulatedTpm(ek_key=EKS[kind]())
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    record = challenge.answered(b"whatever came back")
    assert credential.again(record) == challenge
    assert credential.challenge(machine.ek, machine.ak.name, os.urandom) != challenge
    with pytest.raises(Malformed):
        credential.again(dataclasses.replace(record, drawn=record.drawn[:-1]))


@pytest.mark.parametrize("kind", EKS)
def test_at22_an_ak_of_another_tpm_gets_nothing(kind):
    """A genuine EK sent along with somebody else's AK: the TPM refuses."""
    machine, other = SimulatedTpm(ek_key=EKS[kind]()), SimulatedTpm()
    challenge = credential.challenge(machine.ek, other.ak.name, os.urandom)
    with pytest.raises(NotAuthentic):
        machine.activate(challenge.credential_blob, challenge.encrypted_secret)


def test_an_altered_credential_is_refused():
    machine = SimulatedTpm()
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    blob = bytearray(challenge.credential_blob)
    blob[-1] ^= 1
    with pytest.raises(NotAuthentic):
        machine.activate(bytes(blob), challenge.encrypted_secret)


@pytest.mark.parametrize("weak", ["symmetric", "8 bits", "1024 bits"])
def test_an_ek_that_protects_too_little_is_unsupported(weak):
    if weak == "symmetric":
        ek = dataclasses.replace(SimulatedTpm().ek, symmetric=Symmetric())
    elif weak == "8 bits":
        ek = dataclasses.replace(SimulatedTpm().ek, symmetric=dataclasses.replace(AES_128_CFB, bits=8))
    else:
        ek = SimulatedTpm(ek_key=rsa.generate_private_key(65537, 1024)).ek  # noqa: S505 - a key too weak is what is tested
    with pytest.raises(Unsupported):
        credential.challenge(ek, bytes(34), os.urandom)
