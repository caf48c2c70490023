"""Revoke a deployment: its keys and identities are denied from now on, and its machine is told and stopped.

What was released to it before cannot be taken back; `evident status NAME` shows when that was. The machine stays on record until
`evident down`.

examples:
  evident revoke shop --reason "disk image leaked"
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--reason", metavar="TEXT", required=True, help="for the record, and for whoever is denied")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    import json

    from evident.cli.deployments import surroundings
    from evident.lifecycle.deployment import deployment
    from evident.lifecycle.revoke import revoke

    denied = revoke(deployment(args.name, surroundings()), args.reason)
    if args.output == "json":
        print(json.dumps({"name": args.name, "state": "revoked", "denied": list(denied)}))
        return 0
    print(f"{args.name} is revoked and stopped.")
    for each in denied:
        print(f"  denied from now on: {each}")
    return 0
