"""`evident explain`: what a platform would prove, before anything is deployed."""

from __future__ import annotations

import json

import pytest

from evident.cli.main import main


def test_a_platform_says_what_would_be_proven_and_whom_one_trusts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "qemu-snp"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "level 4 of 4 can be proven, and level 4 without the provider's word" in text
    assert "still trust" in text
    assert "source" in text


def test_a_simulator_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "simulated"]) == 0
    assert "SIMULATED" in capsys.readouterr().out
    assert main(["explain"]) == 0
    assert all("SIMULATED" in line for line in capsys.readouterr().out.splitlines() if line.startswith("simulated"))


def test_the_dates_make_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    levels = {}
    for day in ("2024-03-26", "2026-11-22"):
        assert main(["explain", "azure-snp", "--at", day, "-o", "json"]) == 0
        levels[day] = json.loads(capsys.readouterr().out)["levels"]["trustworthy"]
    assert levels == {"2024-03-26": 0, "2026-11-22": 1}
    assert main(["explain", "--diff", "2024-03-26", "2026-11-22"]) == 0
    assert "azure-snp: trustworthy level: 0 -> 1" in capsys.readouterr().out


@pytest.mark.parametrize("table", ["scopelliti", "pontes", "poster"])
def test_tables_have_a_reason_for_every_cell(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--table", table, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    cells = [cell for row in document["rows"] for cell in row["cells"].values()]
    assert len(cells) >= 18
    assert all(cell["because"] for cell in cells)
    assert main(["explain", "--table", table, "--why"]) == 0
    assert "because" in capsys.readouterr().out


def test_the_poster_shows_both_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--table", "poster"]) == 0
    text = capsys.readouterr().out
    assert "poster:" in text
    assert "ours:" in text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["qemo-snp"], "platform.unknown"),
        (["qemu-tdx", "--at", "2024-03-26"], "platform.no-facts-yet"),
        (["--table", "pontes", "--at", "2020-01-01"], "explain.no-facts-yet"),
        (["qemu-snp", "--table", "pontes"], "explain.one-question"),
        (["qemu-snp", "--at", "yesterday"], "usage.date"),
    ],
)
def test_questions_that_cannot_be_answered(arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 2
    assert code in capsys.readouterr().err
