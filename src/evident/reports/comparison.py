"""Statements side by side, the differences first: what each layer is worth here and there, who vouches, whom one still trusts.

Compared are the words that a reader of either statement would see (`evident.reports.view`), so that nothing differs in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from evident.reports import html
from evident.reports.json_report import Recorded
from evident.reports.text import STYLE, WIDTH, banner, heading, printed
from evident.reports.view import LEVELS, SOME_SIMULATED, LayerView, Screen, clean, level_words, screen

ABSENT = "not said"
_JUDGED = "Judged at"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that statements say."""

    section: str
    name: str
    values: tuple[str, ...]
    """In the order of the statements."""

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True)
class Comparison:
    labels: tuple[str, ...]
    verdicts: tuple[str, ...]
    simulated: tuple[bool, ...]
    judged: tuple[str, ...]
    """When each was judged."""
    rows: tuple[Row, ...]

    @property
    def differences(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.differs)

    @property
    def same(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.differs)

    @property
    def headline(self) -> str:
        count = len(self.differences)
        if not count:
            return f"They say the same in all of {len(self.rows)} points."
        return f"They differ in {count} of {len(self.rows)} points."


def compare(statements: Sequence[tuple[str, Recorded]]) -> Comparison:
    """Label and recorded outcome of each, two or more."""
    screens = [screen(outcome) for _, outcome in statements]
    return Comparison(
        labels=tuple(clean(label) for label, _ in statements),
        verdicts=tuple(f"{shown.verdict}{shown.simulated_suffix}" for shown in screens),
        simulated=tuple(shown.simulated for shown in screens),
        judged=tuple(dict(shown.facts).get(_JUDGED, "no statement") for shown in screens),
        rows=(*_answers(statements, screens), *_layers(screens), *_questions(screens)),
    )


def document(comparison: Comparison) -> dict[str, Any]:
    """The JSON form: every row, those that differ first."""
    columns = (comparison.labels, comparison.verdicts, comparison.simulated, comparison.judged)
    sides = [dict(zip(("name", "verdict", "simulated", "judged_at"), side, strict=True)) for side in zip(*columns, strict=True)]
    return {"statements": sides, "differences": list(map(_json, comparison.differences)), "same": list(map(_json, comparison.same))}


def render_html(comparison: Comparison) -> str:
    """The page."""
    own = {"heading": " · ".join(comparison.labels), "sections": _sections, "some_simulated": SOME_SIMULATED}
    return html.page("comparison.html.j2", found=comparison, **own)


def render_text(comparison: Comparison, *, width: int = WIDTH, color: bool = False) -> str:
    """For people, in lines of at most `width` columns."""
    return printed(_parts(comparison), width=width, color=color)


def _answers(statements: Sequence[tuple[str, Recorded]], screens: Sequence[Screen]) -> Iterator[Row]:
    section = "The answer"
    yield Row(section, "Decision", tuple(f"{shown.verdict}{shown.simulated_suffix} ({shown.code})" for shown in screens))
    for name, attribute in zip(LEVELS, ("nominal", "trustworthy"), strict=True):
        yield Row(section, name, tuple(level_words(getattr(shown, attribute), simulated=shown.simulated) for shown in screens))
    yield Row(section, "Findings", tuple(", ".join(finding.code for finding in shown.findings) or "none" for shown in screens))
    parties = (sorted({party for layer in outcome.layers for party in layer.trusted_parties}) for _, outcome in statements)
    yield Row(section, "Parties still trusted", tuple(clean(", ".join(each)) or "nobody is named" for each in parties))
    yield Row(section, "Unsafe options", tuple(", ".join(shown.unsafe) or "none" for shown in screens))
    facts: list[Mapping[str, str]] = [dict(shown.facts) for shown in screens]
    for name in dict.fromkeys(name for each in facts for name in each if name != _JUDGED):
        yield Row(section, name, tuple(each.get(name, ABSENT) for each in facts))


def _layers(screens: Sequence[Screen]) -> Iterator[Row]:
    views = [{layer.name: layer for layer in shown.layers + shown.beside} for shown in screens]
    for name in dict.fromkeys(name for each in views for name in each):
        layers = [each.get(name) for each in views]
        title = next(layer.title for layer in layers if layer is not None)
        for aspect, attribute in (
            ("Verifiability", "degree_words"),
            ("Vouched for by", "endorsers"),
            ("Still to be trusted", "residual"),
            ("The provider", "provider"),
            ("Freshness", "freshness"),
        ):
            yield Row(title, aspect, tuple(_said(layer, attribute) for layer in layers))


def _said(layer: LayerView | None, attribute: str) -> str:
    return ABSENT if layer is None else str(getattr(layer, attribute))


def _questions(screens: Sequence[Screen]) -> Iterator[Row]:
    given = [{each.question: f"{each.answer}: {each.because}" for each in shown.questions} for shown in screens]
    for question in dict.fromkeys(question for each in given for question in each):
        yield Row("Five questions", question, tuple(each.get(question, ABSENT) for each in given))


def _json(row: Row) -> dict[str, Any]:
    return {"section": row.section, "name": row.name, "values": list(row.values)}


def _sections(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.section, []).append(row)
    return found


def _parts(comparison: Comparison) -> Iterator[RenderableType]:
    if any(comparison.simulated):
        yield banner(SOME_SIMULATED)
    yield Text(comparison.headline, style="bold")
    if comparison.differences:
        yield heading("Where they differ")
        yield _differences(comparison)
    if comparison.same:
        yield heading("What they say alike")
        yield _same(comparison)


def _differences(comparison: Comparison) -> Table:
    table = Table(box=box.HORIZONTALS, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, expand=True, show_lines=True)
    table.add_column("", ratio=2, overflow="fold")
    for label, simulated, judged in zip(comparison.labels, comparison.simulated, comparison.judged, strict=True):
        title = Text.assemble((label, "bold"), f"\n{judged[:16]}")
        if simulated:
            title.append("\nSIMULATED", style="bold magenta")
        table.add_column(title, ratio=3, overflow="fold")
    for section, rows in _sections(comparison.differences).items():
        table.add_row(Text(section, style=f"bold {STYLE['unsure']}"), end_section=False)
        for row in rows:
            table.add_row(Text(row.name), *(Text(value) for value in row.values))
    return table


def _same(comparison: Comparison) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
    table.add_column(ratio=2, overflow="fold")
    table.add_column(ratio=3, overflow="fold")
    for section, rows in _sections(comparison.same).items():
        table.add_row(Text(section, style="bold"), "")
        for row in rows:
            table.add_row(Text(row.name), Text(row.values[0]))
    return table
