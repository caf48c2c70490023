"""Put a machine of another image in the place of the one that runs.

For the length of the window both images are accepted, the old and the new; after it the new one alone.

examples:
  evident update shop.yaml --window 30m             the document that it was made from, with another image in it
  evident update shop --image shop-2.image --window 30m
  evident update shop --kernel vmlinuz --initrd initrd.img --append "ro root=/dev/mapper/root roothash=..."
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli import up

if TYPE_CHECKING:
    from evident.lifecycle.deployment import Deployment


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="SPEC|NAME", help="a deployment document, or the deployment's name with the options below")
    up.configure_machine(parser)
    parser.add_argument("--window", metavar="TIME", default="1h", help="how long the old image is accepted too: 90s, 30m, 12h, 7d")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    import json

    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy, read_specification
    from evident.cli.inputs import parse_duration
    from evident.lifecycle import bring_up, from_document
    from evident.lifecycle.deployment import deployment
    from evident.reference_values.model import by_tpm

    window = parse_duration(args.window)
    if up.is_document(args.name):
        up.refuse_machine(args)
        wanted = read_specification(args.name)
        target = deployment(wanted.name, surroundings())
        from_document.update(target, wanted, up.builders(target), window=window)
    else:
        target = deployment(args.name, surroundings())
        _refuse_document(target)
        if args.image and args.boot is None:  # as the machine that it replaces
            args.boot = "uki" if by_tpm(target.references.values) else "direct"
        order, release = up.ordered(args, target)
        bring_up.update(target, order, window=window, policy=read_policy(args.policy) if args.policy else None, release=release)
    if args.output == "json":
        print(json.dumps({"name": target.name, "state": target.journal.state, "window_seconds": window.total_seconds()}))
    else:
        print(f"{target.name} runs the new image; the old one is accepted for {args.window} more.\nnext: evident attest {target.name}")
    return 0


def _refuse_document(target: Deployment) -> None:
    """A machine by options would not be what the deployment's document says."""
    from evident.errors import UsageError
    from evident.lifecycle import specification

    if specification.kept(target) is not None:
        raise UsageError.of(
            "usage.update",
            expected=f"the document that {target.name!r} was made from, with what is to change",
            found="its name",
            remedy="For example: evident update shop.yaml --window 30m",
        )
