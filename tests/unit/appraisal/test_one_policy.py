"""One policy file appraises an SNP and a TDX machine: the page's own example, over real evidence, rule by rule."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Vectors

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RevocationRule, TechnologyRules
from evident.appraisal.statement import TrustStatement
from evident.cli.documents import read_policy
from evident.endorsements import anchors
from evident.endorsements.fetcher import StaticFetcher
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.simulator.tdx import Platform, TdxPki, TrustDomain, qe_identity, tcb_info
from evident.verification import kinds
from evident.verification.context import Context
from evident.verification.verified import Verified

PAGE = Path(__file__).resolve().parents[3] / "docs" / "policy.md"
SNP, TDX = "snp/attestation-rs-genoa-v5", "tdx/dcap-qvl-near"
FILES = {SNP: {"report": "report.bin", "vcek": "vcek.der"}, TDX: {"quote": "quote.bin", "collateral": "collateral.json"}}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The example, but that an unknown revocation passes: the SNP vector has no list of its time."""
    (text,) = (text for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "one policy, SNP and TDX" in text)
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(text)
    return dataclasses.replace(read_policy(str(path)), revocation=RevocationRule("accept-unsafe"))


def verified(vectors: Vectors, case: str) -> Verified[Any]:
    facts = vectors.facts(case)
    where = Context(
        datetime.fromisoformat(facts["evaluate_at"]),
        anchors.production(),
        StaticFetcher({}),
        report_data=bytes.fromhex(facts["report_data"]),
    )
    return kinds.verify(case.split("/")[0], {role: (vectors.read(case, name),) for role, name in FILES[case].items()}, where)


def decided(evidence: Verified[Any], policy: Policy) -> TrustStatement:
    assert evidence.facts.tee is not None
    launch = evidence.facts.tee.registers["launch"]
    pinned = ReferenceValue(("firmware",), "launch", launch, Strength.RECOMPUTED, "you", "as if recomputed", Provenance("a test", "stated"))
    return appraise(evidence, policy=policy, references=(pinned,))


@pytest.mark.parametrize("case", [SNP, TDX])
def test_the_same_file_accepts_a_real_machine_of_either_maker(vectors: Vectors, policy: Policy, case: str) -> None:
    found = decided(verified(vectors, case), policy)
    assert found.decision == "accepted", found.findings
    assert found.technology == case.split("/")[0]


def tdx_rules(policy: Policy, **changes: Any) -> Policy:
    rules = dataclasses.replace(policy.technologies["tdx"], **changes)
    return dataclasses.replace(policy, technologies={**policy.technologies, "tdx": rules})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"registers": {"mrseam": ("00" * 48,)}}, "policy.register"),
        ({"settings": {"attributes.sept_ve_disable": False}}, "policy.setting"),
        ({"settings": {"attributes.perfmon": True}}, "policy.setting"),
        ({"settings": {"attributes.unheard_of": True}}, "policy.setting"),
        ({"tcb_status": ("SWHardeningNeeded",)}, "policy.tcb-status"),
        ({"report_keys": ("vcek",)}, "policy.report-key"),
        ({"minimum_tcb": {"any": {"quoting_enclave": 99}}}, "policy.tcb-minimum"),
    ],
)
def test_each_rule_for_tdx_refuses_tdx_and_leaves_snp_alone(vectors: Vectors, policy: Policy, changes: dict[str, Any], code: str) -> None:
    stricter = tdx_rules(policy, **changes)
    found = decided(verified(vectors, TDX), stricter)
    assert found.decision == "refused"
    assert code in {finding.code for finding in found.findings}
    assert decided(verified(vectors, SNP), stricter).decision == "accepted"


def test_a_rule_for_snp_leaves_tdx_alone(vectors: Vectors, policy: Policy) -> None:
    stricter = dataclasses.replace(policy, technologies={**policy.technologies, "snp": TechnologyRules(minimum_tcb={"Genoa": {"snp": 99}})})
    assert decided(verified(vectors, SNP), stricter).decision == "refused"
    assert decided(verified(vectors, TDX), stricter).decision == "accepted"


def test_a_real_quote_under_debug_is_refused_and_can_be_allowed(vectors: Vectors, policy: Policy) -> None:
    FILES["tdx/trustee-v4-debug"] = {"quote": "quote.bin"}
    evidence = verified(vectors, "tdx/trustee-v4-debug")
    assert "policy.debug" in {finding.code for finding in decided(evidence, policy).findings}
    allowed = dataclasses.replace(policy, allow_debug=True)
    assert "policy.debug" not in {finding.code for finding in decided(evidence, allowed).findings}


AT = datetime.fromisoformat("2026-06-10T00:00:00Z")
PKI = TdxPki(b"one policy", AT)


def simulated(
    guest: TrustDomain, *, status: str = "UpToDate", advisories: tuple[str, ...] = (), platform: Platform | None = None
) -> Verified[Any]:
    platform = platform or Platform()
    content = tcb_info(platform, AT)
    content["tcbLevels"][0] |= {"tcbStatus": status, "advisoryIDs": list(advisories)}
    documents = {**PKI.collateral(platform, AT), "tcb-info": PKI.document("tcbInfo", content)}
    documents["qe-identity"] = PKI.document("enclaveIdentity", qe_identity(platform, AT))
    pieces = {"quote": (PKI.quote(platform, guest, bytes(64)),), **{role: (body,) for role, body in documents.items()}}
    trusted = anchors.production().plus(*PKI.anchors())
    return kinds.verify("tdx", pieces, Context(AT, trusted, StaticFetcher({}), nonce=bytes(64), unsafe=frozenset({"simulated-root"})))


@pytest.mark.parametrize(
    ("bit", "code"),
    [(0, "policy.debug"), (29, "policy.migration"), (63, "policy.setting")],
    ids=["debug", "migratable", "perfmon"],
)
def test_attributes_of_a_td(policy: Policy, bit: int, code: str) -> None:
    guest = TrustDomain(attributes=1 << 28 | 1 << bit)
    lenient = tdx_rules(dataclasses.replace(policy, allow_simulated=True), registers={})
    assert decided(simulated(TrustDomain()), lenient).decision == "accepted"
    found = decided(simulated(guest), lenient)
    assert code in {finding.code for finding in found.findings}


def test_sept_ve_disable_must_be_on(policy: Policy) -> None:
    found = decided(simulated(TrustDomain(attributes=0)), dataclasses.replace(policy, allow_simulated=True))
    assert any(finding.code == "policy.setting" and "sept_ve_disable on" in finding.expected for finding in found.findings)


@pytest.mark.parametrize(
    ("status", "advisories", "decision", "code"),
    [
        ("UpToDate", (), "accepted", None),
        ("SWHardeningNeeded", ("INTEL-SA-00615",), "accepted", None),
        ("SWHardeningNeeded", ("INTEL-SA-00615", "INTEL-SA-99999"), "refused", "policy.advisory"),
        ("ConfigurationNeeded", (), "refused", "policy.tcb-status"),
        ("OutOfDate", ("INTEL-SA-99999",), "refused", "policy.tcb-status"),
    ],
)
def test_status_and_advisories(policy: Policy, status: str, advisories: tuple[str, ...], decision: str, code: str | None) -> None:
    lenient = tdx_rules(dataclasses.replace(policy, allow_simulated=True), registers={})
    found = decided(simulated(TrustDomain(), status=status, advisories=advisories), lenient)
    assert found.decision == decision
    if code:
        (finding,) = (finding for finding in found.findings if finding.code == code)
        assert all(advisory in finding.found for advisory in advisories if advisory != "INTEL-SA-00615")
