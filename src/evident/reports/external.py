"""A statement as a flat map of strings: what Terraform's and OpenTofu's ``external`` data source takes from a program.

The program prints one JSON object whose values are all strings, and exits with 0; on any other exit its output is ignored and what it
said on standard error is shown (hashicorp/external, data source ``external``, section "External Program Protocol").
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from evident import codec
from evident.appraisal.statement import TrustStatement
from evident.reports.json_report import Outcome

_AUTHENTIC: Mapping[bool | None, str] = {True: "true", False: "false", None: "unknown"}


def document(outcome: Outcome, *, bundle_sha256: str = "") -> dict[str, str]:
    """The same keys for every statement; of an error, decision and code alone."""
    shared = {"decision": outcome.decision, "code": outcome.code, "bundle_sha256": bundle_sha256}
    if not isinstance(outcome, TrustStatement):
        return shared
    parties = dict.fromkeys(party for layer in outcome.layers for party in layer.trusted_parties)
    return {
        **shared,
        "authentic": _AUTHENTIC[outcome.authentic],
        "revocation": outcome.revocation,
        "nominal": str(outcome.levels.nominal),
        "trustworthy": str(outcome.levels.trustworthy),
        "simulated": "true" if outcome.simulated else "false",
        "platform": outcome.platform,
        "technology": outcome.technology or "",
        "kind": outcome.kind,
        "at": codec.format_time(outcome.at),
        "trusted_parties": ",".join(parties),
        "policy_sha256": outcome.policy_sha256,
        "reference_sha256": outcome.reference_sha256,
    }


def render(outcome: Outcome, *, bundle_sha256: str = "") -> str:
    """`document` as one line."""
    return json.dumps(document(outcome, bundle_sha256=bundle_sha256), ensure_ascii=False)
