"""A vTPM in an SVSM: both ways of binding its EK pass; AT-20 to AT-23 are refused, each by its own step."""

from __future__ import annotations

import hashlib
import os

import pytest

from evident.errors import Malformed, NotAuthentic, UsageError
from evident.evidence import binding, svsm_manifest
from evident.evidence.svsm_manifest import Service
from evident.simulator import clouds
from evident.simulator.vtpm import UNRESTRICTED_ATTRIBUTES, SimulatedTpm
from evident.verification import credential, svsm
from evident.verification.credential import Activation

NONCE = bytes(range(100, 132))


def _activated(machine: SimulatedTpm, nonce: bytes = NONCE) -> Activation:
    """What a verifier has after the guest has answered its credential."""
    challenge = credential.challenge(machine.ek, machine.ak.name, os.urandom)
    secret = machine.activate(challenge.credential_blob, challenge.encrypted_secret)
    return challenge.answered(binding.credential_answer(secret, nonce))


@pytest.fixture(scope="module")
def machine() -> SimulatedTpm:
    return SimulatedTpm()


def _pieces(cloud, machine, **changes):
    return {**clouds.svsm_vtpm(cloud.guest, machine, NONCE), "auxblob": cloud.table, **changes}


def _refused(cloud, pieces, step: str, machine: SimulatedTpm) -> str:
    context = cloud.context(NONCE, activation=_activated(machine))
    with pytest.raises(NotAuthentic) as refused:
        svsm.verify(pieces, context)
    assert {finding.layer for finding in refused.value.findings} == {"vtpm"}
    passed = svsm.verify(pieces, context, without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}
    return refused.value.code


def test_nonce_and_manifest_bind_the_vtpm_for_this_challenge(cloud, machine):
    verified = svsm.verify(_pieces(cloud, machine), cloud.context(NONCE, activation=_activated(machine)))
    vtpm = verified.facts.vtpm
    assert vtpm is not None
    assert (vtpm.location, vtpm.anchor) == ("svsm", "tee")
    assert verified.facts.freshness.carried_by == "tee"
    assert verified.open_points == ()


def test_report_data_that_the_caller_computed_is_compared_too(cloud, machine):
    with pytest.raises(NotAuthentic) as refused:
        svsm.verify(_pieces(cloud, machine), cloud.context(NONCE, activation=_activated(machine), report_data=bytes(64)))
    assert refused.value.code == "svsm.challenge.report-data"


def test_the_ek_alone_binds_the_vtpm_at_boot(cloud, machine):
    """The e-vTPM style (ET-02): the report is of the boot, the quote answers the challenge."""
    pieces = {**clouds.ephemeral_vtpm(cloud.guest, machine, NONCE), "auxblob": cloud.table}
    verified = svsm.verify(pieces, cloud.context(NONCE, activation=_activated(machine)))
    assert verified.facts.freshness.carried_by == "vtpm"
    assert svsm.verify(pieces, cloud.context(None)).facts.freshness.scope == "boot"


def test_without_activation_the_ak_is_nobodys(cloud, machine):
    verified = svsm.verify(_pieces(cloud, machine), cloud.context(NONCE))
    assert [point.code for point in verified.open_points] == ["svsm.activation.missing"]
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.anchor == "none"


@pytest.mark.attack("AT-20", "The guest's kernel asks for the report that names a vTPM's key.", "svsm.privilege")
@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_at20_a_report_asked_for_by_the_guests_kernel_is_refused(cloud, machine, vmpl):
    pieces = {**clouds.svsm_vtpm(cloud.guest, machine, NONCE, vmpl=vmpl), "auxblob": cloud.table}
    assert _refused(cloud, pieces, "svsm.privilege", machine) == "svsm.privilege"


@pytest.mark.attack("AT-23", "The endorsement key of another machine's vTPM is sent with the report.", "svsm.binding")
def test_at23_the_ek_of_another_machine_is_refused(cloud, machine):
    other = SimulatedTpm()
    report = clouds.svsm_vtpm(cloud.guest, machine, NONCE)["report"]
    assert _refused(cloud, _pieces(cloud, other, report=report), "svsm.binding", other) == "svsm.binding"


@pytest.mark.attack("AT-23", "The vTPM of the last boot is passed off as this one's.", "svsm.binding")
def test_et01_every_boot_has_another_ek(cloud):
    """ET-01: an ephemeral vTPM is made anew, so the EK of the last boot is not in this boot's report."""
    last, now = SimulatedTpm(), SimulatedTpm()
    assert last.ek.name != now.ek.name
    report = clouds.ephemeral_vtpm(cloud.guest, now, NONCE)["report"]
    pieces = {**clouds.ephemeral_vtpm(cloud.guest, last, NONCE), "report": report, "auxblob": cloud.table}
    assert _refused(cloud, pieces, "svsm.binding", last) == "svsm.binding"


