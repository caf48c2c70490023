"""Create a deployment: launch a confidential VM and write down what should have been measured.

On the platform `simulated` nothing but this program is needed. Without images of your own, TEST images are launched that boot
nowhere but are measured up to the root file system. `--attack` makes the simulated host cheat in one named way, so that you can
see it refused.

On the platform `qemu` a real machine boots on this host (QEMU, OVMF, swtpm; docs/platforms/qemu.md), on SEV-SNP where the host has it and
else on a simulated secure processor. With `--image`, a folder made by `evident image build`, its root file system is sealed under a
fresh key that the machine gets only after attestation. `--boot uki` starts that machine as a cloud would: firmware boots its disk, the TPM
measures what is started, and the key is released on the quoted PCRs too. That TPM is the host's software, and the statement says so.

examples:
  evident up shop --platform simulated
  evident up shop --platform simulated --kernel vmlinuz --initrd initrd.img --append "ro root=/dev/mapper/root roothash=..."
  evident up shop --platform simulated --attack swap-kernel
  evident up shop --platform qemu --image shop.image --publish 8080
  evident up shop --platform qemu --image shop.image --boot uki
  evident up shop --platform qemu --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --disk data.raw
  evident up --list-attacks

then: evident attest shop
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.lifecycle.bring_up import Release
    from evident.lifecycle.deployment import Deployment
    from evident.platforms.driver import Order


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="what to call it: lower-case letters, digits, hyphens")
    parser.add_argument("--platform", help="where to launch it")
    configure_machine(parser)
    parser.add_argument("--attack", metavar="NAME", help="have the simulated host cheat in this way")
    parser.add_argument("--list-attacks", action="store_true", help="print the attacks that a simulated host can play")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def configure_machine(parser: argparse.ArgumentParser) -> None:
    """What is launched; `update` has the same."""
    parser.add_argument("--image", metavar="DIR", help="an image of `evident image build`, instead of kernel, initrd and command line")
    parser.add_argument(
        "--boot", choices=("direct", "uki"), help="what starts an image: its kernel, handed over (default), or its disk, as in a cloud"
    )
    parser.add_argument("--firmware", metavar="FILE", help="OVMF image with SEV-SNP metadata (default: the platform's)")
    parser.add_argument("--kernel", metavar="FILE", help="kernel for direct boot (simulated: default a TEST image)")
    parser.add_argument("--initrd", metavar="FILE")
    parser.add_argument("--append", metavar="TEXT", help="kernel command line; name the root file system's verity hash in it for AL4")
    parser.add_argument("--disk", metavar="FILE", action="append", default=[], help="raw image to attach as a disk; repeatable")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="default 1024")
    parser.add_argument("--vcpus", type=int, default=1, metavar="N")
    parser.add_argument(
        "--publish", type=int, action="append", default=[], metavar="PORT", help="TCP port of the machine to reach from this host"
    )
    parser.add_argument("--policy", metavar="FILE", help="policy it is held to (default: strict, demanding every level that was measured)")


def run(args: argparse.Namespace) -> int:
    if args.list_attacks:
        return _list_attacks(args.output)
    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy
    from evident.errors import UsageError
    from evident.lifecycle import bring_up
    from evident.lifecycle.deployment import deployment
    from evident.lifecycle.journal import State

    if args.name is None or args.platform is None:
        raise UsageError.of(
            "usage.up",
            expected="a name and a platform",
            found="not both",
            remedy="For example: evident up shop --platform simulated",
        )
    target = deployment(args.name, surroundings())
    order, release = ordered(args, target)
    bring_up.up(target, args.platform, order, policy=read_policy(args.policy) if args.policy else None, release=release)
    reached = target.driver().addresses(target.machine)
    if args.output == "json":
        told = {"name": target.name, "platform": args.platform, "state": target.journal.state, "directory": str(target.directory)}
        print(json.dumps({**told, "addresses": {str(port): address for port, address in reached.items()}}))
    else:
        attested = target.journal.state is State.ATTESTED
        print(
            f"{target.name} is launched on {args.platform}.",
            "It has attested, and has its key." if attested else "Nothing is proved of it yet.",
        )
        for port, address in reached.items():
            print(f"port {port} of it is {address} here")
        print(f"next: evident attest {target.name}")
    return 0


def ordered(args: argparse.Namespace, target: Deployment) -> tuple[Order, Release | None]:
    """The order that the options describe, and the disk that is to open after attestation."""
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError
    from evident.platforms.driver import Disk, Order

    images = {name: read_bytes(path) if (path := getattr(args, name)) else None for name in ("firmware", "kernel", "initrd")}
    order = Order(
        **images,
        command_line=args.append,
        vcpus=args.vcpus,
        memory_mib=args.memory,
        disks=tuple(Disk(str(Path(path).resolve())) for path in args.disk),
        published=tuple(args.publish),
        attack=getattr(args, "attack", None),
    )
    if args.image:
        return _from_image(args, target, order)
    if args.boot:
        raise UsageError.of("usage.boot", expected="--image with --boot", found="none", remedy="Pass --image, or leave out --boot.")
    return order, None


def _from_image(args: argparse.Namespace, target: Deployment, machine: Order) -> tuple[Order, Release | None]:
    import os
    from pathlib import Path

    from evident.audit import keys
    from evident.cli.paths import cache_dir
    from evident.errors import UsageError
    from evident.lifecycle import from_image, keystore
    from evident.lifecycle.bring_up import Release
    from evident.lifecycle.deployment import driver
    from evident.platforms.driver import AGENT_PORT, KEY_SERVER

    if args.kernel or args.initrd or args.append:
        raise UsageError.of(
            "usage.image", expected="an image, or kernel and initrd", found="both", remedy="Leave out --kernel, --initrd and --append."
        )
    around, image = target.surroundings, Path(args.image)
    platform = driver(getattr(args, "platform", None) or target.platform, around)
    parameters = {**platform.parameters(target.machine), "evident.attest": str(AGENT_PORT)}
    if from_image.needs_key(image):
        parameters |= {"evident.verifier": KEY_SERVER, "evident.key": keystore.open_store(around).pin.hex()}
    trusted = [keys.load_or_create(around.state, os.urandom).public]
    prepared = from_image.prepare(
        image, target.directory, around, trusted=trusted, parameters=parameters, machine=machine, boot=args.boot or "direct"
    )
    return prepared.order, Release(prepared.key, cache_dir()) if prepared.key else None


def _list_attacks(output: str) -> int:
    from evident.simulator.scenario import ATTACKS

    if output == "json":
        print(json.dumps({name: {"title": attack.title, "finding": attack.caught_by} for name, attack in ATTACKS.items()}, indent=2))
        return 0
    width = max(map(len, ATTACKS))
    for name, attack in ATTACKS.items():
        print(f"{name:<{width}}  {attack.title}")
    return 0
