"""The tables in docs/ that are made from the code and the tests are current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("tool", ["attacks", "clouds", "codes", "kinds"])
def test_the_table_is_current(tool: str) -> None:
    """For attacks also: every one of them is shown, succeeding with its check off and refused with it on."""
    command = [sys.executable, f"tools/{tool}.py", "--check"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}\nRun tools/{tool}.py."


def test_codes_are_well_formed_and_their_exit_is_known() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", (REPOSITORY / "docs" / "codes.md").read_text(), re.M)
    assert len(rows) > 300
    for code, _ in rows:
        assert re.fullmatch(r"[a-z0-9…][a-z0-9…./-]*[a-z0-9…]", code), code
    known = dict(rows)
    assert known["snp.signature"].strip() == "10"
    assert known["policy.debug"].strip() == "11"
    assert known["snp.report.reserved"].strip() == "30"
