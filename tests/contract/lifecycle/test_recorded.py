"""Recorded evidence of real machines of each cloud, on the path of a live one: challenge, collect, verify, appraise, bundle, journal.

The challenge is made to be the recorded one: nobody can have a machine answer anew. No reference values of these machines are known, and no
revocation list is at hand, so what is said of them is what honestly can be said today.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Believed, Collected
from evident.reference_values import documents
from evident.reference_values.model import ReferenceSet


@dataclass(frozen=True)
class Recorded:
    platform: str
    case: str
    kind: str
    files: dict[str, str]
    nonce: tuple[str, ...]
    """Path to the recorded challenge in the case's facts."""
    levels: tuple[int, int]
    """Nominal, and without the provider's word."""
    parties: frozenset[str]


RECORDED = [
    Recorded("aws", "aws/reclaim-vlek-v5", "snp", {"evidence": "attestation.pb"}, ("report_data",), (2, 1), frozenset({"AWS"})),
    Recorded(
        "azure",
        "azure/trustee-snp-milan-v1",
        "azure-snp",
        {"evidence": "evidence.json"},
        ("tpm_quote", "nonce"),
        (2, 0),
        frozenset({"Microsoft"}),
    ),
    Recorded(
        "gcp",
        "gcp/reclaim-snp-vtpm-combined",
        "gcp-snp",
        {"evidence": "attestation.pb"},
        ("commitment_sha256",),
        (2, 1),
        frozenset({"Google"}),
    ),
]


@pytest.fixture
def platform(request: pytest.FixtureRequest) -> str:
    found: Recorded = request.node.callspec.params["recorded"]
    return found.platform


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: each.platform)
def test_a_real_machines_evidence_gets_todays_honest_levels(
    life: Any, recorded: Recorded, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = life.up()
    facts = vectors.facts(recorded.case)
    nonce = facts
    for name in recorded.nonce:
        nonce = nonce[name]
    at = datetime.fromisoformat(facts.get("evaluate_at", "2026-11-22T12:00:00Z")).astimezone(UTC)
    pieces = {role: (vectors.read(recorded.case, name),) for role, name in recorded.files.items()}
    monkeypatch.setattr(CloudDriver, "collect", lambda *_: Collected(recorded.kind, pieces))
    monkeypatch.setattr(CloudDriver, "believed", lambda *_: Believed())
    monkeypatch.setattr(life, "randomness", lambda _: bytes.fromhex(nonce))
    monkeypatch.setattr(life, "now", lambda: at)
    (target.directory / "references.json").write_bytes(documents.dump(ReferenceSet(1, (), "nothing is known of it")))
    statement = life.statement()
    assert not statement.simulated
    assert statement.authentic
    assert (statement.levels.nominal, statement.levels.trustworthy) == recorded.levels
    assert recorded.parties <= {party for layer in statement.layers if layer.level for party in layer.trusted_parties}
    assert statement.decision != "accepted"
    assert "reference.missing" in {finding.code for finding in statement.findings}
