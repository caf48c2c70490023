"""SARIF and JUnit: every finding stands as one, a pass is never made of something undecided, and simulated shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from xml.etree import ElementTree as ET

from evident.appraisal.statement import TrustStatement
from evident.errors import Malformed
from evident.reports import junit, sarif

BROKEN = Malformed.of("input.empty", expected="bytes\x00<", found="none & nothing", remedy="Collect it again.")


def test_sarif_levels_follow_the_decision(
    statement: Callable[..., TrustStatement], refused: TrustStatement, undecided: TrustStatement
) -> None:
    for outcome, level, code in (
        (statement(), "note", "accepted"),
        (refused, "error", "boot_chain.kernel"),
        (undecided, "warning", "snp.crl.missing"),
        (BROKEN, "error", "input.empty"),
    ):
        log = json.loads(sarif.render(outcome))
        assert log["version"] == "2.1.0"
        (run,) = log["runs"]
        (result,) = run["results"]
        assert (result["level"], result["ruleId"]) == (level, code)
        assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [code]


def test_sarif_says_simulated(statement: Callable[..., TrustStatement]) -> None:
    (run,) = json.loads(sarif.render(statement(simulated=True)))["runs"]
    assert run["properties"]["simulated"] is True
    assert "SIMULATED" in run["results"][-1]["message"]["text"]


def test_junit_counts_findings_and_skips_nothing(
    statement: Callable[..., TrustStatement], refused: TrustStatement, undecided: TrustStatement
) -> None:
    for outcome, failures, errors in ((statement(), 0, 0), (refused, 1, 0), (undecided, 0, 1), (BROKEN, 1, 0)):
        suite = ET.fromstring(junit.render(outcome))  # noqa: S314  # our own output
        assert (suite.get("failures"), suite.get("errors")) == (str(failures), str(errors))
        assert len(suite.findall("testcase")) == int(suite.get("tests", "0"))
        assert len(suite.findall("testcase/failure")) == failures
        assert not suite.findall(".//skipped")
    assert "Left open" not in junit.render(statement(steps=("It holds.", "Left open: a CRL.")))
    assert "SIMULATED" in junit.render(statement(simulated=True))
    assert "SIMULATED" not in junit.render(statement())
