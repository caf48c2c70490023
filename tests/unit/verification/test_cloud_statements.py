"""What the statement makes of each cloud's evidence: whose vTPM it is decides who must be trusted, however perfect the quote (AT-18)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels
from evident.appraisal.statement import TrustStatement
from evident.evidence import binding
from evident.evidence.tpm_algorithms import ALG_RSASSA, ALG_SHA256
from evident.evidence.tpm_public import Scheme
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.simulator import clouds
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential, kinds

NONCE = bytes(range(100, 132))
KERNEL = hashlib.sha256(b"the kernel that the owner wants").digest()
POLICY = Policy(version=1, allow_simulated=True, levels=RequiredLevels(nominal=3), accepted_trust=("AWS", "Google", "Microsoft", "SVSM"))


@pytest.fixture(scope="module")
def machine() -> SimulatedTpm:
    """A vTPM whose PCR 4 the host has set to what the owner expects: nothing was booted at all."""
    forged = SimulatedTpm(ak_key=rsa.generate_private_key(65537, 2048), ak_scheme=Scheme(ALG_RSASSA, ALG_SHA256))
    for bank, size in (("sha256", 32), ("sha384", 48)):
        forged.set_pcr(bank, 4, KERNEL.ljust(size, b"\0"))
    return forged


def references(cloud: Any, algorithm: str, *, strength: Strength = Strength.REBUILT, artifacts: dict[str, bytes] | None = None) -> Any:
    launch = cloud.guest.report(bytes(64))[0x90:0xC0]
    provenance = Provenance("a test", "stated", artifacts or {})
    return (
        ReferenceValue(("firmware",), "launch", launch, strength, "you", "firmware", provenance),
        ReferenceValue(
            ("boot_chain",),
            "pcr4",
            KERNEL.ljust(32 if algorithm == "sha256" else 48, b"\0"),
            Strength.REBUILT,
            "you",
            "kernel",
            provenance,
            algorithm=algorithm,
        ),
    )


def statement(cloud: Any, kind: str, pieces: Any, expected: Any, **context: Any) -> TrustStatement:
    return appraise(kinds.verify(kind, pieces, cloud.context(NONCE, **context)), policy=POLICY, references=expected)


def layer(found: TrustStatement, name: str) -> Any:
    return next(item for item in found.layers if item.name == name)


@pytest.mark.attack(
    "AT-18", "The host of a vTPM quotes PCR values of its own choosing.", "nothing: the facts say whose vTPM it is", "refused"
)
def test_at18_on_google_the_kernel_is_the_providers_word(cloud, machine):
    pieces = clouds.gcp_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at) | {"auxblob": cloud.table}
    found = statement(cloud, "gcp-snp", pieces, references(cloud, "sha256"))
    assert found.decision == "accepted", found.findings
    assert (found.levels.nominal, found.levels.trustworthy) == (3, 2)
    assert layer(found, "boot_chain").needs_provider
    assert "Google" in layer(found, "boot_chain").trusted_parties
    strict = dataclasses.replace(POLICY, accepted_trust=())
    refused = appraise(kinds.verify("gcp-snp", pieces, cloud.context(NONCE)), policy=strict, references=references(cloud, "sha256"))
    assert refused.decision == "refused"


def test_at18_on_aws_the_kernel_is_the_providers_word(cloud, machine):
    pieces = clouds.aws_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at) | {"auxblob": cloud.table}
    found = statement(cloud, "aws-snp", pieces, references(cloud, "sha384"))
    assert found.decision == "accepted", found.findings
    assert (found.levels.nominal, found.levels.trustworthy) == (3, 2)
    assert "AWS" in layer(found, "boot_chain").trusted_parties


@pytest.mark.attack("AT-60", "AWS runs another firmware than it publishes.", "reference.mismatch", "refused")
def test_at60_another_firmware_lowers_the_level_and_is_no_skip(cloud, machine):
    pieces = clouds.aws_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at) | {"auxblob": cloud.table}
    published, kernel = references(cloud, "sha384")
    other = dataclasses.replace(published, value=bytes(48))
    found = statement(cloud, "aws-snp", pieces, (other, kernel))
    assert found.decision == "refused"
    assert layer(found, "firmware").verifiability < 2
    shown = "".join(finding.expected + finding.found for finding in found.findings)
    assert bytes(48).hex()[:16] in shown
    assert published.value.hex()[:16] in shown


def test_at04_on_azure_a_static_report_leaves_the_paravisor_as_root(cloud, machine):
    static = clouds.azure_snp(cloud.guest, machine, NONCE) | {"vcek": (cloud.vcek,)}
    found = statement(cloud, "azure-snp", static, references(cloud, "sha256", strength=Strength.ENDORSED))
    assert found.levels.trustworthy == 0
    assert "azure.report-static" in {caveat.code for caveat in layer(found, "root_of_trust").caveats}
    fresh = clouds.azure_snp(cloud.guest, machine, NONCE, fresh=True) | {"vcek": (cloud.vcek,)}
    assert statement(cloud, "azure-snp", fresh, references(cloud, "sha256", strength=Strength.ENDORSED)).levels.trustworthy == 1


def test_on_an_svsm_the_kernel_rests_on_the_processor_alone(cloud, machine):
    """The host cannot set PCRs here: the vTPM's code is measured, and its EK is in the report."""
    pieces = clouds.svsm_vtpm(cloud.guest, machine, NONCE) | {"auxblob": cloud.table}
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    secret = machine.activate(challenge.credential_blob, challenge.encrypted_secret)
    activation = challenge.answered(binding.credential_answer(secret, NONCE))
    known = references(cloud, "sha256", artifacts={"svsm": bytes(32)})
    found = statement(cloud, "svsm", pieces, known, activation=activation)
    assert found.decision == "accepted", found.findings
    assert (found.levels.nominal, found.levels.trustworthy) == (3, 3)
    assert not layer(found, "vtpm").needs_provider
    without = statement(cloud, "svsm", pieces, known)
    assert without.decision == "indeterminate"
    assert "svsm.activation.missing" in {finding.code for finding in without.findings}
    unknown = statement(cloud, "svsm", pieces, references(cloud, "sha256"), activation=activation)
    assert "vtpm.service-module-unknown" in {finding.code for finding in unknown.findings}


def test_a_shielded_vm_without_tee_is_level_0(cloud, machine):
    pieces = {**clouds.quoted(machine, NONCE, "quote"), "ak-cert": (cloud.pki.ak_certificate(machine.ak_key.public_key(), cloud.at),)}
    found = statement(cloud, "tpm", pieces, references(cloud, "sha256")[1:])
    assert (found.levels.nominal, found.levels.trustworthy) == (0, 0)
    assert found.decision == "refused"
    assert layer(found, "vtpm").verifiability == 1
    assert found.technology is None


def test_a_nitro_document_alone_is_level_0(cloud, machine):
    document = clouds.aws_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at)["document"]
    found = statement(cloud, "nitrotpm", {"document": document}, references(cloud, "sha384")[1:])
    assert (found.levels.nominal, found.levels.trustworthy) == (0, 0)
    assert layer(found, "vtpm").needs_provider
