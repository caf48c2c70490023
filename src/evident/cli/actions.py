"""Verbs that have actions (`evident audit verify`): each action is a module ``VERB_ACTION`` with `configure` and `run`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping


def configure_actions(parser: argparse.ArgumentParser, verb: str, summaries: Mapping[str, str], *, word: str = "action") -> None:
    """Give `parser` the actions of `verb`, name to summary; `word` is what they are called in the help."""
    actions = parser.add_subparsers(metavar=word.upper(), required=True, title=f"{word}s")
    for name, summary in summaries.items():
        module = importlib.import_module(f"evident.cli.{verb}_{name}")
        child = actions.add_parser(name, help=summary, description=module.__doc__)
        module.configure(child)
        child.set_defaults(action=module.run)


def run_action(args: argparse.Namespace) -> int:
    """Run the action that was chosen."""
    code: int = args.action(args)
    return code
