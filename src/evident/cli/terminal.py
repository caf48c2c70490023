"""Printing a statement for people: as wide as the terminal (80 columns at least assumed), coloured only where one reads it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.reports.json_report import Outcome

MAX_WIDTH = 110


def show_outcome(outcome: Outcome) -> None:
    """Print a statement, or the error that prevented one, to standard output."""
    from evident.reports import text

    reads = sys.stdout.isatty()
    width = min(shutil.get_terminal_size((text.WIDTH, 24)).columns, MAX_WIDTH) if reads else text.WIDTH
    rendered = text.render(outcome, width=max(width, 40), color=reads and "NO_COLOR" not in os.environ)
    encoding = sys.stdout.encoding or "ascii"
    print(rendered.encode(encoding, "replace").decode(encoding), end="")
