"""Create a deployment: launch a confidential VM, write down what should have been measured, and ask the machine who it is.

From a deployment document (docs/deploy.md), on whatever platform it names: `evident plan SPEC` shows beforehand what that creates and
proves. Its image is built first where it is missing and the document names its specification. What a crash left half done is carried on
with; where everything is done already, nothing is.

Without a document, options describe a machine on this host. The same options, or its name alone, start it again once it has stopped.

On the platform `simulated` nothing but this program is needed. Without images of your own, TEST images are launched that boot nowhere but
are measured up to the root file system. `--attack` makes the simulated host cheat in one named way, so that you can see it refused.

On the platform `qemu` a real machine boots on this host (QEMU, OVMF, swtpm; docs/platforms/qemu.md), on SEV-SNP where the host has it and
else on a simulated secure processor. With `--image`, a folder made by `evident image build`, its root file system is sealed under a
fresh key that the machine gets only after attestation. `--boot uki` starts that machine as a cloud would: firmware boots its disk, the TPM
measures what is started, and the key is released on the quoted PCRs too. That TPM is the host's software, and the statement says so.

examples:
  evident up shop.yaml
  evident up shop.yaml --platform aws
  evident up shop --platform simulated
  evident up shop --platform simulated --kernel vmlinuz --initrd initrd.img --append "ro root=/dev/mapper/root roothash=..."
  evident up shop --platform simulated --attack swap-kernel
  evident up shop --platform qemu --image shop.image --publish 8080
  evident up shop --platform qemu --image shop.image --boot uki
  evident up shop --platform qemu --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --disk data.raw
  evident up shop
  evident up --list-attacks

Exit code: that of the decision on the machine's answer to a fresh challenge, as of `evident attest`: 0 accepted, 10, 11, 12, 20, 30. A
machine that could not be asked is not proved: 12 where its agent was not reached, 20 where it has none. It runs on all the same
(`up.unproven`).

then: evident attest shop --every 15m
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evident.cli import options

if TYPE_CHECKING:
    from evident.lifecycle.attest import Answer
    from evident.lifecycle.bring_up import Release
    from evident.lifecycle.deployment import Deployment
    from evident.lifecycle.from_document import Builders
    from evident.platforms.order import Order

MAX_MEMORY_MIB = 16 * 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="SPEC|NAME", nargs="?", help="a deployment document (.yaml, .yml, .json), or what to call it: a-z, 0-9, hyphens"
    )
    parser.add_argument("--platform", help="where to launch it; with a document, instead of what that says (`any`: where most is proven)")
    configure_machine(parser)
    parser.add_argument("--attack", metavar="NAME", help="have the simulated host cheat in this way")
    parser.add_argument("--list-attacks", action="store_true", help="print the attacks that a simulated host can play")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def configure_machine(parser: argparse.ArgumentParser) -> None:
    """What is launched; `update` has the same."""
    parser.add_argument("--image", metavar="DIR", help="an image of `evident image build`, instead of kernel, initrd and command line")
    parser.add_argument(
        "--boot",
        choices=("direct", "uki"),
        help="what starts an image: its kernel, handed over (default of up), or its disk",
    )
    parser.add_argument("--firmware", metavar="FILE", help="OVMF image with SEV-SNP metadata (default: the platform's)")
    parser.add_argument("--kernel", metavar="FILE", help="kernel for direct boot (simulated: default a TEST image)")
    parser.add_argument("--initrd", metavar="FILE")
    parser.add_argument("--append", metavar="TEXT", help="kernel command line; name the root file system's verity hash in it for AL4")
    parser.add_argument("--disk", metavar="FILE", action="append", default=[], help="raw image to attach as a disk; repeatable")
    parser.add_argument("--memory", type=options.number(1, MAX_MEMORY_MIB), default=1024, metavar="MIB", help="default 1024")
    options.add_vcpus(parser, 1, "vCPU count")
    parser.add_argument(
        "--publish",
        type=options.number(1, 65535),
        action="append",
        default=[],
        metavar="PORT",
        help="TCP port of the machine to reach from this host; repeatable",
    )
    parser.add_argument("--policy", metavar="FILE", help="policy it is held to (default: strict, demanding every level that was measured)")


def run(args: argparse.Namespace) -> int:
    if args.list_attacks:
        return _list_attacks(args.output)
    if is_document(args.name):
        return _from_document(args)
    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy
    from evident.cli.paths import cache_dir
    from evident.errors import UsageError
    from evident.lifecycle import again, by_options
    from evident.lifecycle.deployment import deployment
    from evident.platforms.registry import OUTLINES

    if args.name is None:
        raise UsageError.of(
            "usage.up",
            expected="a document, or a name and a platform",
            found="neither",
            remedy="For example: evident up shop.yaml, or evident up shop --platform simulated",
        )
    target = deployment(args.name, surroundings())
    if args.platform in OUTLINES and OUTLINES[args.platform].cloud and not again.there(target):
        raise UsageError.of(
            "usage.up",
            expected="a deployment document for a cloud: docs/deploy.md",
            found=f"{args.name!r} and options",
            remedy=f"Write {args.name}.yaml, then: evident plan {args.name}.yaml",
        )
    policy = read_policy(args.policy) if args.policy else None
    by_options.up(target, args.platform, _said(args), lambda: ordered(args, target), cache=cache_dir(), policy=policy)
    return _ask(target, args.output)


def is_document(name: str | None) -> bool:
    """Whether the command line names a deployment document, not a deployment."""
    return name is not None and name.endswith((".yaml", ".yml", ".json"))


def _from_document(args: argparse.Namespace) -> int:
    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_specification
    from evident.lifecycle import from_document
    from evident.lifecycle.deployment import deployment

    refuse_machine(args)
    wanted = read_specification(args.name)
    target = deployment(wanted.name, surroundings())
    from_document.up(target, wanted, builders(target), platform=args.platform)
    return _ask(target, args.output)


def builders(target: Deployment) -> Builders:
    """Images are believed that this verifier has signed, those that it builds now among them."""
    import os

    from evident.audit import keys
    from evident.cli import image_build
    from evident.cli.paths import cache_dir
    from evident.lifecycle.from_document import Builders

    return Builders((keys.load_or_create(target.surroundings.state, os.urandom).public,), cache_dir(), image_build.from_document)


def refuse_machine(args: argparse.Namespace) -> None:
    """Raises `UsageError` ``usage.document`` where options describe a machine beside a document."""
    from evident.errors import UsageError

    given = _given(args)
    if given:
        raise UsageError.of(
            "usage.document",
            expected="a document, or options that describe a machine",
            found=f"{args.name} and {', '.join(f'--{name}' for name in given)}",
            remedy="Say it in the document.",
        )


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that describe a machine, where they are not as usual."""
    parser = argparse.ArgumentParser()
    configure_machine(parser)
    parser.add_argument("--attack")
    usual = vars(parser.parse_args([]))
    return {name: getattr(args, name) for name, value in usual.items() if getattr(args, name, value) != value}