@pytest.mark.attack("AT-22", "An attestation key in an SVSM's vTPM that signs anything.", "tpm.ak-attributes")
def test_at22_an_ak_that_could_sign_forged_quotes_is_refused(cloud):
    forger = SimulatedTpm(ak_attributes=UNRESTRICTED_ATTRIBUTES)
    assert _refused(cloud, _pieces(cloud, forger), "tpm.ak-attributes", forger) == "tpm.ak-attributes"


def test_at22_an_ak_of_another_tpm_is_left_open_at_best(cloud, machine):
    """The genuine EK with somebody else's AK: bytes cannot tell, activation does, and so it is never accepted."""
    other = SimulatedTpm()
    mixed = {**_pieces(cloud, machine), **clouds.quoted(other, NONCE)}
    assert [point.code for point in svsm.verify(mixed, cloud.context(NONCE)).open_points] == ["svsm.activation.missing"]
    with pytest.raises(NotAuthentic) as refused:
        svsm.verify(mixed, cloud.context(NONCE, activation=_activated(machine)))
    assert refused.value.code == "tpm.activation.ak"
    challenge = credential.challenge(machine.ek, other.ak.name, os.urandom)
    with pytest.raises(NotAuthentic):
        other.activate(challenge.credential_blob, challenge.encrypted_secret)


def test_an_altered_manifest_is_refused(cloud, machine):
    manifest = svsm_manifest.serialize((Service(svsm_manifest.VTPM_GUID, machine.ek.raw), Service(svsm_manifest.MANIFEST_GUID, b"more")))
    assert _refused(cloud, _pieces(cloud, machine, manifest=(manifest,)), "svsm.binding", machine) == "svsm.binding"


def test_another_ek_beside_the_manifest_is_refused(cloud, machine):
    with pytest.raises(NotAuthentic) as refused:
        svsm.verify(_pieces(cloud, machine, ek=(SimulatedTpm().ek.tpm2b,)), cloud.context(NONCE))
    assert refused.value.code == "svsm.ek"


def test_an_svsm_without_vtpm_is_refused(cloud, machine):
    with pytest.raises(NotAuthentic) as refused:
        svsm.verify(_pieces(cloud, machine, manifest=(svsm_manifest.serialize(()),)), cloud.context(NONCE))
    assert refused.value.code == "svsm.manifest.vtpm"


def test_an_ek_is_needed(cloud, machine):
    pieces = _pieces(cloud, machine)
    del pieces["manifest"]
    with pytest.raises(UsageError):
        svsm.verify(pieces, cloud.context(NONCE))


def test_the_manifest_of_the_vtpm_alone_is_its_ek(cloud, machine):
    manifest = machine.ek.raw
    report = cloud.guest.report(svsm.report_data(NONCE, manifest))
    verified = svsm.verify(
        _pieces(cloud, machine, manifest=(manifest,), report=(report,)), cloud.context(NONCE, activation=_activated(machine))
    )
    assert verified.facts.freshness.carried_by == "tee"


def test_the_rules_are_those_of_the_papers(machine):
    """Section 4.8: SHA-512 of 64 nonce bytes and the manifest; the EK with its size prefix."""
    assert svsm.report_data(b"n", b"m") == hashlib.sha512(b"n".ljust(64, b"\0") + b"m").digest()
    assert svsm.report_data(bytes(100), b"m") == hashlib.sha512(hashlib.sha512(bytes(100)).digest() + b"m").digest()
    assert int.from_bytes(machine.ek.tpm2b[:2], "big") == len(machine.ek.raw)


@pytest.mark.parametrize(
    "raw",
    [
        svsm_manifest.serialize((Service(svsm_manifest.VTPM_GUID, b"ek"),))[:-1],
        svsm_manifest.serialize(()) + b"\0",
        svsm_manifest.serialize((Service(svsm_manifest.VTPM_GUID, b"a"), Service(svsm_manifest.VTPM_GUID, b"b"))),
        svsm_manifest.MANIFEST_GUID.bytes_le + bytes(7),
        svsm_manifest.MANIFEST_GUID.bytes_le + (24).to_bytes(4, "little") + (1 << 31).to_bytes(4, "little"),
    ],
)
def test_damaged_manifests_are_refused(raw):
    with pytest.raises(Malformed):
        svsm_manifest.parse(raw)


def test_a_manifest_serialises_back():
    services = (Service(svsm_manifest.VTPM_GUID, b"ek"), Service(svsm_manifest.MANIFEST_GUID, b""))
    parsed = svsm_manifest.parse(svsm_manifest.serialize(services))
    assert parsed.services == services
