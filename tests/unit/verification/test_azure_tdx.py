"""Azure with TDX, on real evidence: a full statement, and each link of HCL report, TD quote and vTPM shown to hold it together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.conftest import Vectors

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels, TechnologyRules
from evident.endorsements import anchors, intel
from evident.endorsements.fetcher import RecordingFetcher, StaticFetcher
from evident.errors import Indeterminate, NotAuthentic
from evident.evidence.importers import containers
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.verification import azure_tdx, kinds
from evident.verification.context import Context

CASE = "azure/trustee-tdx-v1"
NONCE = b"challenge"


def pieces(vectors: Vectors) -> dict[str, tuple[bytes, ...]]:
    return dict(containers.expand({"evidence": (vectors.read(CASE, "evidence.json"),)}, keep=frozenset(azure_tdx.ROLES)))


def where(vectors: Vectors, nonce: bytes | None = NONCE) -> Context:
    return Context(datetime.fromisoformat(vectors.facts(CASE)["evaluate_at"]), anchors.production(), StaticFetcher({}), nonce=nonce)


def refused(vectors: Vectors, given: Mapping[str, tuple[bytes, ...]], code: str, step: str) -> None:
    later = dataclasses.replace(where(vectors), at=datetime(2025, 1, 1, tzinfo=UTC))
    with pytest.raises(NotAuthentic) as refusal:
        azure_tdx.verify(given, later)
    assert code in {finding.code for finding in refusal.value.findings}
    passed = azure_tdx.verify(given, later, without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}


def test_a_full_statement(vectors: Vectors) -> None:
    verified = kinds.verify("azure-tdx", pieces(vectors), where(vectors))
    facts = vectors.facts(CASE)
    tee, vtpm = verified.facts.tee, verified.facts.vtpm
    assert tee is not None
    assert vtpm is not None
    assert verified.facts.claims["tdx"]["mrtd"] == facts["tdx"]["mrtd"] == tee.registers["launch"].hex()
    assert {str(index): value.hex() for index, value in vtpm.pcrs["sha256"].items()} == facts["pcrs_sha256"]
    assert (vtpm.location, vtpm.operator, vtpm.anchor) == ("paravisor", "Microsoft", "tee")
    assert verified.facts.freshness.carried_by == "vtpm"
    pcr4 = bytes.fromhex(facts["pcrs_sha256"]["4"])
    said = Provenance("a test", "stated")
    references = (
        ReferenceValue(("firmware",), "launch", tee.registers["launch"], Strength.ENDORSED, "Microsoft", "paravisor", said),
        ReferenceValue(("boot_chain",), "pcr4", pcr4, Strength.RECOMPUTED, "you", "boot", said, algorithm="sha256"),
    )
    policy = Policy(version=1, levels=RequiredLevels(nominal=3), accepted_trust=("Microsoft",))
    statement = appraise(verified, policy=policy, references=references)
    assert statement.technology == "tdx"
    assert {finding.code for finding in statement.findings} == {"tdx.collateral.missing", "tdx.revocation.unknown", "challenge.short"}
    assert statement.decision == "indeterminate", "no collateral of that platform was captured"
    assert statement.levels.nominal == 3
    boot = next(layer for layer in statement.layers if layer.name == "boot_chain")
    assert "Microsoft" in boot.trusted_parties
    strict = Policy(
        version=1, accepted_trust=("Microsoft",), technologies={"tdx": TechnologyRules(settings={"attributes.sept_ve_disable": True})}
    )
    found = appraise(verified, policy=strict, references=references)
    assert "policy.setting" in {finding.code for finding in found.findings}, "Azure's paravisor does not set it"


def test_claims_of_another_report_are_refused(vectors: Vectors) -> None:
    given = pieces(vectors)
    (hcl,) = given["hcl"]
    changed = hcl.replace(b'"secure-boot":true', b'"secure-boot":null')
    assert changed != hcl
    refused(vectors, {**given, "hcl": (changed,)}, "azure.claims", "azure.claims")


def test_the_quote_of_another_machine_is_refused(vectors: Vectors) -> None:
    other = vectors.read("tdx/dcap-qvl-tappd", "quote.bin")
    refused(vectors, {**pieces(vectors), "quote": (other,)}, "azure.claims", "azure.claims")


def test_an_altered_quote_is_refused(vectors: Vectors) -> None:
    given = pieces(vectors)
    (quote,) = given["quote"]
    changed = quote[: 48 + 136] + bytes((quote[48 + 136] ^ 1,)) + quote[48 + 137 :]
    refused(vectors, {**given, "quote": (changed,)}, "tdx.signature", "tdx.signature")


def test_another_challenge_is_refused(vectors: Vectors) -> None:
    with pytest.raises(NotAuthentic) as refusal:
        azure_tdx.verify(pieces(vectors), where(vectors, b"another"))
    assert "tpm.challenge" in {finding.code for finding in refusal.value.findings}


@pytest.mark.parametrize("case", [CASE, "azure/kinvolk-tdx-hcl"])
def test_without_a_quote_nobody_but_that_processor_can_tell(vectors: Vectors, case: str) -> None:
    given: dict[str, Any] = {"hcl": (vectors.read(case, "hcl-report.bin"),)}
    with pytest.raises(Indeterminate) as undecided:
        azure_tdx.verify(given, where(vectors, None))
    assert "azure.quote.missing" in {finding.code for finding in undecided.value.findings}


def test_collateral_of_the_platform_is_asked_for(vectors: Vectors) -> None:
    """By its FMSPC, as for any quote."""

    asked = RecordingFetcher(StaticFetcher({}))
    context = Context(where(vectors).at, anchors.production(), asked, nonce=NONCE)
    azure_tdx.verify(pieces(vectors), context)
    fmspc = bytes.fromhex(vectors.facts(CASE)["tdx"]["fmspc"])
    assert {intel.tcb_info_url(fmspc), intel.qe_identity_url(), intel.ROOT_CRL_URL} <= set(asked.failed)
