"""AWS: real Nitro documents are authentic in their three hours; altered and foreign ones are refused; report and document are tied."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.evidence.test_ima_log import an_entry
from tests.unit.verification.test_tpm_ima import booted

from evident.endorsements import anchors
from evident.errors import CollateralUnavailable, Indeterminate, NotAuthentic, Unsupported, UsageError
from evident.evidence import binding, cose, nitro
from evident.simulator import clouds
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import aws, kinds
from evident.verification import nitro as nitro_procedure
from evident.verification.context import Context

NONCE = bytes(range(100, 132))
DOCUMENTS = {
    "aws/reclaim-nitrotpm-doc": ("nitrotpm", "nitrotpm.cose"),
    "aws/evervault-enclave-2022": ("nitro-enclave", "doc.cose"),
    "aws/evervault-enclave-debug": ("nitro-enclave", "doc.cose"),
    "aws/dstack-enclave-2025": ("nitro-enclave", "doc.cose"),
    "aws/dstack-enclave-app": ("nitro-enclave", "doc.cose"),
}


class Nowhere:
    def fetch(self, url: str, *, limit: int) -> None:
        raise CollateralUnavailable.of("test.offline", expected=f"{limit} bytes of {url}", found="no network", remedy="none")


def context(at: str | datetime, nonce: bytes | None = None) -> Context:
    when = at if isinstance(at, datetime) else datetime.fromisoformat(at.replace("Z", "+00:00")).astimezone(UTC)
    return Context(at=when, anchors=anchors.production(), fetcher=Nowhere(), nonce=nonce)


@pytest.mark.parametrize("case", DOCUMENTS)
def test_real_documents_are_authentic(vectors, case):
    kind, name = DOCUMENTS[case]
    facts = vectors.facts(case)
    nonce = bytes.fromhex(facts["nonce"]) or None
    verified = kinds.verify(kind, {"document": (vectors.read(case, name),)}, context(facts["evaluate_at"], nonce))
    for member in (
        "kind",
        "module_id",
        "timestamp_ms",
        "digest",
        "pcrs",
        "user_data",
        "nonce",
        "public_key",
        "cose_algorithm",
        "root_sha256",
    ):
        assert verified.facts.claims[member] == facts[member]
    assert {point.code for point in verified.open_points} == (set() if nonce else {"nitro.challenge.missing"})
    assert verified.facts.technology is None
    assert verified.facts.tee is None
    assert ("nitro.debug-mode" in verified.facts.caveats) is ("debug" in case)
    if kind == "nitrotpm":
        assert verified.facts.vtpm is not None
        assert (verified.facts.vtpm.location, verified.facts.vtpm.operator) == ("hypervisor", "AWS")
        assert {str(index): value.hex() for index, value in verified.facts.vtpm.pcrs["sha384"].items()} == facts["pcrs"]


@pytest.mark.parametrize("case", DOCUMENTS)
def test_the_leaf_lives_three_hours(vectors, case):
    kind, name = DOCUMENTS[case]
    pieces = {"document": (vectors.read(case, name),)}
    begin, end = (datetime.fromisoformat(text) for text in vectors.facts(case)["leaf_validity"])
    with pytest.raises(NotAuthentic) as late:
        kinds.verify(kind, pieces, context(end + timedelta(seconds=1)))
    assert late.value.code == "x509.expired"
    with pytest.raises(NotAuthentic) as early:
        kinds.verify(kind, pieces, context(begin - timedelta(minutes=10)))
    assert {"x509.not-yet-valid", "nitro.timestamp"} <= {finding.code for finding in early.value.findings}


def test_an_enclave_is_not_the_machine(vectors):
    case = "aws/dstack-enclave-app"
    with pytest.raises(Unsupported) as refused:
        kinds.verify("nitrotpm", {"document": (vectors.read(case, "doc.cose"),)}, context(vectors.facts(case)["evaluate_at"]))
    assert refused.value.code == "nitro.kind"


def _refused(vectors, raw: bytes, step: str, nonce: bytes | None = None) -> str:
    at = vectors.facts("aws/reclaim-nitrotpm-doc")["evaluate_at"]
    with pytest.raises(NotAuthentic) as refused:
        nitro_procedure.verify_document("nitrotpm", {"document": (raw,)}, context(at, nonce), without=frozenset())
    passed = nitro_procedure.verify_document("nitrotpm", {"document": (raw,)}, context(at, nonce), without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}
    return refused.value.code


def test_an_altered_register_is_refused(vectors):
    raw = vectors.read("aws/reclaim-nitrotpm-doc", "nitrotpm.cose")
    value = nitro.parse(raw).pcrs[4]
    altered = raw.replace(value, bytes([value[0] ^ 1]) + value[1:], 1)
    assert _refused(vectors, altered, "nitro.signature") == "nitro.signature"


@pytest.mark.attack("AT-05", "An old NitroTPM document is sent again.", "nitro.challenge")
def test_another_challenge_is_refused(vectors):
    raw = vectors.read("aws/reclaim-nitrotpm-doc", "nitrotpm.cose")
    assert _refused(vectors, raw, "nitro.challenge", b"another") == "nitro.challenge"


@pytest.mark.attack("AT-39", "Somebody else than AWS signs a NitroTPM document.", "nitro.root")
def test_a_root_of_somebody_else_is_refused(vectors):
    at = datetime.fromisoformat(vectors.facts("aws/reclaim-nitrotpm-doc")["evaluate_at"])
    stranger = CloudPki(at - timedelta(days=1)).nitro_document({0: bytes(48)}, NONCE, at)
    assert _refused(vectors, stranger, "nitro.root") == "nitro.root"


def test_a_document_older_than_its_certificate_is_refused(cloud):
    """The timestamp is the signer's; a certificate that was not born yet did not sign then."""
    document = nitro.parse(cloud.pki.nitro_document({0: bytes(48)}, NONCE, cloud.at))
    late = cloud.context(NONCE, at=document.made_at - timedelta(hours=1))
    with pytest.raises(NotAuthentic) as refused:
        nitro_procedure.verify_document("nitrotpm", {"document": (document.sign1.raw,)}, late, without=frozenset({"nitro.validity"}))
    assert refused.value.code == "nitro.timestamp"


