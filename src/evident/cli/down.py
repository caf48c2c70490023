"""Destroy a deployment's machine. Its journal and audit bundles stay, as a record.

examples:
  evident down shop

Safe to repeat: what a crash left half done is finished.
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def run(args: argparse.Namespace) -> int:
    from evident.cli.deployments import surroundings
    from evident.lifecycle.deployment import deployment, down

    target = deployment(args.name, surroundings())
    if down(target):
        print(f"{target.name} is destroyed. Its record is kept in {target.directory}.")
    else:
        print(f"{target.name} was destroyed before; nothing was left to do.")
    return 0
