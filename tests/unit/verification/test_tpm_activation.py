"""Whose TPM holds the attestation key: every step about activation refuses its own lie, and accepts it when it is left out."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evident.errors import NotAuthentic
from evident.evidence import binding
from evident.evidence.tpm_templates import EK_ATTRIBUTES
from evident.simulator import clouds
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential, tpm
from evident.verification.credential import Activation, NamedKey

NONCE = bytes(range(100, 132))


def activated(machine: SimulatedTpm, nonce: bytes = NONCE) -> Activation:
    """The whole dialogue with an honest guest."""
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    secret = machine.activate(challenge.credential_blob, challenge.encrypted_secret)
    return challenge.answered(binding.credential_answer(secret, nonce))


def named(machine: SimulatedTpm) -> NamedKey:
    """What the operator of the machine's TPM says."""
    return NamedKey(machine.ek_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "AWS", "hypervisor")


def pieces(machine: SimulatedTpm, **changes: Any) -> dict[str, tuple[bytes, ...]]:
    return {**clouds.quoted(machine, NONCE, "quote"), "ek": (machine.ek.tpm2b,), **changes}


@pytest.fixture(scope="module")
def machine() -> SimulatedTpm:
    return SimulatedTpm()


def refused(cloud: Any, given: Any, step: str, code: str, **context: Any) -> None:
    """Refused by this step alone; with it off the lie passes, and shows."""
    believed = cloud.context(NONCE, **context)
    with pytest.raises(NotAuthentic) as error:
        tpm.verify(given, believed)
    assert {finding.code for finding in error.value.findings} == {code}
    assert {finding.layer for finding in error.value.findings} == {"vtpm"}
    passed = tpm.verify(given, believed, without=frozenset({step}))
    assert passed.open_points == ()
    assert passed.facts.vtpm is not None
    assert passed.facts.vtpm.anchor == "operator"
    assert step in passed.required - {record.id for record in passed.steps}


def test_a_named_endorsement_key_vouches_for_the_key_that_it_activated(cloud, machine):
    verified = tpm.verify(pieces(machine), cloud.context(NONCE, activation=activated(machine), named=named(machine)))
    vtpm = verified.facts.vtpm
    assert vtpm is not None
    assert (vtpm.anchor, vtpm.operator, vtpm.location) == ("operator", "AWS", "hypervisor")
    assert verified.open_points == ()
    assert verified.endorsers == ("AWS",)
    assert {"tpm.activation-witnessed", "tpm.ek-named-only"} <= set(verified.facts.caveats)
    assert verified.facts.identities == {"ek_name": machine.ek.name.hex()}


@pytest.mark.parametrize("known", ["activation", "named"])
def test_either_alone_leaves_the_key_nobodys(cloud, machine, known):
    context = {"activation": activated(machine)} if known == "activation" else {"named": named(machine)}
    verified = tpm.verify(pieces(machine), cloud.context(NONCE, **context))
    assert [point.code for point in verified.open_points] == ["tpm.ak-certificate.missing"]
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.anchor == "none"
    assert ("ek_name" in verified.facts.identities) == (known == "activation"), "an endorsement key that answered nothing names nobody"


def test_a_certified_endorsement_key_vouches_too(cloud, machine):
    certificate = cloud.pki.ak_certificate(machine.ek_key.public_key(), cloud.at)
    verified = tpm.verify(pieces(machine, **{"ek-cert": (certificate,)}), cloud.context(NONCE, activation=activated(machine)))
    assert verified.open_points == ()
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.anchor == "certificate"
    assert "tpm.ek-not-activated" not in verified.facts.caveats


def test_an_endorsement_key_of_a_test_root_is_refused_where_no_simulator_was_asked_for(cloud, machine):
    given = pieces(machine, **{"ek-cert": (cloud.pki.ak_certificate(machine.ek_key.public_key(), cloud.at),)})
    with pytest.raises(NotAuthentic) as error:
        tpm.verify(given, cloud.context(NONCE, activation=activated(machine), unsafe=frozenset()))
    assert [finding.code for finding in error.value.findings] == ["tpm.ak-certificate.simulated", "tpm.ek-certificate.simulated"]


