"""Azure: real evidence is authentic and says what the manifest says; AT-04, AT-19, AT-23 are refused, and pass without their step."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from evident.endorsements import anchors
from evident.errors import CollateralUnavailable, Indeterminate, Malformed, NotAuthentic, Unsupported, UsageError
from evident.evidence import azure_hcl
from evident.evidence.tpm_algorithms import ALG_RSASSA, ALG_SHA256
from evident.evidence.tpm_public import Scheme
from evident.simulator import clouds
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import azure_snp, kinds
from evident.verification.context import Context

NONCE = bytes(range(100, 132))


class Nowhere:
    def fetch(self, url: str, *, limit: int) -> None:
        raise CollateralUnavailable.of("test.offline", expected=f"{limit} bytes of {url}", found="no network", remedy="none")


def context(case_facts: dict, nonce: bytes | None) -> Context:
    at = datetime.fromisoformat(case_facts["evaluate_at"].replace("Z", "+00:00"))
    return Context(at=at.astimezone(UTC), anchors=anchors.production(), fetcher=Nowhere(), nonce=nonce)


RAW = {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": "quote.msg", "signature": "quote.sig", "pcrs": "tpm-quote-v1.json"}
GOOD = {
    "azure/trustee-snp-milan-v1": [{"evidence": "evidence.json"}, {"evidence": "evidence-v0.json"}],
    "azure/trustee-snp-milan-userdata": [{"evidence": "evidence.json"}],
    "azure/trustee-snp-milan-v2-raw": [RAW, {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "evidence": "quote.bin"}],
    "azure/attestation-rs-snp-live": [{"evidence": "evidence.json"}, {"evidence": "evidence.json", "chain": "imds-ask.der"}],
    "azure/trustee-tdx-v1": [{"evidence": "evidence.json"}],
}


def _kind(case: str) -> str:
    return "azure-tdx" if "tdx" in case else "azure-snp"


def _nonce(facts: dict) -> bytes | None:
    return bytes.fromhex(facts["tpm_quote"]["nonce"]) if "tpm_quote" in facts else None


@pytest.mark.parametrize(("case", "files"), [(case, files) for case, forms in GOOD.items() for files in forms])
def test_real_evidence_is_authentic(vectors, case, files):
    facts = vectors.facts(case)
    pieces = {role: (vectors.read(case, name),) for role, name in files.items()}
    verified = kinds.verify(_kind(case), pieces, context(facts, _nonce(facts)))
    assert verified.facts.freshness.scope == "challenge"
    codes = {point.code for point in verified.open_points}
    assert ("challenge.short" in codes) is (len(_nonce(facts)) < kinds.LEAST_CHALLENGE)
    assert {code.split(".")[0] for code in codes - {"challenge.short"}} <= {"snp", "tdx"}  # no CRL, no collateral at hand
    claims = verified.facts.claims
    for name in ("hcl_version", "hcl_report_size", "report_type", "hash_type", "claims_len", "claims_sha256", "key_ids"):
        assert claims["hcl"][name] == facts[name]
    assert claims["hcl"]["claims_other"]["vm-configuration"] == facts["claims_other"]["vm-configuration"]
    assert claims["tpm"]["nonce"] == facts["tpm_quote"]["nonce"]
    assert claims["tpm"]["pcr_selection"] == facts["tpm_quote"]["pcr_selection"]
    if "peer_stated" in facts:
        assert claims["tpm"]["pcrs"]["sha256"]["0"] == facts["peer_stated"]["pcr00"]
    hardware = claims["snp" if "snp" in facts else "tdx"]
    for name in ("measurement", "report_data", "chip_id", "reported_tcb", "policy", "mrtd", "mrseam"):
        if name in facts.get("snp", facts.get("tdx")):
            assert hardware[name] == facts.get("snp", facts.get("tdx"))[name]
    vtpm = verified.facts.vtpm
    assert vtpm is not None
    assert (vtpm.location, vtpm.anchor, vtpm.operator) == ("paravisor", "tee", "Microsoft")


@pytest.mark.parametrize("case", ["azure/trustee-tdx-v1", "azure/attestation-rs-snp-live"])
def test_pcr_values_are_those_of_the_manifest(vectors, case):
    facts = vectors.facts(case)
    verified = kinds.verify(_kind(case), {"evidence": (vectors.read(case, "evidence.json"),)}, context(facts, _nonce(facts)))
    assert verified.facts.claims["tpm"]["pcrs"]["sha256"] == facts["pcrs_sha256"]


def test_a_report_made_at_boot_says_so_and_a_fresh_one_does_not(vectors):
    static = "azure/trustee-snp-milan-v1"
    verified = kinds.verify(
        "azure-snp", {"evidence": (vectors.read(static, "evidence.json"),)}, context(vectors.facts(static), b"challenge")
    )
    assert verified.facts.freshness.carried_by == "vtpm"
    assert "azure.report-static" in verified.facts.caveats
    fresh = "azure/trustee-snp-milan-userdata"
    facts = vectors.facts(fresh)
    verified = kinds.verify("azure-snp", {"evidence": (vectors.read(fresh, "evidence.json"),)}, context(facts, _nonce(facts)))
    assert verified.facts.freshness.carried_by == "tee"
    assert "azure.report-static" not in verified.facts.caveats


def test_the_quote_of_another_ak_is_refused_at_the_vtpm(vectors):
    case = "azure/trustee-snp-quote-of-another-ak"
    names = {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": "tpm-quote.msg", "signature": "tpm-quote.sig"}
    pieces = {role: (vectors.read(case, name),) for role, name in names.items()}
    at = vectors.facts("azure/trustee-snp-milan-v2-raw")
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("azure-snp", pieces, context(at, b"challenge"))
    assert [(finding.code, finding.layer) for finding in refused.value.findings] == [("tpm.signature", "vtpm")]


def test_a_vcek_of_another_chip_is_refused_at_the_root(vectors):
    case = "azure/kinvolk-snp-hcl-2023"
    pieces = {"hcl": (vectors.read(case, "hcl-report.bin"),), "vcek": (vectors.read(case, "certs.pem"),)}
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("azure-snp", pieces, context(vectors.facts(case), None))
    assert {finding.layer for finding in refused.value.findings} == {"root_of_trust"}
    assert "snp.signature" in {finding.code for finding in refused.value.findings}


def test_a_tdreport_without_quote_cannot_be_decided(vectors):
    pieces = {"hcl": (vectors.read("azure/kinvolk-tdx-hcl", "hcl-report.bin"),)}
    at = {"evaluate_at": "2025-01-01T00:00:00Z"}
    with pytest.raises(Indeterminate) as undecided:
        kinds.verify("azure-tdx", pieces, context(at, None))
    assert undecided.value.code == "azure.quote.missing"
    with pytest.raises(Unsupported) as other:
        kinds.verify("azure-snp", pieces, context(at, None))
    assert other.value.code == "azure.technology"


MUTATIONS = {
    # What the peer's own negative tests alter in the same file, and the code that names it here.
    "report byte 0x1a6": ("hcl", 0x1A6, None, NotAuthentic, "snp.tcb"),
    "claims byte": ("hcl", 0x6E0, None, NotAuthentic, "azure.claims"),
    "quote signature": ("signature", 0, None, NotAuthentic, "tpm.signature"),
    "first PCR": ("pcrs", None, (b"f3a7", b"f3a8"), NotAuthentic, "tpm.pcr-digest"),
    "nonce": ("tpm-quote", None, (b"challenge", b"egnellahc"), NotAuthentic, "tpm.signature"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_altered_byte_is_refused_at_its_step(vectors, name):
    role, at, swap, kind, code = MUTATIONS[name]
    case = "azure/trustee-snp-milan-v2-raw"
    pieces = {piece: vectors.read(case, file) for piece, file in RAW.items()}
    raw = bytearray(pieces[role])
    if at is not None:
        raw[at] ^= 1
    altered = bytes(raw) if swap is None else bytes(raw).replace(*swap, 1)
    assert altered != pieces[role]
    with pytest.raises(kind) as refused:
        kinds.verify("azure-snp", {r: (c,) for r, c in (pieces | {role: altered}).items()}, context(vectors.facts(case), b"challenge"))
    assert code in {finding.code for finding in refused.value.findings}


def _machine() -> SimulatedTpm:
    return SimulatedTpm(ak_key=rsa.generate_private_key(65537, 2048), ak_scheme=Scheme(ALG_RSASSA, ALG_SHA256))


def _refused(cloud, pieces, step: str, **changes) -> str:
    with pytest.raises(NotAuthentic) as refused:
        azure_snp.verify(pieces, cloud.context(NONCE, **changes))
    passed = azure_snp.verify(pieces, cloud.context(NONCE, **changes), without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}
    return refused.value.code


@pytest.fixture(scope="module")
def machine() -> SimulatedTpm:
    return _machine()


def test_a_simulated_machine_passes(cloud, machine):
    pieces = clouds.azure_snp(cloud.guest, machine, NONCE) | {"vcek": (cloud.vcek,)}
    verified = azure_snp.verify(pieces, cloud.context(NONCE))
    assert verified.simulated
    assert verified.open_points == ()
    assert verified.revocation == "good"
    fresh = clouds.azure_snp(cloud.guest, machine, NONCE, fresh=True) | {"vcek": (cloud.vcek,)}
    assert azure_snp.verify(fresh, cloud.context(NONCE)).facts.freshness.carried_by == "tee"


def test_report_data_that_the_caller_computed_is_compared_too(cloud, machine):
    pieces = clouds.azure_snp(cloud.guest, machine, NONCE) | {"vcek": (cloud.vcek,)}
    signed = azure_hcl.parse(pieces["hcl"][0]).expected_report_data
    assert azure_snp.verify(pieces, cloud.context(NONCE, report_data=signed)).open_points == ()
    assert _refused(cloud, pieces, "azure.challenge", report_data=bytes(64)) == "azure.challenge.report-data"


@pytest.mark.attack("AT-04", "Azure's report of the boot is sent alone, for any challenge.", "azure.challenge")
def test_at04_an_old_report_alone_answers_no_challenge(cloud, machine):
    pieces = {"hcl": (clouds.hcl_report(cloud.guest, machine),), "vcek": (cloud.vcek,)}
    assert _refused(cloud, pieces, "azure.challenge") == "azure.challenge"


@pytest.mark.attack("AT-04", "Azure's report of the boot is sent with an old quote.", "tpm.challenge")
def test_at04_an_old_quote_is_refused(cloud, machine):
    pieces = clouds.azure_snp(cloud.guest, machine, b"of yesterday") | {"vcek": (cloud.vcek,)}
    assert _refused(cloud, pieces, "tpm.challenge") == "tpm.challenge"


@pytest.mark.attack("AT-19", "The guest writes another authentic report into the vTPM's index.", "azure.claims")
def test_at19_another_report_in_the_index_does_not_speak_for_the_key(cloud, machine):
    """AT-19: the guest's root overwrites the NV index: an authentic report, and claims that it does not bind."""
    genuine, forger = clouds.hcl_report(cloud.guest, machine), _machine()
    forged = azure_hcl.parse(clouds.hcl_report(cloud.other_guest, forger))
    spliced = azure_hcl.serialize(
        azure_hcl.HclReport(**{name: getattr(forged, name) for name in azure_hcl.HclReport.__slots__ if name != "hardware_report"},
                            hardware_report=azure_hcl.parse(genuine).hardware_report)
    )  # fmt: skip
    pieces = clouds.azure_snp(cloud.other_guest, forger, NONCE) | {"hcl": (spliced,), "vcek": (cloud.vcek,)}
    assert _refused(cloud, pieces, "azure.claims") == "azure.claims"


