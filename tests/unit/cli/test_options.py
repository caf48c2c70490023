"""The options of a decision name what there is, and cost nothing to show."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from evident.cli import options
from evident.cli.main import main
from evident.cli.terminal import MAX_WIDTH
from evident.reference_values.snp_launch import MAX_VCPUS
from evident.verification import context, kinds

HEAVY = ("cryptography", "rich", "jinja2", "yaml", "joserfc", "cbor2")


def test_the_kinds_are_those_that_can_be_verified() -> None:
    assert set(options.KINDS) == set(kinds.KINDS)


def test_the_unsafe_options_are_those_of_the_verification() -> None:
    assert {*options.UNSAFE, "simulated-root"} == set(context.UNSAFE_OPTIONS)


@pytest.mark.parametrize("words", [["--help"], ["verify", "--help"], ["audit", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """What makes a command slow to start, told by its cause: a timed test would tell the machine's load."""
    program = (
        "import sys\nfrom evident.cli.main import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert result.stderr.splitlines()[-1] == "[]"


NUMBERS = {
    ("attest", "shop", "--every", "1s", "--times"): (1, 999_999_999),
    ("up", "shop", "--platform", "simulated", "--vcpus"): (1, 4096),
    ("up", "shop", "--platform", "simulated", "--memory"): (1, 16 * 1024 * 1024),
    ("up", "shop", "--platform", "simulated", "--publish"): (1, 65535),
    ("trust", "forecast", "bundle.json", "--days"): (1, 3650),
    ("measure", "uki", "image.efi", "--stub-version"): (1, 999),
    ("image", "build", "spec.yaml", "--out", "x", "--vcpus"): (1, 4096),
}


@pytest.mark.parametrize("words", NUMBERS, ids=" ".join)
def test_a_number_out_of_its_range_is_an_error_of_use(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    lowest, highest = NUMBERS[words]
    for wrong in (str(lowest - 1), str(highest + 1), "1e3", "²", "9" * 5000, "", "0x2", "1_0"):
        assert main([*words, wrong]) == 2, wrong
        err = capsys.readouterr().err
        assert "usage.options" in err
        assert f"from {lowest} to {highest}" in err
    assert main([*words[:-1], f"{words[-1]}=-1"]) == 2
    assert "usage.options" in capsys.readouterr().err


def test_every_number_has_a_range() -> None:
    """`type=int` takes -1, and with it whatever a loop or a machine makes of that."""
    for path in Path(options.__file__).parent.glob("*.py"):
        assert "type=int" not in path.read_text(), path.name


def test_the_most_vcpus_are_those_that_can_be_measured() -> None:
    parser = argparse.ArgumentParser()
    options.add_vcpus(parser, 1, "")
    assert parser.parse_args(["--vcpus", str(MAX_VCPUS)]).vcpus == MAX_VCPUS


def test_times_without_every(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "shop", "--times", "2"]) == 2
    assert "usage.times" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["no-such-verb"], ["attest"], ["verify", "--nope", "x"], ["measure"]], ids=" ".join)
def test_an_unknown_option_is_answered_like_every_other_mistake(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert ("usage.options" in captured.err, "next" in captured.err, captured.out) == (True, True, "")


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("words", [["--help"], ["fleet", "--help"], ["trust", "forecast", "--help"]], ids=" ".join)
def test_help_is_filled_to_the_terminal(
    words: list[str], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit) as left:
        main(words)
    sentences = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert left.value.code == 0
    assert max(map(len, sentences)) <= min(width, MAX_WIDTH)
