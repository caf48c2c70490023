"""Google: the real combined evidence is authentic; a report that names another key is refused; endorsements become reference values."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evident.endorsements import anchors, google, x509
from evident.endorsements.anchors import AnchorSet
from evident.errors import CollateralUnavailable, Indeterminate, Malformed, NotAuthentic
from evident.evidence import cert_table, gce_endorsement, protobuf
from evident.reference_values import endorsed, snp_launch
from evident.reference_values.model import Strength
from evident.reference_values.snp_launch import SnpLaunch
from evident.simulator import clouds
from evident.simulator.vtpm import UNRESTRICTED_ATTRIBUTES, SimulatedTpm
from evident.verification import gcp, kinds
from evident.verification.context import Context

NONCE = bytes(range(100, 132))
CASE = "gcp/reclaim-snp-vtpm-combined"


class Nowhere:
    def fetch(self, url: str, *, limit: int) -> None:
        raise CollateralUnavailable.of("test.offline", expected=f"{limit} bytes of {url}", found="no network", remedy="none")


def real_context(vectors, nonce: bytes | None) -> Context:
    at = datetime.fromisoformat(vectors.facts(CASE)["evaluate_at"].replace("Z", "+00:00")).astimezone(UTC)
    return Context(at=at, anchors=anchors.production(), fetcher=Nowhere(), nonce=nonce)


@pytest.fixture
def commitment(vectors) -> bytes:
    return bytes.fromhex(vectors.facts(CASE)["commitment_sha256"])


def test_the_real_evidence_is_authentic(vectors, commitment):
    verified = kinds.verify("gcp-snp", {"evidence": (vectors.read(CASE, "attestation.pb"),)}, real_context(vectors, commitment))
    facts = vectors.facts(CASE)
    claims = verified.facts.claims
    for name in ("report_version", "policy", "vmpl", "report_data", "measurement", "chip_id", "reported_tcb", "platform_info"):
        assert claims["snp"][name] == facts["snp"][name]
    for stated in facts["quotes"]:
        assert claims["tpm"]["pcrs"][stated["bank"]] == stated["pcrs"]
        assert claims["tpm"]["nonce"] == stated["nonce"]
    vtpm = verified.facts.vtpm
    assert vtpm is not None
    assert (vtpm.location, vtpm.operator, vtpm.anchor) == ("hypervisor", "Google", "tee")
    assert vtpm.instance["project_id"] == "new-reclaim-architecture"
    assert verified.facts.freshness.carried_by == "tee"
    assert gcp.CAVEAT_SOFTWARE_BINDING in verified.facts.caveats


def test_the_same_in_single_files(vectors, commitment):
    from evident.evidence.importers import containers

    opened = containers.read(vectors.read(CASE, "attestation.pb"))
    single = {"report": "snp-report.bin", "vcek": "vcek.der", "ak-cert": "ak_cert.der"}
    pieces = {role: (vectors.read(CASE, name),) for role, name in single.items()}
    pieces |= {role: opened[role] for role in ("tpm-quote", "signature", "pcrs", "ak")}
    issuers = ("ask.der", "ark.der", "gcp_vtpm_ca_intermediate.crt", "gcp_vtpm_ca_root.crt")
    pieces["chain"] = tuple(vectors.read(CASE, name) for name in issuers)
    assert kinds.verify("gcp-snp", pieces, real_context(vectors, commitment)).facts.vtpm is not None


def test_without_the_challenge_nothing_ties_report_and_vtpm(vectors):
    with pytest.raises(Indeterminate) as undecided:
        kinds.verify("gcp-snp", {"evidence": (vectors.read(CASE, "attestation.pb"),)}, real_context(vectors, None))
    assert undecided.value.code == "gcp.binding.missing"


def test_another_challenge_is_refused_in_both_pieces(vectors):
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("gcp-snp", {"evidence": (vectors.read(CASE, "attestation.pb"),)}, real_context(vectors, b"another"))
    assert {finding.code for finding in refused.value.findings} == {"tpm.challenge", "gcp.binding"}


def _pieces(cloud, machine: SimulatedTpm | None = None, **changes):
    pieces = clouds.gcp_snp(cloud.guest, machine or SimulatedTpm(), NONCE, cloud.pki, cloud.at)
    return {**pieces, "auxblob": cloud.table, **changes}


def _refused(cloud, pieces, step: str) -> str:
    with pytest.raises(NotAuthentic) as refused:
        gcp.verify(pieces, cloud.context(NONCE))
    passed = gcp.verify(pieces, cloud.context(NONCE), without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}
    return refused.value.code


def test_a_simulated_machine_passes(cloud):
    verified = gcp.verify(_pieces(cloud), cloud.context(NONCE))
    assert verified.simulated
    assert verified.open_points == ()
    assert "simulated-root" in verified.unsafe


def test_a_test_root_is_refused_where_it_was_not_asked_for(cloud):
    with pytest.raises(NotAuthentic) as refused:
        gcp.verify(_pieces(cloud), cloud.context(NONCE, unsafe=frozenset()))
    assert {"snp.root.simulated", "tpm.ak-certificate.simulated"} <= {finding.code for finding in refused.value.findings}


@pytest.mark.attack("AT-23", "The quote of another Google machine is sent with the report.", "gcp.binding")
def test_at23_the_vtpm_of_another_machine_is_refused(cloud):
    mine, other = SimulatedTpm(), SimulatedTpm()
    report = clouds.gcp_snp(cloud.guest, mine, NONCE, cloud.pki, cloud.at)["report"]
    assert _refused(cloud, _pieces(cloud, other, report=report), "gcp.binding") == "gcp.binding"


def test_at23_the_caller_s_own_report_data_does_not_stand_for_the_binding(cloud):
    """A report over bytes that the verifier computed otherwise is fresh, and still says nothing of the key that quoted."""
    other, wanted = SimulatedTpm(), hashlib.sha512(b"the verifier's own way" + NONCE).digest()
    pieces = _pieces(cloud, other, report=(cloud.guest.report(wanted),))
    with pytest.raises(NotAuthentic) as refused:
        gcp.verify(pieces, cloud.context(NONCE, report_data=wanted))
    assert refused.value.code == "gcp.binding"
    with pytest.raises(NotAuthentic) as foreign:
        gcp.verify(_pieces(cloud), cloud.context(NONCE, report_data=bytes(64)))
    assert foreign.value.code == "gcp.challenge.report-data"


def test_a_simulated_key_beside_real_hardware_shows_in_the_result(cloud):
    hardware = tuple(replace(anchor, simulated=False) for anchor in cloud.scenario.pki.anchors())
    for pieces in (_pieces(cloud), _pieces(cloud, endorsement=(_endorsement(cloud),))):
        verified = gcp.verify(pieces, cloud.context(NONCE, anchors=AnchorSet((*hardware, *cloud.pki.anchors()))))
        assert verified.simulated
        assert verified.unsafe == ("simulated-root",)


@pytest.mark.attack("AT-22", "A Google machine's report names a key that signs anything.", "tpm.ak-attributes")
def test_at22_a_key_that_could_sign_forged_quotes_is_refused(cloud):
    assert _refused(cloud, _pieces(cloud, SimulatedTpm(ak_attributes=UNRESTRICTED_ATTRIBUTES)), "tpm.ak-attributes") == "tpm.ak-attributes"


def test_a_root_that_is_not_pinned_leaves_the_key_unvouched(cloud):
    stranger = cloud.context(NONCE, anchors=AnchorSet(cloud.scenario.pki.anchors()))
    verified = gcp.verify(_pieces(cloud), stranger)
    assert [point.code for point in verified.open_points] == ["tpm.ak-certificate.root"]


FIRMWARE_DIGEST = hashlib.sha384(b"firmware").digest()


def _endorsement(cloud, measurements: dict[int, bytes] | None = None) -> bytes:
    found = measurements or {2: cloud.scenario.start().guest.report(bytes(64))[0x90:0xC0]}
    return cloud.pki.endorsement(FIRMWARE_DIGEST, found, cloud.at)


def test_an_endorsement_of_this_measurement_becomes_a_reference_value(cloud):
    verified = gcp.verify(_pieces(cloud, endorsement=(_endorsement(cloud),)), cloud.context(NONCE))
    assert verified.facts.claims["endorsement"]["vcpus"] == [2]
    (value,) = endorsed.of(verified)
    assert (value.register, value.strength, value.endorser) == ("launch", Strength.ENDORSED, "Google")
    assert value.value == verified.facts.tee.registers["launch"]


def test_an_endorsement_of_another_measurement_is_remarked_and_matches_nothing(cloud):
    verified = gcp.verify(_pieces(cloud, endorsement=(_endorsement(cloud, {4: bytes(48)}),)), cloud.context(NONCE))
    assert gcp.CAVEAT_NOT_ENDORSED in verified.facts.caveats
    assert [value.value for value in endorsed.of(verified)] == [bytes(48)]


@pytest.mark.attack("AT-60", "A launch endorsement is altered.", "endorsement.signature")
def test_a_forged_endorsement_is_refused(cloud):
    envelope = protobuf.parse(_endorsement(cloud), "x")
    golden = envelope.one_bytes(1).replace(FIRMWARE_DIGEST, bytes(48))
    forged = protobuf.encode(((1, golden), (2, envelope.one_bytes(2))))
    assert _refused(cloud, _pieces(cloud, endorsement=(forged,)), "gcp.endorsement") == "endorsement.signature"


@pytest.mark.attack("AT-60", "Somebody else than Google signs a launch endorsement.", "endorsement.root")
def test_an_endorsement_by_somebody_else_is_refused(cloud):
    from evident.simulator.cloud_pki import CloudPki

    stranger = CloudPki(cloud.at - timedelta(days=1)).endorsement(FIRMWARE_DIGEST, {2: bytes(48)}, cloud.at)
    code = _refused(cloud, _pieces(cloud, endorsement=(stranger,)), "gcp.endorsement")
    assert code in {"x509.signature", "endorsement.root"}
    parsed = gce_endorsement.parse(stranger)
    with pytest.raises(NotAuthentic) as refused:
        google.verify(parsed, (x509.parse(cloud.pki.tcb_root),), anchors.production(), cloud.at)
    assert refused.value.code == "endorsement.root"


def test_without_googles_root_an_endorsement_is_left_open(cloud):
    rootless = cloud.context(NONCE, anchors=AnchorSet(item for item in cloud.context().anchors if item.purpose != google.PURPOSE))
    verified = gcp.verify(_pieces(cloud, endorsement=(_endorsement(cloud),)), rootless)
    assert [point.code for point in verified.open_points] == ["endorsement.root.missing"]
    assert endorsed.of(verified) == ()


def test_an_endorsement_comes_in_the_certificate_table_too(cloud):
    from uuid import UUID

    raw, table = _endorsement(cloud), cloud.table[0]
    entries = [(entry.guid, entry.content) for entry in cert_table.parse(table).entries] + [(gcp.ENDORSEMENT_GUID, raw)]
    offset, rows, contents = 24 * (len(entries) + 1), b"", b""
    for guid, content in entries:
        rows += UUID(int=guid.int).bytes + (offset + len(contents)).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        contents += content
    verified = gcp.verify(_pieces(cloud, auxblob=(rows + bytes(24) + contents,)), cloud.context(NONCE))
    assert verified.facts.claims["endorsement"]["vcpus"] == [2]


def test_an_expired_endorsement_key_is_refused(cloud):
    parsed = gce_endorsement.parse(_endorsement(cloud))
    with pytest.raises(NotAuthentic) as refused:
        google.verify(parsed, (), AnchorSet(cloud.pki.anchors()), cloud.at + timedelta(days=9999))
    assert refused.value.code == "x509.expired"


def test_the_endorsed_binary_is_recomputed(cloud):
    """Degree 3: the binary, not Google's word, gives the value; another binary gives none."""
    firmware = cloud.scenario.owner.firmware
    measurement = snp_launch.predict(SnpLaunch(firmware, vcpus=2, vmm="gce"))
    raw = cloud.pki.endorsement(hashlib.sha384(firmware).digest(), {2: measurement, 4: bytes(48)}, cloud.at)
    verified = google.verify(gce_endorsement.parse(raw), (), AnchorSet(cloud.pki.anchors()), cloud.at)
    values = endorsed.snp_values(verified, firmware, measured=measurement)
    assert [(value.strength, value.endorser) for value in values if value.value == measurement] == [
        (Strength.ENDORSED, "Google"),
        (Strength.RECOMPUTED, "you"),
    ]
    assert {value.strength for value in endorsed.snp_values(verified, firmware + b"\0", measured=measurement)} == {Strength.ENDORSED}


def test_an_endorsement_that_is_none_is_malformed(cloud):
    with pytest.raises(Malformed):
        gcp.verify(_pieces(cloud, endorsement=(b"\xff",)), cloud.context(NONCE))