def _pieces(cloud, **changes):
    return {**clouds.aws_snp(cloud.guest, SimulatedTpm(), NONCE, cloud.pki, cloud.at), "auxblob": cloud.table, **changes}


def test_report_and_document_together_pass(cloud):
    verified = aws.verify(_pieces(cloud), cloud.context(NONCE))
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.location == "hypervisor"
    assert verified.facts.freshness.scope == "challenge"
    assert aws.CAVEAT_SOFTWARE_BINDING in verified.facts.caveats
    assert {"snp", "nitrotpm"} == set(verified.facts.claims)
    assert verified.open_points == ()


@pytest.mark.attack("AT-23", "The NitroTPM document of another machine is sent with the report.", "aws.binding")
def test_at23_the_document_of_another_machine_is_refused(cloud):
    other = cloud.pki.nitro_document({4: b"\xaa" * 48}, NONCE, cloud.at)
    mixed = _pieces(cloud, document=(other,))
    with pytest.raises(NotAuthentic) as refused:
        aws.verify(mixed, cloud.context(NONCE))
    assert [(finding.code, finding.layer) for finding in refused.value.findings] == [("aws.binding", "vtpm")]
    passed = aws.verify(mixed, cloud.context(NONCE), without=frozenset({"aws.binding"}))
    assert "aws.binding" in passed.required - {record.id for record in passed.steps}


def test_at23_the_caller_s_own_report_data_does_not_stand_for_the_binding(cloud):
    """A report over bytes that the verifier computed otherwise is fresh, and still says nothing of the document."""
    wanted = hashlib.sha512(b"the verifier's own way" + NONCE).digest()
    with pytest.raises(NotAuthentic) as refused:
        aws.verify(_pieces(cloud, report=(cloud.guest.report(wanted),)), cloud.context(NONCE, report_data=wanted))
    assert refused.value.code == "aws.binding"
    with pytest.raises(NotAuthentic) as foreign:
        aws.verify(_pieces(cloud), cloud.context(NONCE, report_data=bytes(64)))
    assert foreign.value.code == "aws.challenge.report-data"


def test_without_the_challenge_nothing_ties_report_and_document(cloud):
    with pytest.raises(Indeterminate) as undecided:
        aws.verify(_pieces(cloud), cloud.context(None))
    assert undecided.value.code == "aws.binding.challenge-missing"


def test_real_pieces_of_two_machines_are_refused(vectors):
    pieces = {
        "evidence": (vectors.read("aws/reclaim-vlek-v5", "attestation.pb"),),
        "document": (vectors.read("aws/reclaim-nitrotpm-doc", "nitrotpm.cose"),),
    }
    facts = vectors.facts("aws/reclaim-nitrotpm-doc")
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("aws-snp", pieces, context(facts["evaluate_at"], bytes.fromhex(facts["nonce"])))
    assert [finding.code for finding in refused.value.findings] == ["aws.binding"]


def test_a_report_is_needed(cloud):
    with pytest.raises(UsageError):
        aws.verify({"document": _pieces(cloud)["document"]}, cloud.context(NONCE))


def test_the_signed_structure_is_that_of_the_standard():
    """RFC 9052 section 4.4: the context string, the protected header, no external data, the payload."""
    sign1 = cose.Sign1(b"\xa1\x01\x38\x22", cose.ES384, b"payload", bytes(96), False, b"")
    assert sign1.to_be_signed == b"\x84\x6aSignature1\x44\xa1\x01\x38\x22\x40\x47payload"


def test_a_report_in_go_sev_guests_protobuf_is_a_report(vectors):
    case = "aws/reclaim-vlek-v5"
    pieces = {"evidence": (vectors.read(case, "attestation.pb"),)}
    verified = kinds.verify("snp", pieces, context(vectors.facts(case)["evaluate_at"]))
    assert verified.facts.claims["measurement"] == vectors.facts(case)["measurement"]


LOG_CASE = "eventlog/go-attestation-coreos36"