def _said(args: argparse.Namespace) -> dict[str, str]:
    """The same, so that they can be compared: files by content, an image by its manifest, disks by their paths."""
    import hashlib
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.image import names

    said = {}
    for name, value in _given(args).items():
        if name in ("firmware", "kernel", "initrd", "policy", "image"):
            file = Path(value) / names.MANIFEST if name == "image" else value
            said[name] = hashlib.sha256(read_bytes(file)).hexdigest()
        else:
            said[name] = json.dumps([str(Path(path).resolve()) for path in value] if name == "disk" else value)
    return said


def _ask(target: Deployment, output: str) -> int:
    """Have the machine that was brought up prove itself; the exit code is that of the decision."""
    from evident.cli.answers import exit_code
    from evident.cli.paths import cache_dir
    from evident.lifecycle import proving

    answer = proving.ready(target, cache_dir())
    gone = answer.refusal is not None and answer.refusal.record is not None
    reached = {} if gone else target.driver().addresses(target.machine)
    if output == "json":
        _print_json(target, answer, reached)
    else:
        _print(target, answer, reached)
    return exit_code(answer.outcome)


def _print_json(target: Deployment, answer: Answer, reached: Mapping[int, str]) -> None:
    from evident.reports import json_report

    told = {"name": target.name, "platform": target.platform, "state": target.journal.state, "directory": str(target.directory)}
    told |= {"decision": answer.outcome.decision, "code": answer.outcome.code, "bundle": str(answer.bundle_path)}
    addresses = {str(port): address for port, address in reached.items()}
    print(json.dumps({**told, "addresses": addresses, "answer": json_report.document(answer.outcome)}))


