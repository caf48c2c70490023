"""The contract of `evident verify`: exit codes and every member of the JSON answer, over every real SNP report at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.verification.test_snp_vectors import CASES, REFUSED, compare

from evident.appraisal.degrees import BESIDE_LAYERS, LEVEL_LAYERS
from evident.cli.main import main

Call = Callable[..., tuple[int, dict[str, Any]]]
EXITS = {"accepted": 0, "not_authentic": 10, "refused": 11, "indeterminate": 12, "unsupported": 20, "malformed": 30}
REPORTS = {"snp/snpguard-milan-json-v2": "report.json", "gcp/reclaim-snp-vtpm-combined": "snp-report.bin"}
MEMBERS = {"decision", "code", "authentic", "revocation", "findings", "levels", "layers", "claims", "simulated"}
UNSAFE = ("--unsafe-revocation-unknown", "--unsafe-no-challenge")


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], vectors: Any) -> Call:
    """`verify(case, *words)`: exit code and JSON of the real command, offline, at the time the case is for."""
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))

    def call(case: str, *words: str) -> tuple[int, dict[str, Any]]:
        roles = {"report": REPORTS.get(case, "report.bin"), **CASES[case]}
        pieces = [f"{role}={vectors.root / case / name}" for role, name in roles.items()]
        at = vectors.facts(case).get("evaluate_at", "2026-11-22T00:00:00Z")
        code = main(["verify", "--kind", "snp", "--offline", "--at", at, "-o", "json", *pieces, *words])
        return code, json.loads(capsys.readouterr().out)

    return call


def check_form(code: int, answer: dict[str, Any]) -> None:
    """Every member of the contract, of its type, and the exit code of the decision."""
    assert set(answer) >= MEMBERS
    assert code == EXITS[answer["decision"]]
    assert answer["authentic"] in (True, False, None)
    assert answer["revocation"] in ("good", "revoked", "unknown")
    assert isinstance(answer["simulated"], bool)
    assert set(answer["levels"]) == {"nominal", "trustworthy"}
    for finding in answer["findings"]:
        assert set(finding) == {"code", "layer", "expected", "found", "remedy"}
        assert all(isinstance(text, str) and text for text in finding.values())
        assert finding["layer"] in (*LEVEL_LAYERS, *BESIDE_LAYERS, "input")
    assert answer["code"] == (answer["findings"][0]["code"] if answer["findings"] else "accepted")


@pytest.mark.parametrize("case", CASES)
def test_default_decision(verify: Call, vectors: Any, case: str) -> None:
    code, answer = verify(case)
    check_form(code, answer)
    if case in REFUSED:
        assert code == (30 if "malformed" in case else 10)
        assert answer["authentic"] is False
        assert answer["code"] == REFUSED[case][0]
        assert answer["levels"] == {"nominal": 0, "trustworthy": 0}
        return
    facts = vectors.facts(case).get("snp", vectors.facts(case))
    assert answer["authentic"] is True
    assert answer["revocation"] == "unknown"
    assert compare(facts, answer["claims"], case) >= 35
    assert [layer["name"] for layer in answer["layers"]] == [*LEVEL_LAYERS, *BESIDE_LAYERS]
    assert not answer["simulated"]
    if facts["policy_debug"]:
        assert code == 11
        assert ("policy.debug", "root_of_trust") in {(finding["code"], finding["layer"]) for finding in answer["findings"]}
    else:
        assert code == 12
    assert "snp.revocation.unknown" in {finding["code"] for finding in answer["findings"]}


@pytest.mark.parametrize("case", [case for case in CASES if case not in REFUSED])
def test_accepted_with_the_unsafe_options_and_a_reference_value(verify: Call, vectors: Any, tmp_path: Path, case: str) -> None:
    """The measurement is pinned, so that nothing but debugging can stand in the way; what was waived shows."""
    facts = vectors.facts(case).get("snp", vectors.facts(case))
    reference = tmp_path / "reference.json"
    value = {
        "layers": ["firmware"],
        "register": "launch",
        "value": facts["measurement"],
        "strength": 2,
        "endorser": "you",
        "description": "pinned",
        "provenance": {"origin": "a test", "how": "pinned by hand"},
    }
    reference.write_text(json.dumps({"version": 1, "values": [value]}))
    code, answer = verify(case, *UNSAFE, "--reference", str(reference))
    check_form(code, answer)
    assert answer["authentic"] is True
    assert code == (11 if facts["policy_debug"] else 0), answer["findings"]
    assert {"revocation-unknown", "no-challenge"} <= set(answer["unsafe"])
    if code == 0:
        assert answer["levels"]["nominal"] == 2


def test_a_turin_certificate_alone_is_shown(vectors: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The one SNP case without a report."""
    folder = vectors.root / "snp/virtee-turin-vcek"
    (path,) = [path for path in sorted(folder.iterdir()) if "vcek" in path.name][:1]
    assert main(["show", str(path), "-o", "json"]) == 0
    assert "Turin" in capsys.readouterr().out