@pytest.mark.attack("AT-23", "The quote of another Azure machine is sent with the report.", "tpm.signature")
def test_at23_the_quote_of_another_machine_is_refused(cloud, machine):
    pieces = {
        **clouds.azure_snp(cloud.guest, _machine(), NONCE),
        "hcl": (clouds.hcl_report(cloud.guest, machine),),
        "vcek": (cloud.vcek,),
    }
    assert _refused(cloud, pieces, "tpm.signature") == "tpm.signature"


def test_an_ak_certificate_must_be_for_the_key_in_the_claims(cloud, machine):
    pieces = clouds.azure_snp(cloud.guest, machine, NONCE) | {"vcek": (cloud.vcek,)}
    good = cloud.pki.ak_certificate(machine.ak_key.public_key(), cloud.at)
    verified = azure_snp.verify(pieces | {"ak-cert": (good,)}, cloud.context(NONCE))
    assert "azure.ak-certificate" in {step.id for step in verified.steps}
    other = cloud.pki.ak_certificate(_machine().ak_key.public_key(), cloud.at)
    assert _refused(cloud, pieces | {"ak-cert": (other,)}, "tpm.ak-key") == "tpm.ak-key"


def test_an_ak_certificate_of_a_test_root_is_refused_where_no_simulator_was_asked_for(cloud, machine):
    pieces = clouds.azure_snp(cloud.guest, machine, NONCE) | {"vcek": (cloud.vcek,)}
    made_up = cloud.pki.ak_certificate(machine.ak_key.public_key(), cloud.at)
    with pytest.raises(NotAuthentic) as refused:
        azure_snp.verify(pieces | {"ak-cert": (made_up,)}, cloud.context(NONCE, unsafe=frozenset()))
    assert {"snp.root.simulated", "azure.ak-certificate.simulated"} <= {finding.code for finding in refused.value.findings}


