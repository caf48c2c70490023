"""The documentation is true: its links lead somewhere, its Python runs, and the commands it shows exist."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from evident.cli.main import VERBS

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted((*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")))
IDS = [str(path.relative_to(REPOSITORY)) for path in PAGES]
_LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")
_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"(?:^|`|\$ )(?:\.venv/bin/)?(evident [a-z]+[^`\n]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_runs(page: Path) -> None:
    for source in _PYTHON.findall(page.read_text()):
        exec(compile(source, str(page), "exec"), {"__name__": "documentation"})  # noqa: S102  # our own pages


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist(page: Path) -> None:
    """Verbs and options of every command shown; placeholders in capitals, `...` and `[...]` are left alone."""
    for command in _COMMAND.findall(page.read_text()):
        words = shlex.split(re.sub(r"\s#.*|[\[\]|]|\.\.\.", " ", command.replace("'", "")))
        verb = words[1]
        assert verb in VERBS, f"{page.name}: {command}"
        parser = argparse.ArgumentParser()
        importlib.import_module(f"evident.cli.{verb}").configure(parser)
        known = _options(parser)
        for word in words[2:]:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{page.name}: no option {word} of `evident {verb}`: {command}"


def _options(parser: argparse.ArgumentParser) -> set[str]:
    options: set[str] = {"--help"}
    for action in parser._actions:
        options.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                options |= _options(child)
    return options


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    module = importlib.import_module(f"evident.cli.{verb}")
    assert module.__doc__
    assert "example" in module.__doc__, f"`evident {verb} --help` shows no example"
