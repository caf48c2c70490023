"""Google TDX: the real quote and log are authentic; a forged endorsement is refused; endorsed and recomputed MRTDs settle the firmware."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from tests.conftest import Vectors

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels
from evident.endorsements import anchors
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import NotAuthentic
from evident.evidence import protobuf
from evident.reference_values import endorsed, tdx_mrtd
from evident.reference_values.model import Strength
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.tdvf import firmware_image
from evident.simulator.tdx import Platform, TdxPki, TrustDomain
from evident.verification import gcp, gcp_tdx, kinds
from evident.verification.context import Context
from evident.verification.verified import Verified

CASE = "gcp/go-tdx-guest-cos113-tdx-ccel"
AT = datetime(2026, 6, 10, tzinfo=UTC)
NONCE = bytes(range(64))
INTEL, GOOGLE, FIRMWARE = TdxPki(b"gcp tdx", AT), CloudPki(AT - timedelta(days=1)), firmware_image()
MRTD = tdx_mrtd.predict(FIRMWARE, tdx_mrtd.Order.GCE)


@cache
def _pieces(mrtd: bytes = MRTD) -> dict[str, tuple[bytes, ...]]:
    guest = TrustDomain(mrtd=mrtd)
    return {
        "quote": (INTEL.quote(Platform(), guest, NONCE),),
        **{role: (content,) for role, content in INTEL.collateral(Platform(), AT).items()},
    }


def _endorsement(mrtds: dict[int, bytes]) -> bytes:
    return GOOGLE.tdx_endorsement(hashlib.sha384(FIRMWARE).digest(), mrtds, AT)


def _context(**changes: Any) -> Context:
    trusted = anchors.production().plus(*INTEL.anchors(), *GOOGLE.anchors())
    found = Context(AT, trusted, StaticFetcher({}), nonce=NONCE, unsafe=frozenset({"simulated-root"}))
    return dataclasses.replace(found, **changes)


def _verify(**roles: bytes) -> Verified[gcp_tdx.GcpTdxEvidence]:
    return gcp_tdx.verify({**_pieces(), **{role: (content,) for role, content in roles.items()}}, _context())


def test_the_real_quote_and_log_are_authentic(vectors: Vectors) -> None:
    facts = vectors.facts(CASE)
    where = Context(datetime.fromisoformat(facts["evaluate_at"]), anchors.production(), StaticFetcher({}))
    pieces = {"quote": (vectors.read(CASE, "quote.bin"),), "log": (vectors.read(CASE, "ccel.bin"),), "report-data": (bytes(64),)}
    verified = kinds.verify("gcp-tdx", pieces, where)
    claims = verified.facts.claims
    for name in ("mrtd", "mrseam", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "fmspc", "bytes_after_signature_data", "tee_tcb_svn"):
        assert claims["tdx"][name] == facts[name]
    assert claims["log"]["explained"] == ["rtmr0", "rtmr1", "rtmr2"]
    assert verified.facts.freshness.scope == "challenge"
    assert verified.facts.boot is not None
    assert verified.facts.boot.command_line is not None
    assert verified.facts.vtpm is None
    statement = appraise(verified, policy=Policy(version=1), references=endorsed.of(verified))
    assert statement.technology == "tdx"
    assert {"tdx.collateral.missing", "tdx.revocation.unknown"} <= {finding.code for finding in statement.findings}


def test_a_full_statement_from_simulated_evidence() -> None:
    verified = _verify(endorsement=_endorsement({0: MRTD}), firmware=FIRMWARE)
    assert verified.open_points == ()
    assert verified.facts.claims["endorsement"]["configurations"] == [{"ram_gib": None, "early_accept": False}]
    values = endorsed.of(verified)
    assert [(value.strength, value.endorser) for value in values] == [(Strength.ENDORSED, "Google"), (Strength.RECOMPUTED, "you")]
    assert {value.value for value in values} == {MRTD}
    policy = Policy(version=1, allow_simulated=True, levels=RequiredLevels(nominal=2))
    statement = appraise(verified, policy=policy, references=values)
    assert statement.decision == "accepted", statement.findings
    assert (statement.levels.nominal, statement.levels.trustworthy) == (2, 2)
    assert next(layer for layer in statement.layers if layer.name == "firmware").verifiability == 3


def test_by_memory_size_google_endorses_and_nobody_recomputes() -> None:
    verified = _verify(endorsement=_endorsement({16: bytes(48), 32: MRTD}))
    assert [value.strength for value in endorsed.of(verified)] == [Strength.ENDORSED] * 2
    assert "32 GiB" in endorsed.of(verified)[1].description
    altered = _verify(endorsement=_endorsement({0: MRTD}), firmware=FIRMWARE + bytes(4096))
    assert [value.strength for value in endorsed.of(altered)] == [Strength.ENDORSED], "another binary than the endorsed one"


def test_an_endorsement_of_another_measurement_is_remarked_and_matches_nothing() -> None:
    verified = _verify(endorsement=_endorsement({0: bytes(48)}))
    assert gcp.CAVEAT_NOT_ENDORSED in verified.facts.caveats
    statement = appraise(verified, policy=Policy(version=1, allow_simulated=True), references=endorsed.of(verified))
    assert statement.decision == "refused"


def _forged() -> bytes:
    envelope = protobuf.parse(_endorsement({0: bytes(48)}), "x")
    return protobuf.encode(((1, envelope.one_bytes(1).replace(bytes(48), MRTD)), (2, envelope.one_bytes(2))))


@pytest.mark.attack("AT-60", "A launch endorsement of TDX is altered.", "endorsement.signature")
def test_a_forged_endorsement_is_refused() -> None:
    _refused({"endorsement": (_forged(),)}, "gcp.endorsement", "endorsement.signature")


@pytest.mark.attack("AT-60", "Somebody else than Google endorses a TD's firmware.", "endorsement.root")
def test_an_endorsement_by_somebody_else_is_refused() -> None:
    stranger = CloudPki(AT - timedelta(days=1)).tdx_endorsement(bytes(48), {0: MRTD}, AT)
    _refused({"endorsement": (stranger,)}, "gcp.endorsement", "endorsement.root", "x509.signature")


def test_a_test_root_is_refused_where_it_was_not_asked_for() -> None:
    with pytest.raises(NotAuthentic) as refused:
        gcp_tdx.verify({**_pieces(), "endorsement": (_endorsement({0: MRTD}),)}, _context(unsafe=frozenset()))
    assert {"tdx.root.simulated", "endorsement.root.simulated"} <= {finding.code for finding in refused.value.findings}


def test_another_challenge_is_refused() -> None:
    with pytest.raises(NotAuthentic) as refused:
        gcp_tdx.verify(_pieces(), _context(nonce=b"another"))
    assert refused.value.code == "tdx.challenge.nonce"


def _refused(changes: dict[str, tuple[bytes, ...]], step: str, *codes: str) -> None:
    with pytest.raises(NotAuthentic) as refused:
        gcp_tdx.verify({**_pieces(), **changes}, _context())
    assert refused.value.code in codes
    passed = gcp_tdx.verify({**_pieces(), **changes}, _context(), without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}
    with pytest.raises(NotAuthentic) as unfinished:
        appraise(passed, policy=Policy(version=1, allow_simulated=True))
    assert unfinished.value.code == "verification.step-missing"
