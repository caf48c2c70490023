"""Create a deployment: launch a confidential VM and write down what should have been measured.

On the platform `simulated` nothing but this program is needed. Without images of your own, TEST images are launched that boot
nowhere but are measured up to the root file system. `--attack` makes the simulated host cheat in one named way, so that you can
see it refused.

examples:
  evident up shop --platform simulated
  evident up shop --platform simulated --kernel vmlinuz --initrd initrd.img --append "ro root=/dev/mapper/root roothash=..."
  evident up shop --platform simulated --attack swap-kernel
  evident up --list-attacks

then: evident attest shop
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.platforms.driver import Order


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="what to call it: lower-case letters, digits, hyphens")
    parser.add_argument("--platform", help="where to launch it")
    parser.add_argument("--firmware", metavar="FILE", help="OVMF image with SEV-SNP metadata (default: a TEST image)")
    parser.add_argument("--kernel", metavar="FILE", help="kernel for direct boot (default: a TEST image)")
    parser.add_argument("--initrd", metavar="FILE")
    parser.add_argument("--append", metavar="TEXT", help="kernel command line; name the root file system's verity hash in it for AL4")
    parser.add_argument("--vcpus", type=int, default=1, metavar="N")
    parser.add_argument("--policy", metavar="FILE", help="policy it is held to (default: strict, demanding every level that was measured)")
    parser.add_argument("--attack", metavar="NAME", help="have the simulated host cheat in this way")
    parser.add_argument("--list-attacks", action="store_true", help="print the attacks that a simulated host can play")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    if args.list_attacks:
        return _list_attacks(args.output)
    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy
    from evident.errors import UsageError
    from evident.lifecycle.deployment import deployment, up

    if args.name is None or args.platform is None:
        raise UsageError.of(
            "usage.up",
            expected="a name and a platform",
            found="not both",
            remedy="For example: evident up shop --platform simulated",
        )
    target = deployment(args.name, surroundings())
    up(target, args.platform, _order(args), policy=read_policy(args.policy) if args.policy else None)
    if args.output == "json":
        print(
            json.dumps({"name": target.name, "platform": args.platform, "state": target.journal.state, "directory": str(target.directory)})
        )
    else:
        print(f"{target.name} is launched on {args.platform}. Nothing is proved of it yet.\nnext: evident attest {target.name}")
    return 0


def _order(args: argparse.Namespace) -> Order:
    from evident.cli.inputs import read_bytes
    from evident.platforms.driver import Order

    images = {name: read_bytes(path) if (path := getattr(args, name)) else None for name in ("firmware", "kernel", "initrd")}
    return Order(**images, command_line=args.append, vcpus=args.vcpus, attack=args.attack)


def _list_attacks(output: str) -> int:
    from evident.simulator.scenario import ATTACKS

    if output == "json":
        print(json.dumps({name: {"title": attack.title, "finding": attack.caught_by} for name, attack in ATTACKS.items()}, indent=2))
        return 0
    width = max(map(len, ATTACKS))
    for name, attack in ATTACKS.items():
        print(f"{name:<{width}}  {attack.title}")
    return 0
