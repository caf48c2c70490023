"""Statements on real reports: what they prove, what they leave open, and the debug machine refused by layer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import STRICT
from evident.appraisal.questions import QUESTIONS
from evident.endorsements import anchors
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable
from evident.verification import kinds
from evident.verification.context import Context

CASES = {
    "snp/trustee-milan-v2": {"report": "report.bin", "vcek": "vcek.der"},
    "snp/trustee-aws-milan-vlek-v3": {"report": "report.bin", "vlek": "vlek.der"},
    "snp/microsoft-genoa": {"report": "report.bin", "vcek": "vcek.pem"},
    "snp/go-sev-guest-milan-v2-debug": {"report": "report.bin", "vcek": "vcek.der"},
    "snp/attestation-rs-genoa-v5": {"report": "report.bin", "vcek": "vcek.der"},
}


class Offline:
    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=url, found=f"no network for up to {limit} bytes", remedy="Go online.")


@pytest.mark.parametrize("case", CASES)
def test_a_real_report_alone_is_never_accepted(vectors: Any, case: str) -> None:
    pieces = {role: (vectors.read(case, name),) for role, name in CASES[case].items()}
    known = vectors.facts(case)
    at = datetime.fromisoformat(known.get("evaluate_at", "2026-11-22T00:00:00Z"))
    statement = appraise(kinds.verify("snp", pieces, Context(at, anchors.production(), Offline())), policy=STRICT)
    codes = {finding.code for finding in statement.findings}
    assert statement.authentic is True
    assert not statement.simulated
    assert {"snp.revocation.unknown", "snp.challenge.missing", "reference.missing"} <= codes
    debug = bool(known.get("policy_debug"))
    assert statement.decision == ("refused" if debug else "indeterminate")
    assert ("policy.debug" in codes) is debug
    assert statement.levels.nominal == (0 if debug else 2)
    assert statement.levels.trustworthy == 0, "it answers no challenge"
    assert tuple(answer.question for answer in statement.questions) == QUESTIONS
    assert "yes" not in {answer.answer for answer in statement.questions}
    if "vlek" in pieces:
        assert "vlek.cloud-not-chip" in {caveat.code for caveat in statement.layers[0].caveats}
