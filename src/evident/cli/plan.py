"""What a deployment document would create, what that could prove, and whom you would trust for it. Nothing is created, no cloud is asked.

examples:
  evident plan shop.yaml
  evident plan shop.yaml --platform any            where could most be proven?
  evident plan shop.yaml --platform aws -o json
  evident plan shop.yaml && evident up shop.yaml

Exit code: 0 when every requirement of the document is met, 11 when one is not. docs/deploy.md explains the document.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from evident.lifecycle.plan import Option, Plan

UNMET = 11


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("document", metavar="SPEC", help="deployment document, YAML or JSON")
    parser.add_argument("--platform", help="instead of the document's: a platform, or `any`")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from evident.cli.documents import read_specification
    from evident.cli.paths import spire
    from evident.lifecycle.plan import plan

    made = plan(read_specification(args.document), at=datetime.now(UTC).date(), platform=args.platform, spire=spire())
    if args.output == "json":
        import json

        from evident import codec

        print(json.dumps(codec.encode(made), indent=2, ensure_ascii=False))
    else:
        _print(made)
    return UNMET if made.chosen.unmet else 0


def _print(made: Plan) -> None:
    from rich.console import Console
    from rich.markup import escape

    from evident.cli.terminal import hanging

    console, chosen = Console(highlight=False), made.chosen
    console.print(f"[bold]{escape(made.name)}[/] on [bold]{chosen.platform}[/] ({escape(chosen.prospect.title)})")
    console.print(hanging("because: ", made.because))
    if chosen.simulated:
        console.print("[bold red]SIMULATED: whatever it shows is said of no hardware.[/]")
    _resources(console, chosen)
    _proof(console, chosen)
    _unmet(console, chosen)
    if made.others:
        console.print("\n[bold]Also allowed by the document[/]")
    for each in made.others:
        levels = each.prospect.levels
        codes = ", ".join(dict.fromkeys(lacking.finding.code for lacking in each.unmet))
        state = f"unmet: {codes}" if codes else "every requirement met"
        reached = f"level {levels.nominal}, {levels.trustworthy} without the provider; {state}"
        console.print(hanging(f"  {each.platform} {each.technology}: ", reached))
    console.print("\nNothing was created, and no cloud was asked.")


def _resources(console: Console, chosen: Option) -> None:
    from rich.table import Table

    console.print("\n[bold]Would be created[/]")
    if not chosen.resources:
        console.print("  cannot be told before the settings below are there")
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("  resource", "what", "billed"):
        table.add_column(column, overflow="fold")
    for item in chosen.resources:
        table.add_row(f"  {item.kind}", item.what, item.billed or "-")
    console.print(table)


def _proof(console: Console, chosen: Option) -> None:
    from rich.markup import escape
    from rich.table import Table

    from evident.cli.terminal import hanging

    levels = chosen.prospect.levels
    console.print(
        f"\n[bold]Could be proven[/] (facts of {chosen.prospect.as_of.isoformat()}): level {levels.nominal} of 4, "
        f"level {levels.trustworthy} without the provider's word"
    )
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("  layer", "degree", "without the provider", "rests on the word of"):
        table.add_column(column, overflow="fold")
    for each in chosen.prospect.layers:
        holds = "no" if each.needs_provider else "yes"
        degree = f"{int(each.verifiability)} {each.verifiability.words}"
        table.add_row(f"  {each.layer.replace('_', ' ')}", degree, holds, each.endorser)
    console.print(table)
    console.print(f"\n[bold]You would trust[/] the chip's maker{''.join(f', {escape(party)}' for party in chosen.trust)}")
    for sentence in chosen.prospect.conclusions:
        console.print(hanging("  - ", sentence))
    console.print("\n[bold]It will not prove[/]")
    for sentence in chosen.unproven:
        console.print(hanging("  - ", sentence))


def _unmet(console: Console, chosen: Option) -> None:
    from evident.cli.terminal import hanging

    if not chosen.unmet:
        console.print("\n[bold green]Every requirement of the document is met.[/]")
        return
    console.print(f"\n[bold red]{len(chosen.unmet)} of the document's requirements {'is' if len(chosen.unmet) == 1 else 'are'} not met[/]")
    for each in chosen.unmet:
        finding = each.finding
        console.print(f"  [bold]{finding.code}[/]")
        for lead, text in (("wanted", finding.expected), ("here", finding.found), ("next", finding.remedy)):
            console.print(hanging(f"    {lead:<8}", text))
        for way in each.alternatives:
            console.print(hanging(f"    {'or':<8}", way))
