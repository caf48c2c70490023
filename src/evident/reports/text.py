"""The terminal's view of a statement or an error.

The first screen answers four questions; below it follow every layer with degree, endorser and residual trust, what stands in
the way with what to do, and the five questions. It fits 80 columns, needs no colour to be understood, and prints no bare symbol.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evident.reports.json_report import Outcome
from evident.reports.view import LEVELS, SIMULATED, LayerView, Screen, Tone, level_words, screen

WIDTH = 80

STYLE: dict[Tone, str] = {"good": "green", "bad": "red", "unsure": "yellow"}


def render(outcome: Outcome, *, width: int = WIDTH, color: bool = False) -> str:
    """`outcome` for people, in lines of at most `width` columns; `color` only where a terminal reads it."""
    return printed(_parts(screen(outcome)), width=width, color=color)


def printed(parts: Iterable[RenderableType], *, width: int, color: bool) -> str:
    """`parts` as text, one below the other."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _parts(shown: Screen) -> Iterator[RenderableType]:
    if shown.simulated:
        yield banner(SIMULATED)
    if shown.unsafe:
        yield banner("UNSAFE, in force here: " + ", ".join(shown.unsafe))
    yield _first_screen(shown)
    yield _levels(shown)
    if shown.findings:
        yield from _findings(shown)
    yield heading("Layers, in the order of the boot")
    yield _layer_table(shown.layers, shown.tone)
    if shown.beside:
        yield heading("Beside the levels (never raising them)")
        yield _layer_table(shown.beside, shown.tone)
    if shown.questions:
        yield from _questions(shown)
    yield from _caveats(shown)
    if shown.facts:
        yield heading("How this came about")
        yield _pairs(shown.facts)
    if shown.steps:
        yield heading("What was checked, step by step")
        yield _pairs(tuple((f"{number}.", step) for number, step in enumerate(shown.steps, 1)))


def banner(words: str) -> RenderableType:
    return Panel(Text(words, style="bold", justify="center"), box=box.DOUBLE, style="magenta")


def heading(words: str) -> RenderableType:
    return Padding(Text(words, style="bold underline"), (1, 0, 0, 0))


def _pairs(rows: tuple[tuple[str, str], ...]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _first_screen(shown: Screen) -> RenderableType:
    style = "magenta" if shown.simulated and shown.tone == "good" else STYLE[shown.tone]
    title = Text(f" {shown.verdict}{shown.simulated_suffix} ", style=f"bold {style}")
    table = _pairs(shown.first)
    table.padding = (0, 1, 1, 0)
    code = Text(f" {shown.code} ", style=style)
    return Panel(table, title=title, title_align="left", subtitle=code, subtitle_align="right", border_style=style, padding=(1, 1, 0, 1))


def _levels(shown: Screen) -> RenderableType:
    reached = (level_words(level, simulated=shown.simulated) for level in (shown.nominal, shown.trustworthy))
    rows = zip(LEVELS, reached, strict=True)
    lines = [Text.assemble((f"{name}: ", "bold"), value) for name, value in rows]
    return Group(*lines, Text(shown.proof_ends))


def _findings(shown: Screen) -> Iterator[RenderableType]:
    yield heading("What stands in the way")
    for number, finding in enumerate(shown.findings, 1):
        yield Text.assemble((f"{number}. {finding.code}", f"bold {STYLE['bad']}"), f" (layer: {finding.layer.replace('_', ' ')})")
        rows = (("expected", finding.expected), ("found", finding.found), ("do this", finding.remedy))
        yield Padding(_pairs(rows), (0, 0, 0, 3))


def _layer_table(layers: tuple[LayerView, ...], tone: Tone) -> Table:
    table = Table(box=box.HORIZONTALS, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, expand=True, show_lines=True)
    table.add_column("Layer", ratio=14)
    table.add_column("Verifiability", ratio=19)
    table.add_column("Vouched for by", ratio=16)
    table.add_column("Still to be trusted", ratio=31)
    for layer in layers:
        name = Text(layer.title, style="bold")
        if layer.level:
            name.append(f"\n(level {layer.level})", style="not bold")
        if layer.findings:
            name.append("\nsee finding " + ", ".join(map(str, layer.findings)), style=f"bold {STYLE[tone]}")
        style = STYLE[tone if layer.findings else "good" if layer.degree > 1 or (layer.level == 1 and layer.degree) else "unsure"]
        residual = f"{layer.residual}\n{layer.provider}" if layer.level else layer.residual
        table.add_row(name, Text(layer.degree_words, style=style), Text(layer.endorsers), Text(residual))
    return table


def _questions(shown: Screen) -> Iterator[RenderableType]:
    yield heading("Why trust this machine? Five questions")
    for number, answer in enumerate(shown.questions, 1):
        yield Text.assemble((f"{number}. {answer.question}: ", "bold"), (f"{answer.answer}.", f"bold {STYLE[answer.tone]}"))
        yield Padding(Text(answer.because), (0, 0, 0, 3))
        if answer.residual:
            yield Padding(Text(f"Still to be trusted: {answer.residual}"), (0, 0, 0, 3))


def _caveats(shown: Screen) -> Iterator[RenderableType]:
    caveats = [(layer, caveat) for layer in shown.layers + shown.beside for caveat in layer.caveats]
    if not caveats:
        return
    yield heading("Caveats")
    for layer, caveat in caveats:
        yield Text.assemble((f"{layer.title}: ", "bold"), f"{caveat.text} ", (f"[{caveat.code}]", "dim"))
        yield Padding(Text(caveat.remedy), (0, 0, 0, 3))