def test_the_public_area_of_the_ak_is_judged_where_given(cloud, machine):
    pieces = clouds.azure_snp(cloud.guest, machine, NONCE) | {"vcek": (cloud.vcek,), "ak": (machine.ak.tpm2b,)}
    verified = azure_snp.verify(pieces, cloud.context(NONCE))
    assert {"tpm.ak-attributes", "tpm.ak-name"} <= {step.id for step in verified.steps}
    assert "vtpm.ak-attributes-by-paravisor" not in verified.facts.caveats


def test_a_piece_beside_a_container_must_be_the_same(vectors):
    case = "azure/trustee-snp-milan-v1"
    evidence = vectors.read(case, "evidence.json")
    hcl = base64.urlsafe_b64decode(json.loads(evidence)["hcl_report"] + "==")
    both = {"evidence": (evidence,), "hcl": (hcl,)}
    assert kinds.verify("azure-snp", both, context(vectors.facts(case), b"challenge")).facts.tee is not None
    with pytest.raises(UsageError):
        kinds.verify("azure-snp", both | {"hcl": (hcl + b"\0",)}, context(vectors.facts(case), b"challenge"))


@pytest.mark.parametrize("name", ["tpm-quote-v1.json", "quote.bin"])
def test_a_quote_of_another_tool_may_stand_for_its_parts(vectors, name):
    case = "azure/trustee-snp-milan-v2-raw"
    files = {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": name}
    pieces = {role: (vectors.read(case, file),) for role, file in files.items()}
    assert kinds.verify("azure-snp", pieces, context(vectors.facts(case), b"challenge")).facts.vtpm is not None


@pytest.mark.parametrize("raw", [b"{}", b'{"hcl_report":5}', b'{"tpm_quote":{"message":"zz"}}', b"[]", b"\0" * 40, b'{"evidence":[]}'])
def test_containers_that_are_none_are_refused(cloud, raw):
    with pytest.raises(Malformed):
        azure_snp.verify({"evidence": (raw,)}, cloud.context(NONCE))
