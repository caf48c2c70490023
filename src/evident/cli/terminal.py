"""Printing a statement for people: as wide as the terminal (80 columns at least assumed), coloured only where one reads it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from evident.reports.json_report import Outcome

MAX_WIDTH = 110
"""Of running text; longer lines are hard to read."""


def tell(text: str) -> None:
    """Print what is said beside a result to standard error: whatever in it comes from elsewhere can only be read."""
    from evident.reports.view import clean

    print(clean(text), file=sys.stderr)


def hanging(lead: str, text: str, *, style: str = "") -> Table:
    """`text` behind `lead`, and its further lines below its first. Neither is markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(lead, style), Text(text, style))
    return grid


def show_outcome(outcome: Outcome) -> None:
    """Print a statement, or the error that prevented one, to standard output."""
    from evident.reports import text

    show(lambda width, color: text.render(outcome, width=width, color=color))


def show(render: Callable[[int, bool], str], *, at_most: int = MAX_WIDTH) -> None:
    """Print what `render` makes for a width and with or without colour."""
    from evident.reports import text

    reads = sys.stdout.isatty()
    width = min(shutil.get_terminal_size((text.WIDTH, 24)).columns, at_most) if reads else text.WIDTH
    rendered = render(max(width, 40), reads and "NO_COLOR" not in os.environ)
    encoding = sys.stdout.encoding or "ascii"
    print(rendered.encode(encoding, "replace").decode(encoding), end="")
