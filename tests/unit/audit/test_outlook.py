"""A bundle judged from later: windows that end, endorsements that are newer, revocations that were published meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from tests.conftest import Vectors
from tests.unit.audit.conftest import Packed, key_of

from evident.appraisal.forecast import next_update
from evident.appraisal.policy import Policy, RequiredLevels, TechnologyRules
from evident.audit import bundle
from evident.audit.case import Case, decide
from evident.audit.outlook import Outlook, outlook
from evident.endorsements import anchors, intel, x509
from evident.endorsements.fetcher import Fetched, RecordingFetcher, StaticFetcher
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.simulator.tdx import Platform, TdxPki, TrustDomain, tcb_info
from evident.verification.context import Context

AT = datetime(2026, 6, 10, tzinfo=UTC)
DAY = timedelta(days=1)
NONCE = bytes(range(64))
PKI = TdxPki(b"outlook", AT)
ANCHORS = anchors.production().plus(*PKI.anchors())
PLATFORM, GUEST = Platform(), TrustDomain()
POLICY = Policy(
    version=1, allow_simulated=True, technologies={"tdx": TechnologyRules(tcb_status=("UpToDate",))}, levels=RequiredLevels(nominal=2)
)
URLS = {
    "tcb-info": intel.tcb_info_url(PLATFORM.fmspc),
    "qe-identity": intel.qe_identity_url(),
    "pck-crl": intel.pck_crl_url("platform"),
    "root-crl": intel.ROOT_CRL_URL,
}


@cache
def packed_tdx() -> bundle.Bundle:
    reference = ReferenceValue(("firmware",), "launch", GUEST.mrtd, Strength.RECOMPUTED, "you", "firmware", Provenance("a test", "stated"))
    case = Case(
        kind="tdx",
        pieces={"quote": (PKI.quote(PLATFORM, GUEST, NONCE),), **{role: (body,) for role, body in PKI.collateral(PLATFORM, AT).items()}},
        at=AT,
        nonce=NONCE,
        unsafe=frozenset({"simulated-root"}),
        policy=POLICY,
        references=(reference,),
    )
    return packed(case, ANCHORS)


def packed(case: Case, trusted: anchors.AnchorSet) -> bundle.Bundle:
    recorded = RecordingFetcher(StaticFetcher({}))
    outcome = decide(case, anchors=trusted, fetcher=recorded)
    key = key_of(b"verifier")
    return bundle.open_bundle(bundle.build(case, recorded, outcome, key), [key.public])


def look(bundled: bundle.Bundle, cached: Mapping[str, bytes], now: datetime, days: int = 100, trusted: Any = ANCHORS) -> Outlook:
    def shelf(url: str) -> Fetched | None:
        return Fetched(url, cached[url], now) if url in cached else None

    return outlook(bundled, cached=shelf, anchors=trusted, now=now, until=now + days * DAY)


def renewed(at: datetime, **other: bytes) -> dict[str, bytes]:
    documents = {**PKI.collateral(PLATFORM, at), **{role.replace("_", "-"): body for role, body in other.items()}}
    return {url: documents[role] for role, url in URLS.items()}


def newer_info(at: datetime, advisory: str = "INTEL-SA-99999") -> bytes:
    """The vendor's next update: one component is raised, and what was the best level is out of date."""
    content = tcb_info(PLATFORM, at)
    best = content["tcbLevels"][0]
    raised = {**best, "tcb": {**best["tcb"], "sgxtcbcomponents": [{"svn": entry["svn"] + 1} for entry in best["tcb"]["sgxtcbcomponents"]]}}
    below = {**best, "tcbStatus": "OutOfDate", "advisoryIDs": [advisory]}
    return PKI.document("tcbInfo", {**content, "tcbEvaluationDataNumber": 18, "tcbLevels": [raised, below, *content["tcbLevels"][1:]]})


def test_the_day_on_which_collateral_runs_out() -> None:
    found = look(packed_tdx(), {}, AT)
    assert found.recorded.decision == found.present.decision == "accepted"
    assert found.changes[0].after.decision == "indeterminate"
    assert found.changes[0].at == AT + 29 * DAY + timedelta(seconds=1)
    codes = {finding.code for change in found.changes for finding in change.because}
    assert {"tdx.tcb-info.stale", "tdx.qe-identity.stale", "tdx.revocation.unknown"} <= codes


def test_newer_collateral_in_the_cache_moves_that_day() -> None:
    later = AT + 20 * DAY
    found = look(packed_tdx(), renewed(later), later)
    assert found.present.decision == "accepted"
    assert found.changes[0].at == later + 29 * DAY + timedelta(seconds=1)


def test_the_vendors_update_and_its_advisories() -> None:
    later = AT + 20 * DAY
    found = look(packed_tdx(), renewed(later, tcb_info=newer_info(later)), later)
    assert (found.recorded.decision, found.recorded.tcb_status) == ("accepted", "UpToDate")
    assert (found.present.decision, found.present.tcb_status, found.present.advisories) == ("refused", "OutOfDate", ("INTEL-SA-99999",))
    assert found.tee is not None
    assert min(found.tee.headroom.values()) == -1


def test_an_update_that_comes_into_force_later() -> None:
    """Issued for a day to come: not in force before."""
    soon = AT + 10 * DAY
    found = look(packed_tdx(), renewed(AT, tcb_info=newer_info(soon + DAY)), AT)
    statuses = [(change.at, change.after.tcb_status, change.after.decision) for change in found.changes]
    assert statuses[0][0] == soon
    assert statuses[0][1] == "OutOfDate"


