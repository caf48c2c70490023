"""The documents that other programs read have the members that docs/json.md says they have, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.cli.main import main
from evident.reports import fleet
from evident.reports.fleet import Fleet, Member, Standing

REPOSITORY = Path(__file__).resolve().parents[2]


def members(heading: str) -> set[str]:
    """Every name in the first column of the table whose header begins so."""
    text = (REPOSITORY / "docs" / "json.md").read_text()
    table = text.partition(f"| {heading} | meaning |\n| --- | --- |\n")[2].partition("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(REPOSITORY / "examples" / "deployment.yaml"), "--platform", "any", "-o", "json"]) in (0, 11)
    plan = json.loads(capsys.readouterr().out)
    assert plan.keys() == members("of a plan")
    places = [plan["chosen"], *plan["others"]]
    assert all(place.keys() == members("of a place") for place in places)
    assert all(each.keys() == {"kind", "what", "billed"} for place in places for each in place["resources"])
    assert any(place["unmet"] for place in places)
    assert all(each.keys() == {"finding", "alternatives"} for place in places for each in place["unmet"])
    assert all(place["prospect"].keys() >= {"levels", "layers", "as_of"} for place in places)


def test_all_deployments() -> None:
    found: Mapping[str, object] = fleet.document(Fleet(datetime.now(UTC), (Member("shop", "aws", Standing.NEVER, "", ""),)))
    assert found.keys() == {"at", "well", "deployments"}
    (one,) = json.loads(json.dumps(found))["deployments"]
    assert one.keys() == members("of a deployment")
