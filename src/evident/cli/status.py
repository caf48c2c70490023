"""Show deployments: where each is in its life, and what its last answer proved.

A state is what was last seen, with its time: only `evident attest` finds out what holds now. What a deployment has in a cloud is held
against what that cloud lists under its tags, without changing anything; after a crash `evident up` carries on, and `evident down` removes.

examples:
  evident status
  evident status --offline                          ask no cloud
  evident status shop -o json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evident.lifecycle.deployment import Deployment


_TIME = len("2026-11-22T12:00:00")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="only this one, with its whole journal")
    parser.add_argument("--offline", action="store_true", help="ask no cloud what is there")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from evident.cli.deployments import surroundings
    from evident.lifecycle.deployment import deployment, deployments

    around = surroundings()
    chosen = (deployment(args.name, around),) if args.name else deployments(around)
    rows = [_row(each, offline=args.offline) if args.name else _row_or_damage(each, offline=args.offline) for each in chosen]
    if args.output == "json":
        print(json.dumps({"deployments": rows}, indent=2))
    elif args.name:
        _print_journal(rows[0])
    else:
        _print(rows)
    return 0


def _row(each: Deployment, *, offline: bool) -> dict[str, Any]:
    from evident import codec
    from evident.lifecycle.keystore import disks

    platform = each.platform  # raises where there is no such deployment
    events = each.journal.events()
    return {
        "name": each.name,
        "platform": platform,
        "state": str(events[-1].state),
        "since": codec.format_time(events[-1].at),
        "last": dict(events[-1].detail),
        "machine": each.number,
        "others": _others(each),
        "processes": _processes(each),
        "disks": disks(each.surroundings, each.name),
        **({} if offline else _in_cloud(each)),
        "directory": str(each.directory),
        "journal": [codec.encode(event) for event in events],
    }


def _others(each: Deployment) -> list[dict[str, Any]]:
    """The machines beside the one in charge: those that it replaced, and one that an update is making."""
    from evident import codec

    known = each.generations
    replaced = {number: codec.format_time(until) for number, until in known.replaced.items()}
    beside = [machine.number for machine in each.machines() if machine.number != known.charge]
    return [{"machine": number, **({"accepted_until": replaced[number]} if number in replaced else {})} for number in beside]


def _processes(each: Deployment) -> dict[str, bool]:
    """Those of every machine on this host; by its number, where it is not the one in charge."""
    found: dict[str, bool] = {}
    for machine in each.machines():
        beside = "" if machine.number == each.number else f" of machine {machine.number}"
        found |= {f"{role}{beside}": runs for role, runs in each.driver().parts(machine.machine).items()}
    return found


def _in_cloud(each: Deployment) -> dict[str, Any]:
    """What its cloud lists, or why that is not known; nothing for a machine of this host."""
    from evident.errors import EvidentError
    from evident.lifecycle.reconcile import survey

    try:
        seen = survey(each)
    except EvidentError as error:
        return {"cloud": {"unknown": error.code, "found": error.findings[0].found, "remedy": error.findings[0].remedy}}
    if seen is None:
        return {}
    there = {
        "present": [{"kind": item.kind, "name": item.name, "id": item.id} for item in seen.present],
        "missing": [{"kind": item.kind, "name": item.name, "id": item.id} for item in seen.missing],
        "unwritten": [{"kind": kind, "id": identifier} for kind, identifier in seen.unwritten],
    }
    return {"cloud": there}


def _row_or_damage(each: Deployment, *, offline: bool) -> dict[str, Any]:
    """One damaged journal must not hide the other deployments."""
    from evident.errors import EvidentError

    try:
        return _row(each, offline=offline)
    except EvidentError as error:
        last = {"decision": "unknown", "code": error.code}
        return {"name": each.name, "platform": "?", "state": "damaged", "since": "", "last": last, "directory": str(each.directory)}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from evident.reports.view import clean

    if not rows:
        print("No deployments. `evident up NAME --platform simulated` creates one.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "platform", "state", "since (UTC)", "machine", "last answer"):
        whole = column in ("state", "since (UTC)")
        table.add_column(column, overflow="fold", no_wrap=whole, min_width=_TIME if column == "since (UTC)" else None)
    for row in rows:
        cells = (row["name"], row["platform"], row["state"], row["since"][:_TIME], _machine(row), _said(row["last"]))
        table.add_row(*(Text(clean(cell)) for cell in cells))
    Console().print(table)


def _machine(row: dict[str, Any]) -> str:
    """Whether the machine runs on this host and what of it does not; or what a cloud has of it."""
    processes, cloud = row.get("processes", {}), row.get("cloud")
    if cloud is not None:
        return _resources(cloud)
    ended = [name for name, runs in processes.items() if not runs]
    if not ended:
        return "runs" if processes else ""
    return "ended" if len(ended) == len(processes) else "ended: " + ", ".join(ended)


def _resources(cloud: dict[str, Any]) -> str:
    if "unknown" in cloud:
        return f"not known ({cloud['unknown']})"
    there = f"{len(cloud['present'])} resources"
    gone = "; missing: " + ", ".join(item["kind"] for item in cloud["missing"]) if cloud["missing"] else ""
    return there + gone


def _said(detail: dict[str, str]) -> str:
    if "reason" in detail:
        return f"revoked: {detail['reason']}"
    if "decision" not in detail:
        return "none yet"
    simulated = "SIMULATED: " if detail.get("simulated") == "yes" else ""
    levels = f", nominal AL{detail['nominal']}, trustworthy AL{detail['trustworthy']}" if "nominal" in detail else ""
    code = "" if detail["code"] == detail["decision"] else f" ({detail['code']})"
    return f"{simulated}{detail['decision']}{code}{levels}"


def _print_journal(row: dict[str, Any]) -> None:
    print(f"{row['name']} on {row['platform']}, kept in {row['directory']}")
    print(f"  machine {row['machine']} is in charge")
    for other in row["others"]:
        until = other.get("accepted_until")
        told = f"was replaced, and is accepted until {until}" if until else "is what an update was making"
        print(f"  machine {other['machine']} {told}")
    for name, runs in row["processes"].items():
        print(f"  process {name} {'runs' if runs else 'has ended'}")
    for disk, known in row["disks"].items():
        print(f"  disk {disk} {known}")
    for line in _cloud_lines(row.get("cloud", {})):
        print(f"  {line}")
    for event in row["journal"]:
        detail = " ".join(f"{name}={value}" for name, value in event["detail"].items())
        print(f"  {event['at']}  {event['state']:<10}  {detail}".rstrip())


def _cloud_lines(cloud: dict[str, Any]) -> list[str]:
    if "unknown" in cloud:
        return [f"in the cloud: not known, {cloud['unknown']}: {cloud['found']}", f"next: {cloud['remedy']}"]
    said = [f"there     {item['kind']} {item['id']}" for item in cloud.get("present", [])]
    said += [f"MISSING   {item['kind']} {item['id'] or item['name']}" for item in cloud.get("missing", [])]
    return said + [f"beside it {item['kind']} {item['id']}" for item in cloud.get("unwritten", [])]