def _booted(vectors) -> tuple[SimulatedTpm, bytes]:
    """A NitroTPM with the registers of a real boot, whose log has a SHA-384 bank, and that log."""
    raw = vectors.read(LOG_CASE, "binary_bios_measurements")
    machine = SimulatedTpm()
    for index, value in vectors.facts(LOG_CASE)["computed_pcrs"]["sha384"].items():
        machine.set_pcr("sha384", int(index), bytes.fromhex(value))
    return machine, raw


def test_the_log_beside_a_nitrotpm_document_tells_the_boot(cloud, vectors):
    machine, raw = _booted(vectors)
    pieces = clouds.aws_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at) | {"auxblob": cloud.table, "log": (raw,)}
    verified = aws.verify(pieces, cloud.context(NONCE))
    assert verified.facts.boot is not None
    assert verified.facts.boot.measured_by == "vtpm"
    assert {"bootloader", "kernel"} <= {stage.name for stage in verified.facts.boot.stages}
    assert verified.facts.claims["nitrotpm"]["log"]["bank"] == "sha384"
    alone = kinds.verify("nitrotpm", {"document": pieces["document"], "log": (raw,)}, cloud.context(NONCE))
    assert alone.facts.boot == verified.facts.boot


@pytest.mark.attack("AT-54", "The log of another boot is sent with a NitroTPM document.", "log.replay")
def test_the_log_of_another_boot_is_refused(cloud, vectors):
    machine, raw = _booted(vectors)
    machine.set_pcr("sha384", 4, bytes(48))
    pieces = clouds.aws_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at) | {"auxblob": cloud.table, "log": (raw,)}
    with pytest.raises(NotAuthentic) as refused:
        aws.verify(pieces, cloud.context(NONCE))
    assert {finding.layer for finding in refused.value.findings} == {"boot_chain"}
    assert refused.value.code == "log.replay"
    assert aws.verify(pieces, cloud.context(NONCE), without=frozenset({"nitro.log"})).facts.boot is None


def _ran(cloud, *lines: bytes):
    machine, listed = booted(an_entry("/bin/sh"), *lines)
    return clouds.aws_snp(cloud.guest, machine, NONCE, cloud.pki, cloud.at) | {"auxblob": cloud.table, "ima": (listed,)}


def test_the_ima_list_beside_a_nitrotpm_document_tells_userspace(cloud):
    verified = aws.verify(_ran(cloud), cloud.context(NONCE))
    assert verified.facts.runtime is not None
    assert (verified.facts.runtime.entries, verified.facts.runtime.violations) == (1, 0)
    assert "ima.boot-aggregate-undecided" in verified.facts.caveats, "the document has no SHA-256 registers"


@pytest.mark.attack("AT-35", "An entry is taken out of an IMA list sent with a NitroTPM document.", "ima.replay")
def test_an_edited_list_is_refused(cloud):
    pieces = _ran(cloud, an_entry("/opt/tool"))
    edited = b"".join(line for line in pieces["ima"][0].splitlines(keepends=True) if b"/bin/sh" not in line)
    with pytest.raises(NotAuthentic) as refused:
        aws.verify({**pieces, "ima": (edited,)}, cloud.context(NONCE))
    assert [(finding.code, finding.layer) for finding in refused.value.findings] == [("ima.replay", "userspace")]
    assert aws.verify({**pieces, "ima": (edited,)}, cloud.context(NONCE), without=frozenset({"nitro.ima"})).facts.runtime is None


def test_an_expired_document_concerns_the_vtpm(vectors):
    raw = vectors.read("aws/reclaim-nitrotpm-doc", "nitrotpm.cose")
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("nitrotpm", {"document": (raw,)}, context("2026-11-22T00:00:00Z"))
    assert [(finding.code, finding.layer) for finding in refused.value.findings] == [("x509.expired", "vtpm")]


def test_an_enclave_has_no_log(vectors):
    pieces = {"document": (vectors.read("aws/dstack-enclave-2025", "doc.cose"),), "log": (b"x",)}
    with pytest.raises(UsageError):
        kinds.verify("nitro-enclave", pieces, context("2025-12-25T13:15:38Z"))


@pytest.mark.attack("AT-02", "The document of one machine comes with the key of another.", "nitro.key")
def test_the_document_names_the_machines_key(cloud):
    """Without the step a key that nothing names passes for the machine's."""
    own, other = b"own key", b"another's"
    pieces = clouds.aws_snp(cloud.guest, SimulatedTpm(), NONCE, cloud.pki, cloud.at, key=own) | {"auxblob": cloud.table}
    verified = kinds.verify("aws-snp", {**pieces, "key": (own,)}, cloud.context(NONCE))
    assert verified.facts.bound_key == binding.key_digest(own)
    with pytest.raises(NotAuthentic, match=r"nitro\.key"):
        kinds.verify("aws-snp", {**pieces, "key": (other,)}, cloud.context(NONCE))
    unchecked = aws.verify({**pieces, "key": (other,)}, cloud.context(NONCE), without=frozenset({"nitro.key"}))
    assert unchecked.facts.bound_key == binding.key_digest(own)