def test_a_revocation_published_meanwhile() -> None:
    serial = x509.parse(PKI.pck(PLATFORM)).serial
    found = look(packed_tdx(), renewed(AT + DAY, pck_crl=PKI.crl("platform-ca", at=AT + DAY, revoked=[serial])), AT + DAY)
    assert found.present.decision == "not_authentic"
    assert [finding.code for finding in found.present.findings] == ["crl.revoked"]


def test_forged_collateral_in_the_cache_is_noticed() -> None:
    evil = TdxPki(b"evil", AT)
    forged = evil.document("tcbInfo", tcb_info(PLATFORM, AT))
    found = look(packed_tdx(), renewed(AT, tcb_info=forged), AT)
    assert found.present.decision == "not_authentic"


def test_an_snp_machine(pack: Callable[..., Packed]) -> None:
    made = pack()
    opened = bundle.open_bundle(made.data, [made.key.public])
    now = made.case.at
    quiet = look(opened, {}, now, 400, made.anchors)
    assert quiet.recorded.decision == quiet.present.decision == "accepted"
    codes = {finding.code for change in quiet.changes for finding in change.because}
    assert quiet.changes
    assert any(code.startswith(("snp.revocation", "crl.")) for code in codes), codes
    assert quiet.tee is not None
    assert quiet.tee.tcb["reported"]


REAL = "tdx/attestation-rs-collateral-2026-03"
REAL_FILES = {"qe-identity": "td_qe_identity.json", "pck-crl": "pck_crl_platform.der", "root-crl": "root_ca_crl.der"}


OLD = "tdx/go-tdx-guest-spr-v4"
OLD_FILES = {"tcb-info": "tcb_info.json", "qe-identity": "qe_identity.json", "pck-crl": "pck_crl", "root-crl": "root_crl.der"}


def real(vectors: Vectors, case: str, fmspc: str, at: datetime, others: Mapping[str, bytes]) -> tuple[bundle.Bundle, dict[str, bytes]]:
    made = Case(
        kind="tdx",
        pieces={"quote": (vectors.read(case, "quote.bin"),), **{role: (body,) for role, body in others.items()}},
        at=at,
        report_data=bytes.fromhex(vectors.facts(case)["report_data"]),
        policy=dataclasses.replace(POLICY, allow_simulated=False),
    )
    cached = {URLS[role]: vectors.read(REAL, name) for role, name in REAL_FILES.items()}
    cached[intel.tcb_info_url(bytes.fromhex(fmspc))] = vectors.read(REAL, f"tcb_info_{fmspc}.json")
    return packed(made, anchors.production()), cached


@pytest.mark.parametrize("case", ["tdx/trustee-v4-debug", OLD])
def test_two_generations_of_real_tcb_info(vectors: Vectors, case: str) -> None:
    """Machines judged by Intel's documents of 2023, and again by those of 2026 for the same FMSPC."""
    old = {role: vectors.read(OLD, name) for role, name in OLD_FILES.items()}
    bundled, cached = real(vectors, case, "50806f000000", datetime(2023, 7, 1, 1, tzinfo=UTC), old)
    found = look(bundled, cached, datetime(2026, 3, 20, tzinfo=UTC), 60, anchors.production())
    expected = {"tdx/trustee-v4-debug": ("UpToDate", "OutOfDate"), OLD: ("NoMatchingLevel", "NoMatchingLevel")}[case]
    assert (found.recorded.tcb_status, found.present.tcb_status) == expected
    if case != OLD:
        assert found.recorded.advisories == ()
        assert "INTEL-SA-01036" in found.present.advisories
        assert found.present.decision == "refused"
    assert found.tee is not None
    assert any("below the vendor's best level already" in sentence for sentence in next_update(found.tee))
    stale = next(change for change in found.changes if "tdx.tcb-info.stale" in {finding.code for finding in change.because})
    assert stale.at == datetime(2026, 4, 15, 22, 21, 31, tzinfo=UTC)


def test_a_real_machine_that_is_up_to_date(vectors: Vectors) -> None:
    case = "tdx/go-tdx-guest-v5"
    given = {"tcb-info": vectors.read(case, "tcb_info.json")}
    bundled, cached = real(vectors, case, "90c06f000000", datetime(2026, 2, 15, tzinfo=UTC), given)
    found = look(bundled, cached, datetime(2026, 3, 20, tzinfo=UTC), 60, anchors.production())
    assert found.present.tcb_status == "UpToDate"
    assert found.tee is not None
    assert min(found.tee.headroom.values()) >= 0
    first = {finding.code for finding in found.changes[0].because}
    assert first == {"tdx.tcb-info.stale"}
    assert found.changes[0].at == datetime(2026, 4, 15, 22, 6, 10, tzinfo=UTC)


def test_whoever_verifies_a_case_again_has_everything_that_it_depends_on() -> None:
    """Credential activation was once left out here, so the machines that rest on it were judged without."""
    shared = {field.name for field in dataclasses.fields(Case)} & {field.name for field in dataclasses.fields(Context)}
    assert {"at", "nonce", "report_data", "crl_floor", "unsafe", "activation", "named"} <= shared
    case = Case("tdx", {}, **{name: object() for name in shared})  # type: ignore[arg-type]  # each told from every other
    context = case.context(ANCHORS, StaticFetcher({}))
    assert all(getattr(context, name) is getattr(case, name) for name in shared)
