"""Put another machine in the place of the one that runs: of another image, of another size, or both.

The new machine is made beside the old one, and attested. Only then does it take over. If it is refused or cannot be made, it is removed,
and the old one goes on. For the length of the window both machines are accepted; the first `evident up`, `attest` or `update` after it
removes the old one. Without a window that is done at once. Interrupted, the same command carries on.

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
    from datetime import timedelta

    from evident.appraisal.policy import Policy
    from evident.lifecycle.deployment import Deployment


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="SPEC|NAME", help="a deployment document, or the deployment's name with the options below")
    up.configure_machine(parser)
    parser.add_argument("--window", metavar="TIME", help="how long the old machine runs on and is accepted too: 90s, 30m, 12h, 7d")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from datetime import timedelta

    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy, read_specification
    from evident.cli.inputs import parse_duration
    from evident.lifecycle import from_document
    from evident.lifecycle.deployment import deployment

    window = parse_duration(args.window) if args.window else timedelta(0)
    if up.is_document(args.name):
        up.refuse_machine(args)
        wanted = read_specification(args.name)
        target = deployment(wanted.name, surroundings())
        from_document.update(target, wanted, up.builders(target), window=window)
        code = 0  # it has proved itself, or it would not be in charge
    else:
        target = deployment(args.name, surroundings())
        _refuse_document(target)
        code = _by_options(target, args, window, read_policy(args.policy) if args.policy else None)
    _say(target, args.output)
    return code


def _by_options(target: Deployment, args: argparse.Namespace, window: timedelta, policy: Policy | None) -> int:
    import functools

    from evident.cli.answers import exit_code
    from evident.cli.paths import cache_dir
    from evident.lifecycle import proving, succession
    from evident.reference_values.model import by_tpm

    if args.image and args.boot is None:  # as the machine that it replaces
        args.boot = "uki" if by_tpm(target.references.values) else "direct"
    order, release = up.ordered(args, succession.successor(target))
    prove = functools.partial(proving.prove, cache=cache_dir()) if args.image else None  # a kernel alone may hold no agent to ask
    succession.update(target, order, window=window, policy=policy, release=release, prove=prove)
    return 0 if prove else exit_code(proving.ready(target, cache_dir()).outcome)


def _say(target: Deployment, output: str) -> None:
    import json

    from evident import codec

    until = {str(number): codec.format_time(until) for number, until in target.generations.replaced.items()}
    left = {str(each.number): until[str(each.number)] for each in target.machines() if str(each.number) in until}
    if output == "json":
        print(json.dumps({"name": target.name, "state": target.journal.state, "machine": target.number, "accepted_until": left}))
        return
    print(f"{target.name}: machine {target.number} is in charge.")
    for number, end in left.items():
        print(f"machine {number} is accepted until {end}; the first `evident up`, `attest` or `update` after that removes it")
    for port, address in target.driver().addresses(target.machine).items():
        print(f"port {port} of it is {address} here")
    print(f"next: evident attest {target.name}")


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
