"""What a deployment on a platform consists of, known before anything is made: the settings it takes, the resources it will have.

Each ``platforms/<name>/outline.py`` has one `Outline` called ``OUTLINE``, without its SDK; `evident.platforms.registry` gathers them.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from evident.errors import UsageError
from evident.platforms.order import Order


class Setting(NamedTuple):
    """One name that `Order.where` may have there."""

    doc: str
    required: bool = False
    choices: tuple[str, ...] = ()
    """Empty: any text."""
    path: bool = False
    """A file or folder of the owner's, seen from the document."""


@dataclass(frozen=True, slots=True)
class Item:
    """One resource that `launch` will make."""

    kind: str
    """As in the journal of resources."""
    what: str
    billed: str | None = None
    """What the price is asked for, and how long; None: nothing. No prices: they change, and are the provider's to say."""


def _nothing() -> tuple[str, ...]:
    return ()


def _fits(technology: str, where: Mapping[str, str]) -> str | None:  # noqa: ARG001  # what a platform that knows more overrides
    return None


@dataclass(frozen=True, slots=True)
class Outline:
    """One platform."""

    settings: Mapping[str, Setting]
    technologies: tuple[str, ...]
    """What `launch` can ask for there, best first."""
    items: Callable[[Order], tuple[Item, ...]]
    missing: Callable[[], tuple[str, ...]] = _nothing
    """What this machine lacks for a launch there, each with how to get it; found without asking anybody."""
    fits: Callable[[str, Mapping[str, str]], str | None] = _fits
    """Why no machine of these settings has this technology; None where one may."""
    profile: Callable[[Mapping[str, str]], str | None] = lambda _: None
    """Id of the profile of machines with these settings, where they are of another kind than the platform's usual ones; else None."""
    simulated: Callable[[], bool] = lambda: False
    """Whether what is launched from this machine has a simulated secure processor."""
    cloud: bool = True
    """Boots from a disk alone, on a network that is closed until it is opened."""
    identities: frozenset[str] = frozenset()
    """Of `evident.appraisal.identities`, those that evidence of a machine launched there shows, of values that can be known before."""
    firmware: Callable[[str], Literal["platform", "evidence", "yours"]] = lambda _: "yours"
    """From a technology to where the reference value of its firmware comes from: the platform launches a firmware that it is given; it
    comes signed with the evidence; or the owner brings it.
    """

    def check(self, platform: str, where: Mapping[str, str]) -> None:
        """Raises `UsageError` ``where.missing``, and what `known` raises."""
        self.known(platform, where)
        for name, setting in self.settings.items():
            if setting.required and not where.get(name):
                raise _refuse("missing", f"{name}: {setting.doc}", "nothing", f"Add `{name}` to `where.{platform}`.")

    def known(self, platform: str, where: Mapping[str, str]) -> None:
        """Raises `UsageError` ``where.unknown`` (with the nearest known name) or ``where.value``."""
        for name, value in where.items():
            if name not in self.settings:
                near = difflib.get_close_matches(name, self.settings, n=1, cutoff=0.5)
                known = "It takes: " + ", ".join(self.settings) + "." if self.settings else "It takes none."
                raise _refuse("unknown", f"settings of {platform}", repr(name), f"Did you mean {near[0]!r}?" if near else known)
            choices = self.settings[name].choices
            if choices and value not in choices:
                raise _refuse("value", f"{name}: one of {', '.join(choices)}", repr(value), "Correct the value.")


def sdk(module: str, extra: str) -> Callable[[], tuple[str, ...]]:
    """For `Outline.missing`: the cloud's SDK."""

    def look() -> tuple[str, ...]:
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # of a package above it
            found = False
        return () if found else (f"the SDK: pip install 'evident[{extra}]'",)

    return look


def _refuse(problem: str, expected: str, found: str, remedy: str) -> UsageError:
    return UsageError.of(f"where.{problem}", expected=expected, found=found, remedy=remedy)
