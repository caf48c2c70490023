"""What a deployment on a platform consists of, known before anything is made: the settings it takes, the resources it will have.

Each ``platforms/<name>/outline.py`` has one `Outline` called ``OUTLINE``, without its SDK; `evident.platforms.registry` gathers them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evident.errors import UsageError
from evident.platforms.driver import Order


@dataclass(frozen=True, slots=True)
class Setting:
    """One name that `Order.where` may have there."""

    doc: str
    required: bool = False
    choices: tuple[str, ...] = ()
    """Empty: any text."""


@dataclass(frozen=True, slots=True)
class Item:
    """One resource that `launch` will make."""

    kind: str
    """As in the journal of resources."""
    what: str
    billed: str | None = None
    """What the price is asked for, and how long; None: nothing. No prices: they change, and are the provider's to say."""


@dataclass(frozen=True, slots=True)
class Outline:
    """One platform."""

    settings: Mapping[str, Setting]
    technologies: tuple[str, ...]
    """What `launch` can ask for there, best first."""
    items: Callable[[Order], tuple[Item, ...]]

    def check(self, platform: str, where: Mapping[str, str]) -> None:
        """Raises `UsageError` ``where.missing``, ``where.unknown`` (with the nearest known name) or ``where.value``."""
        for name, value in where.items():
            if name not in self.settings:
                near = difflib.get_close_matches(name, self.settings, n=1, cutoff=0.5)
                known = "It takes: " + ", ".join(self.settings) + "." if self.settings else "It takes none."
                raise _refuse("unknown", f"settings of {platform}", repr(name), f"Did you mean {near[0]!r}?" if near else known)
            choices = self.settings[name].choices
            if choices and value not in choices:
                raise _refuse("value", f"{name}: one of {', '.join(choices)}", repr(value), "Correct the value.")
        for name, setting in self.settings.items():
            if setting.required and not where.get(name):
                raise _refuse("missing", f"{name}: {setting.doc}", "nothing", f"Add `{name}` to `where.{platform}`.")


def gib(order: Order) -> int:
    """Of the boot disk, rounded up: what a volume for it has at least."""
    path = Path(order.disks[0].path) if order.disks else None
    return max(1, -(-path.stat().st_size // (1 << 30))) if path and path.is_file() else 1


def _refuse(problem: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError.of(f"where.{problem}", expected=expected, found=found, remedy=remedy)
