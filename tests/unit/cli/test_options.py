"""The options of a decision name what there is, and cost nothing to show."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evident.cli import options
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
