"""Checks as JUnit XML, for build servers: a test case per step that held and per finding that stands.

A finding is a failure when the decision is a refusal and an error when it could not be made; nothing is ever reported as
skipped, which build servers count as good.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from evident.reports.json_report import Outcome
from evident.reports.view import LEFT_OPEN, SIMULATED, screen


def render(outcome: Outcome) -> str:
    """One test suite, XML text."""
    shown = screen(outcome)
    wrong = "failure" if shown.tone == "bad" else "error"
    suite = ET.Element("testsuite", name=f"evident{' SIMULATED' if shown.simulated else ''}")
    for step in shown.steps:
        if step.startswith(LEFT_OPEN):
            continue  # a finding says so, or an unsafe option; it did not pass
        ET.SubElement(suite, "testcase", classname="verification", name=step)
    for finding in shown.findings:
        case = ET.SubElement(suite, "testcase", classname=finding.layer, name=finding.code)
        message = f"expected {finding.expected}; found {finding.found}"
        ET.SubElement(case, wrong, message=message, type=finding.code).text = finding.remedy
    suite.set("tests", str(len(suite)))
    for counted in ("failure", "error"):
        suite.set(f"{counted}s", str(len(shown.findings) if wrong == counted else 0))
    if shown.simulated:
        ET.SubElement(suite, "system-out").text = SIMULATED
    ET.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suite, encoding="unicode")
