"""The fleet's and the comparison's renderings: complete, within the width, inert as pages, and one in all forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from evident import codec
from evident.appraisal.degrees import Levels
from evident.appraisal.statement import TrustStatement
from evident.errors import Finding, NotAuthentic
from evident.reports import comparison, fleet, json_report
from evident.reports.fleet import Fleet, Member, Standing

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
GOOD = Member(
    "shop",
    "aws",
    Standing.WELL,
    "its last answer was accepted",
    "",
    levels=Levels(4, 2),
    answered=AT,
    age_seconds=200,
    interval_seconds=3600,
    compared_with=AT,
    drift=("claim reported_tcb: 1 -> 2",),
    trusts=("AMD", "AWS"),
    residual=("AWS runs NitroTPM in its hypervisor.",),
)
BAD = Member("till\x1b[2J<b>", "gcp", Standing.REFUSED, "refused at layer firmware (launch.firmware)", "Launch `it` again.", simulated=True)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_fleet_fits_and_says_everything(width: int) -> None:
    text = fleet.render_text(Fleet(AT, (GOOD, BAD)), width=width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = " ".join(text.split())
    for words in ("1 of 2 are well.", "AMD, AWS", "claim reported_tcb: 1 -> 2", "launch.firmware", "Launch `it` again."):
        assert words in flat
    assert "SIMULATED" in text
    assert "\x1b" not in text


def test_the_fleet_in_one_word() -> None:
    assert Fleet(AT, ()).headline == "No deployments."
    assert Fleet(AT, (GOOD,)).headline == "The one deployment is well."
    assert Fleet(AT, (GOOD, GOOD)).headline == "All 2 are well."
    assert not Fleet(AT, (GOOD, BAD)).well
    assert "evident up" in fleet.render_text(Fleet(AT, ()))


def test_the_fleets_page_is_inert_and_escaped() -> None:
    page = fleet.render_html(Fleet(AT, (GOOD, BAD)))
    assert "<b>" not in page
    assert "till\\u001b[2J&lt;b&gt;" in page
    assert "<script" not in page
    assert "Simulated" in page
    assert "<code>it</code>" in page
    assert fleet.render_html(Fleet(AT, (GOOD,))).count('role="alert"') == 0


def test_the_fleet_in_json() -> None:
    found = json.loads(json.dumps(fleet.document(Fleet(AT, (GOOD, BAD)))))
    assert (found["well"], found["at"]) == (False, "2026-11-22T10:00:00Z")
    assert found["deployments"][0]["levels"] == {"nominal": 4, "trustworthy": 2}
    assert [each["standing"] for each in found["deployments"]] == ["well", "refused"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400, "24 h"), (172800, "2 days")]
)
def test_durations(seconds: int, words: str) -> None:
    assert fleet.duration(seconds) == words


def test_a_recorded_statement_is_read_back(statement: Callable[..., TrustStatement], refused: TrustStatement) -> None:
    for outcome in (statement(), refused, statement(simulated=True)):
        assert json_report.read(json_report.document(outcome)) == outcome
    error = NotAuthentic(Finding("snp.signature", "root_of_trust", "a", "b", "c"))
    read = json_report.read(json_report.document(error))
    assert (read.decision, read.code, read.findings) == ("not_authentic", "snp.signature", error.findings)


def test_equal_statements_differ_in_nothing(statement: Callable[..., TrustStatement]) -> None:
    found = comparison.compare([("a", statement()), ("b", statement())])
    assert found.differences == ()
    assert "say the same" in found.headline
    assert "Where they differ" not in comparison.render_text(found)


def test_differences_come_first_and_nothing_is_left_out(statement: Callable[..., TrustStatement], refused: TrustStatement) -> None:
    failed = json_report.read(json_report.document(NotAuthentic(Finding("snp.signature", "root_of_trust", "a", "b", "c"))))
    found = comparison.compare([("good", statement()), ("<bad>", refused), ("none", failed)])
    assert found.differences[0].name == "Decision"
    assert {row.section for row in found.rows} >= {"The answer", "Root of trust", "Firmware", "Boot chain", "Root file system"}
    assert set(found.differences) | set(found.same) == set(found.rows)
    text = comparison.render_text(found, width=120)
    assert all(len(line) <= 120 for line in text.splitlines())
    assert text.index("Where they differ") < text.index("What they say alike") if found.same else True
    page = comparison.render_html(found)
    assert "<bad>" not in page
    assert "&lt;bad&gt;" in page
    document = comparison.document(found)
    assert [each["verdict"] for each in document["statements"]] == ["ACCEPTED", "REFUSED", "NOT AUTHENTIC"]
    assert document["differences"][0]["values"][2] == "NOT AUTHENTIC (snp.signature)"
    assert codec.encode(document) == document


def test_what_is_simulated_is_marked_beside_what_is_not(statement: Callable[..., TrustStatement]) -> None:
    found = comparison.compare([("real", statement()), ("toy", statement(simulated=True))])
    assert found.simulated == (False, True)
    assert "SIMULATED" in comparison.render_text(found)
    assert comparison.render_html(found).count("Simulated</span>") >= 1