def _print(target: Deployment, answer: Answer, reached: Mapping[int, str]) -> None:
    from evident.cli.terminal import show_outcome
    from evident.errors import EvidentError

    found = answer.outcome
    if isinstance(found, EvidentError) or found.decision != "accepted":
        show_outcome(found)
        print(f"{target.name} was launched on {target.platform}, and is not accepted: {found.decision} ({found.code}).")
    else:
        told = f"level {found.levels.nominal} of 4, {found.levels.trustworthy} without the provider's word"
        print(f"{target.name} is up on {target.platform}. It has answered a fresh challenge, and is accepted: {told}.")
        if found.simulated:
            print("SIMULATED: it says nothing of any hardware.")
    for port, address in reached.items():
        print(f"port {port} of it is {address} here")
    print(f"audit bundle: {answer.bundle_path}\nnext: evident attest {target.name}")


def ordered(args: argparse.Namespace, target: Deployment) -> tuple[Order, Release | None]:
    """The order that the options describe, and the disk that is to open after attestation."""
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError
    from evident.platforms.order import Disk, Order

    images = {name: read_bytes(path) if (path := getattr(args, name)) else None for name in ("firmware", "kernel", "initrd")}
    order = Order(
        firmware=images["firmware"],
        kernel=images["kernel"],
        initrd=images["initrd"],
        command_line=args.append,
        vcpus=args.vcpus,
        memory_mib=args.memory,
        disks=tuple(Disk(str(Path(path).resolve())) for path in args.disk),
        published=tuple(args.publish),
        attack=getattr(args, "attack", None),
        said=_said(args),
    )
    if args.image:
        return _from_image(args, target, order)
    if args.boot:
        raise UsageError.of("usage.boot", expected="--image with --boot", found="none", remedy="Pass --image, or leave out --boot.")
    return order, None


def _from_image(args: argparse.Namespace, target: Deployment, machine: Order) -> tuple[Order, Release | None]:
    from pathlib import Path

    from evident.errors import UsageError
    from evident.lifecycle import from_image
    from evident.lifecycle.bring_up import Release

    if args.kernel or args.initrd or args.append:
        raise UsageError.of(
            "usage.image", expected="an image, or kernel and initrd", found="both", remedy="Leave out --kernel, --initrd and --append."
        )
    platform, from_whom = getattr(args, "platform", None) or target.platform, builders(target)
    prepared = from_image.ordered(
        target, platform, Path(args.image), trusted=from_whom.trusted, machine=machine, boot=args.boot or "direct"
    )
    return prepared.order, Release(prepared.key, from_whom.cache) if prepared.key else None


def _list_attacks(output: str) -> int:
    from evident.simulator.scenario import ATTACKS

    if output == "json":
        print(json.dumps({name: {"title": attack.title, "finding": attack.caught_by} for name, attack in ATTACKS.items()}, indent=2))
        return 0
    width = max(map(len, ATTACKS))
    for name, attack in ATTACKS.items():
        print(f"{name:<{width}}  {attack.title}")
    return 0
