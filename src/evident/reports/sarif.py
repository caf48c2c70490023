"""Findings as SARIF 2.1.0 (OASIS), for tools that collect findings of many kinds.

One result per finding: `error` where the decision is a refusal, `warning` where it could not be made; one `note` when accepted.
"""

from __future__ import annotations

import json
from typing import Any

from evident import __version__
from evident.errors import Finding
from evident.reports.json_report import Outcome
from evident.reports.view import SIMULATED, screen

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(outcome: Outcome) -> str:
    """The log of one decision, indented JSON."""
    shown = screen(outcome)
    level = {"good": "note", "bad": "error", "unsure": "warning"}[shown.tone]
    results = [_result(finding, level) for finding in shown.findings] or [
        {"ruleId": "accepted", "level": "note", "kind": "pass", "message": {"text": shown.first[0][1]}}
    ]
    if shown.simulated:
        results.append({"ruleId": "simulated", "level": "warning", "message": {"text": SIMULATED}})
    rules = [{"id": code} for code in dict.fromkeys(result["ruleId"] for result in results)]
    driver = {"name": "evident", "version": __version__, "rules": rules}
    properties = {"decision": outcome.decision, "nominal": shown.nominal, "trustworthy": shown.trustworthy, "simulated": shown.simulated}
    run = {"tool": {"driver": driver}, "results": results, "properties": properties}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False)


def _result(finding: Finding, level: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "level": level,
        "message": {"text": f"Expected {finding.expected}; found {finding.found}. {finding.remedy}"},
        "locations": [{"logicalLocations": [{"name": finding.layer, "kind": "layer"}]}],
    }