@pytest.mark.attack("AT-23", "Another machine's TPM, genuine and willing, answers in place of this machine's.", "tpm.ek-named")
def test_at23_the_tpm_of_another_machine(cloud, machine):
    """It has EK and AK of its own and activates what is made for them: only who runs this machine's TPM can tell."""
    other = SimulatedTpm()
    refused(cloud, pieces(other), "tpm.ek-named", "tpm.ek-named", activation=activated(other), named=named(machine))


@pytest.mark.attack("AT-23", "A credential that another TPM activated is passed off as this one's.", "tpm.activation-ek")
def test_at23_a_credential_for_another_endorsement_key(cloud, machine):
    """The attacker has a TPM of their own in which the AK with the very name lives, and shows the genuine EK."""
    thief = SimulatedTpm(ak_key=machine.ak_key)
    refused(cloud, pieces(machine), "tpm.activation-ek", "tpm.activation.ek", activation=activated(thief), named=named(machine))


@pytest.mark.attack("AT-22", "What is named as endorsement key decrypts for whoever uses it.", "tpm.activation-ek")
def test_at22_a_decryption_key_in_place_of_the_endorsement_key(cloud):
    """It opens the seed of any credential, and with it the credential for a key in software."""
    forger = SimulatedTpm(ek_attributes=EK_ATTRIBUTES & ~0x00010000)
    refused(cloud, pieces(forger), "tpm.activation-ek", "tpm.activation.ek-attributes", activation=activated(forger), named=named(forger))


@pytest.mark.attack("AT-22", "A genuine endorsement key is sent with somebody else's attestation key.", "tpm.activation-ak")
def test_at22_a_credential_for_another_attestation_key(cloud, machine):
    """The genuine TPM activated for its own AK; the quotes are by another."""
    forger = SimulatedTpm(ek_key=machine.ek_key)
    refused(cloud, pieces(forger), "tpm.activation-ak", "tpm.activation.ak", activation=activated(machine), named=named(machine))


@pytest.mark.attack("AT-22", "The recorded credential is not the one that was sent.", "tpm.activation-credential")
@pytest.mark.parametrize("member", ["credential_blob", "encrypted_secret"])
def test_at22_a_record_whose_credential_was_for_another(cloud, machine, member):
    """One that any TPM could have answered, filed under this EK and AK."""
    other = activated(SimulatedTpm())
    mixed = dataclasses.replace(activated(machine), **{member: getattr(other, member)})
    refused(cloud, pieces(machine), "tpm.activation-credential", "tpm.activation.credential", activation=mixed, named=named(machine))


@pytest.mark.attack(
    "AT-22", "A key outside the TPM signs the quotes, and the credential is answered with a guess.", "tpm.activation-answer"
)
@pytest.mark.parametrize("guess", [b"", bytes(32), b"\xa5" * 32], ids=["nothing", "zeros", "guess"])
def test_at22_a_wrong_answer(cloud, machine, guess):
    """A genuine EK, and an AK in software: nobody can decrypt for it."""
    forger = SimulatedTpm(ek_key=machine.ek_key)
    challenge = credential.challenge(machine.ek, forger.ak.name, os.urandom)
    wrong = challenge.answered(guess)
    refused(cloud, pieces(forger), "tpm.activation-answer", "tpm.activation.answer", activation=wrong, named=named(machine))


@pytest.mark.attack("AT-05", "The activation of an earlier attestation is played again with a new quote.", "tpm.activation-answer")
def test_at05_an_activation_of_another_challenge(cloud, machine):
    """Once activated in the TPM, the AK is sold on or broken; the old answer must not speak for it for ever."""
    old = activated(machine, b"the challenge of yesterday")
    refused(cloud, pieces(machine), "tpm.activation-answer", "tpm.activation.answer", activation=old, named=named(machine))


def test_without_an_endorsement_key_nothing_is_shown(cloud, machine):
    bare = pieces(machine)
    del bare["ek"]
    verified = tpm.verify(bare, cloud.context(NONCE, named=named(machine)))
    assert [point.code for point in verified.open_points] == ["tpm.ak-certificate.missing"]
    with pytest.raises(NotAuthentic) as error:
        tpm.verify(bare, cloud.context(NONCE, activation=activated(machine), named=named(machine)))
    assert error.value.code == "tpm.activation.ek"
