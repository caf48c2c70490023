"""Evidence of the first public Evident at Google binds nonce, instance key and attestation key; none can be another (EI-05, EI-06)."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import NotAuthentic, UsageError
from evident.evidence import binding
from evident.keys.exchange import spki
from evident.simulator import clouds
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import gcp, kinds

NONCE = bytes(range(64))
INSTANCE, OTHER = (spki(ec.generate_private_key(ec.SECP384R1()).public_key()) for _ in range(2))
Cloud = Any  # of conftest.py
TPM = SimulatedTpm()


def evidence(cloud: Cloud, *, nonce: bytes = NONCE, instance: bytes = INSTANCE, tpm: SimulatedTpm = TPM) -> dict[str, tuple[bytes, ...]]:
    return {**clouds.first_evident(cloud.guest, tpm, nonce, instance, cloud.pki, cloud.at), "auxblob": cloud.table}


def test_it_is_authentic_and_binds_the_instances_key(cloud: Cloud) -> None:
    for named in (None, spki(TPM.ak_key.public_key())):
        pieces = evidence(cloud)
        if named is not None:
            pieces["report"] = (cloud.guest.report(binding.first_evident(NONCE, INSTANCE, named)),)
        verified = kinds.verify("gcp-snp", pieces, cloud.context(NONCE))
        assert verified.facts.bound_key == binding.key_digest(INSTANCE)
        assert verified.facts.freshness.scope == "challenge"


@pytest.mark.attack(
    "EI-05", "The report of an instance is sent for another nonce, instance key or attestation key.", "gcp.binding.instance"
)
@pytest.mark.parametrize("what", ["nonce", "instance", "tpm"])
def test_no_input_of_the_hardwares_binding_can_be_another(cloud: Cloud, what: str) -> None:
    changed = {"nonce": NONCE[::-1], "instance": OTHER, "tpm": SimulatedTpm()}[what]
    pieces = {**evidence(cloud), "report": evidence(cloud, **{what: changed})["report"]}
    with pytest.raises(NotAuthentic) as refused:
        gcp.verify(pieces, cloud.context(NONCE))
    assert [finding.code for finding in refused.value.findings] == ["gcp.binding.instance"]
    gcp.verify(pieces, cloud.context(NONCE), without=frozenset({"gcp.binding"}))


@pytest.mark.attack("EI-06", "The quote of an instance is sent for another nonce or instance key.", "tpm.challenge")
@pytest.mark.parametrize("what", ["nonce", "instance"])
def test_no_input_of_the_softwares_binding_can_be_another(cloud: Cloud, what: str) -> None:
    other = evidence(cloud, **{what: {"nonce": NONCE[::-1], "instance": OTHER}[what]})
    pieces = {**evidence(cloud), **{role: other[role] for role in ("tpm-quote", "signature")}}
    with pytest.raises(NotAuthentic) as refused:
        gcp.verify(pieces, cloud.context(NONCE))
    assert [finding.code for finding in refused.value.findings] == ["tpm.challenge"]
    gcp.verify(pieces, cloud.context(NONCE), without=frozenset({"tpm.challenge"}))


def test_a_key_of_somebody_in_between_is_refused_in_both(cloud: Cloud) -> None:
    with pytest.raises(NotAuthentic) as refused:
        gcp.verify({**evidence(cloud), "instance-key": (OTHER,)}, cloud.context(NONCE))
    assert {finding.code for finding in refused.value.findings} == {"tpm.challenge", "gcp.binding.instance"}


def test_a_nonce_that_could_run_into_the_key_is_refused(cloud: Cloud) -> None:
    """62 bytes and a key with two bytes in front hash to the same."""
    pieces = {**evidence(cloud), "instance-key": (NONCE[62:] + INSTANCE,)}
    with pytest.raises(UsageError, match=r"gcp\.instance-key\.nonce"):
        gcp.verify(pieces, cloud.context(NONCE[:62]))
