"""What could be proven on a platform, and whom would one still trust: before anything is deployed.

Every answer is computed from dated, sourced facts by the same rules that judge real evidence.

examples:
  evident explain                                  list the platforms
  evident explain qemu-snp                         what your own host lets anyone prove
  evident explain qemu-svsm --at 2024-03-26        the same, with the facts of that day
  evident explain --table scopelliti --why         a published table, recomputed, with the reason for every cell
  evident explain --table poster -o json
  evident explain --diff 2024-03-26 2026-11-22     which facts and levels changed, and why

tables: scopelliti (attestation levels of cloud offerings), pontes (deployment support), poster (verification mechanisms)
"""

from __future__ import annotations

import argparse
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evident.appraisal.changes import Change
    from evident.appraisal.prospect import Prospect
    from evident.appraisal.tables import Cell, Table

TABLE_DATES = {"scopelliti": "2024-03-26"}
"""The table that was printed of one day is shown for that day unless another is asked for."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("platform", nargs="?", help="platform id; without one, the list of platforms")
    parser.add_argument("--at", metavar="DATE", help="with the facts of this day (YYYY-MM-DD); default: the newest")
    parser.add_argument("--table", choices=("scopelliti", "pontes", "poster"), help="a published table, computed from the facts")
    parser.add_argument("--why", action="store_true", help="the reason and the sources of every cell")
    parser.add_argument("--diff", nargs=2, metavar=("BEFORE", "AFTER"), help="what changed between two days")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from evident.errors import UsageError

    chosen = [name for name in ("platform", "table", "diff") if getattr(args, name)]
    if len(chosen) > 1:
        raise UsageError.of(
            "explain.one-question",
            expected="a platform, --table or --diff",
            found=" and ".join(chosen),
            remedy="Ask one of them at a time.",
        )
    if args.diff:
        return _diff(args)
    if args.table:
        return _table(args)
    return _platform(args) if args.platform else _list(args)


def _day(text: str | None, default: str | None = None) -> date:
    from evident.errors import UsageError
    from evident.platforms.registry import PROFILES

    if text is None and default is None:
        return max(profile.as_of for profile in PROFILES)
    try:
        return date.fromisoformat(text or default or "")
    except ValueError:
        raise UsageError.of(
            "usage.date", expected="a day such as 2026-11-22", found=repr(text), remedy="Give year, month and day."
        ) from None


def _dump(value: Any) -> int:
    import json

    from evident import codec

    print(json.dumps(codec.encode(value), indent=2, ensure_ascii=False))
    return 0


def _list(args: argparse.Namespace) -> int:
    from evident.appraisal.prospect import current, profile_levels
    from evident.platforms.registry import PROFILES

    profiles = current(PROFILES, _day(args.at))
    if args.output == "json":
        rows = [{"platform": p.id, "title": p.title, "as_of": p.as_of, "levels": profile_levels(p)} for p in profiles]
        return _dump(rows)
    width = max(len(profile.id) for profile in profiles)
    for profile in profiles:
        reached = profile_levels(profile)
        mark = "  (SIMULATED: said of no hardware)" if profile.simulated else ""
        print(f"{profile.id:<{width}}  level {reached.nominal}, {reached.trustworthy} without the provider  {profile.title}{mark}")
    return 0


def _platform(args: argparse.Namespace) -> int:
    from evident.appraisal.prospect import prospect
    from evident.platforms.registry import profile

    found = prospect(profile(args.platform, _day(args.at)))
    if args.output == "json":
        return _dump(found)
    _print_prospect(found)
    return 0


def _print_prospect(found: Prospect) -> None:
    from rich.console import Console
    from rich.markup import escape

    from evident.cli.terminal import hanging

    console = Console(highlight=False)
    console.print(f"[bold]{escape(found.title)}[/] ({found.platform}), facts of {found.as_of.isoformat()}")
    if found.simulated:
        console.print("[bold red]SIMULATED: whatever it shows is said of no hardware.[/]")
    console.print(
        f"\nAt best level {found.levels.nominal} of 4 can be proven, and level {found.levels.trustworthy} without the provider's word.\n"
    )
    for layer in found.layers:
        level = f"AL{layer.level} " if layer.level else ""
        needed = "[yellow]needs the provider[/]" if layer.needs_provider else "[green]holds without the provider[/]"
        console.print(
            f"[bold]{level}{layer.layer.replace('_', ' ')}[/]: degree {int(layer.verifiability)}, {layer.verifiability.words}; {needed}"
        )
        for lead, text in (("endorsed by", layer.endorser), ("because", layer.because), ("still trust", layer.residual_trust)):
            console.print(hanging(f"  {lead:<13}", text))
        for source in layer.sources:
            console.print(hanging(f"  {'source':<13}", source, style="dim"))
    console.print("\n[bold]So:[/]")
    for sentence in (*found.conclusions, *found.notes):
        console.print(hanging("  - ", sentence))


def _table(args: argparse.Namespace) -> int:
    from evident.appraisal.tables import TABLES
    from evident.errors import UsageError
    from evident.platforms.registry import PROFILES

    at = _day(args.at, TABLE_DATES.get(args.table))
    table = TABLES[args.table](PROFILES, at)
    if not table.columns:
        raise UsageError.of(
            "explain.no-facts-yet", expected="a day with facts", found=at.isoformat(), remedy="The first facts are of 2024-03-26."
        )
    if args.output == "json":
        return _dump(table)
    _print_table(table, why=args.why)
    return 0


def _cell(cell: Cell, table: Table) -> str:
    if table.name == "poster" or not cell.agrees:
        return (
            f"poster: {cell.published or '-'}\nours: {cell.ours}" if table.name == "poster" else f"{cell.ours}\n(printed: {cell.published})"
        )
    return cell.ours


def _print_table(table: Table, *, why: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Grid

    console = Console(highlight=False)
    grid = Grid(title=f"{table.title}; computed from the facts of {table.as_of.isoformat()}", show_lines=True)
    for heading in ("", *table.columns):
        grid.add_column(heading, overflow="fold")
    for row in table.rows:
        grid.add_row(escape(row.name), *(escape(_cell(row.cells[column], table)) for column in table.columns))
    console.print(grid)
    for mark, words in table.legend.items():
        console.print(f"  {mark}  {words}")
    if not why:
        console.print("\nThe reason for every cell: --why, or -o json.")
        return
    for row in table.rows:
        console.print(f"\n[bold]{escape(row.name)}[/]")
        for column in table.columns:
            cell = row.cells[column]
            note = f" ({cell.note})" if cell.note else ""
            console.print(f"  {escape(column)}: {escape(cell.ours)}, because {escape(cell.because)}{escape(note)}")
            for source in cell.sources:
                console.print(f"      {escape(source)}", style="dim")


def _diff(args: argparse.Namespace) -> int:
    from evident.appraisal.changes import difference
    from evident.platforms.registry import PROFILES

    before, after = _day(args.diff[0]), _day(args.diff[1])
    changes = difference(PROFILES, before, after)
    if args.output == "json":
        return _dump(changes)
    _print_changes(changes, before, after)
    return 0


def _print_changes(changes: tuple[Change, ...], before: date, after: date) -> None:
    if not changes:
        print(f"No recorded fact changed between {before.isoformat()} and {after.isoformat()}.")
    for change in changes:
        print(f"{change.platform}: {change.what}: {change.before} -> {change.after}")
        if change.note:
            print(f"    {change.note}")
        if change.source:
            print(f"    source: {change.source}")
