"""Destroy a deployment: its machine is removed, its keys are deleted, its identities banned, and a signed final record says so.

The record names what was destroyed and denied, the last answer's bundle, and where the release log ended; `evident audit verify`
checks it. Journal and audit bundles stay beside it.

examples:
  evident down shop
  evident down shop -o json

Safe to repeat: what a crash left half done is finished, and there is one final record.
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    import json

    from evident.cli.deployments import surroundings
    from evident.lifecycle.deployment import deployment
    from evident.lifecycle.farewell import down

    target = deployment(args.name, surroundings())
    record = down(target)
    if args.output == "json":
        print(json.dumps({"name": target.name, "state": "destroyed", "record": str(record) if record else None}))
    elif record is None:
        print(f"{target.name} was destroyed before; nothing was left to do.")
    else:
        print(f"{target.name} is destroyed, and gets nothing any more. Final record: {record}\nnext: evident audit verify {record}")
    return 0
