"""The page: one self-contained HTML file that loads nothing, runs no script, and prints.

Everything shown passes Jinja2's autoescaping; the content security policy admits the one inline style sheet by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from evident import __version__
from evident.appraisal.statement import TrustStatement
from evident.reports.json_report import Outcome
from evident.reports.view import LEVELS, SIMULATED, clean, level_words, screen

_STATUS_WORDS = MappingProxyType(
    {
        "matched": "Equal",
        "differs": "DIFFERENT",
        "unreferenced": "Nothing to compare with",
        "asserted": "Only asserted, not proven",
    }
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A raw piece that the statement rests on."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    """Hex."""


def artifacts(pieces: Mapping[str, Iterable[bytes]]) -> tuple[Artifact, ...]:
    """The pieces of a verification, by role, as the page lists them."""
    return tuple(
        Artifact(clean(role), len(content), hashlib.sha256(content).hexdigest())
        for role, contents in pieces.items()
        for content in contents
    )


def _commands(text: str) -> Markup:
    """`text` escaped, with what stands between backticks set as code."""
    plain, *rest = text.split("`")
    if len(rest) % 2:
        return escape(text)
    marked = escape(plain)
    for index, part in enumerate(rest):
        marked += escape(part) if index % 2 else Markup("<code>{}</code>").format(part)
    return marked


def render(outcome: Outcome, *, pieces: tuple[Artifact, ...] = (), bundle_sha256: str = "") -> str:
    """The page of a statement, or of the error that prevented one.

    `pieces` are listed as raw evidence; `bundle_sha256` (hex) names the audit bundle that belongs to the page.
    """
    shown = screen(outcome)
    heading = ""
    if isinstance(outcome, TrustStatement):
        heading = clean(f"{outcome.profile or f'{outcome.kind} evidence'} · {outcome.at:%Y-%m-%d %H:%M} UTC")
    return page(
        "statement.html.j2",
        shown=shown,
        heading=heading,
        level_titles=LEVELS,
        nominal_words=level_words(shown.nominal, simulated=shown.simulated),
        trustworthy_words=level_words(shown.trustworthy, simulated=shown.simulated),
        statuses=_STATUS_WORDS,
        artifacts=pieces,
        bundle_sha256=bundle_sha256,
    )


def page(template: str, **content: Any) -> str:
    """The page that `template` makes of `content`, in the one look that all pages have."""
    environment = Environment(
        loader=PackageLoader("evident.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"commands": _commands, "clean": clean}
    style = environment.loader.get_source(environment, "statement.css")[0] if environment.loader else ""
    return environment.get_template(template).render(
        **content,
        style=Markup(style),  # noqa: S704  # our own style sheet, no data in it
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        simulated_words=SIMULATED,
        version=__version__,
    )
