"""Predict the launch digest (MEASUREMENT) of an AMD SEV-SNP guest.

The digest covers every page that the VMM loads before the guest runs, and the initial registers of every vCPU. With --kernel it
covers kernel, initrd and command line too, by way of the hash table that QEMU hands to the firmware (kernel-hashes=on).

examples:
  evident measure snp --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --vcpus 4 --vcpu-type EPYC-v4
  evident measure snp --firmware ovmf_img.fd --vmm ec2 --vcpus 2,4,8 --reference-out reference.json
  evident measure snp --firmware OVMF.fd --svsm svsm.bin --variable-store-size 540672 --vcpus 4

EC2 has changed its initial register state: --vmm ec2 predicts every revision that is known, and any of them may match.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.errors import UsageError
    from evident.reference_values.kernel_hashes import KernelHashes
    from evident.reference_values.model import ReferenceValue

MAX_LIST_BYTES = 256 * 1024 * 1024
MAX_KERNEL_BYTES = 256 * 1024 * 1024
MAX_INITRD_BYTES = 2 * 1024 * 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--firmware", metavar="FILE", required=True, help="OVMF image, as the host maps it below 4 GiB")
    parser.add_argument("--kernel", metavar="FILE", help="kernel for direct boot, measured through the hash table")
    parser.add_argument("--initrd", metavar="FILE", help="initial RAM disk")
    parser.add_argument("--append", metavar="TEXT", help="kernel command line, exactly as given to the VMM")
    parser.add_argument("--vcpus", metavar="N[,N]", default="1", help="vCPU count, or several to predict all of them (default 1)")
    parser.add_argument(
        "--vcpu-type", metavar="TYPE", default="EPYC-v4", help="QEMU CPU model, or a CPUID signature 0x... (default EPYC-v4)"
    )
    parser.add_argument("--vmm", choices=("qemu", "ec2", "gce"), default="qemu", help="who launches (default qemu)")
    parser.add_argument("--guest-features", metavar="HEX", default="0x1", help="SEV_FEATURES (default 0x1; 0x21 with debug swap)")
    parser.add_argument("--svsm", metavar="FILE", help="COCONUT-SVSM image, launched below the firmware")
    parser.add_argument("--variable-store-size", metavar="BYTES", default=None, help="size of OVMF_VARS, with --svsm")
    parser.add_argument("--files", metavar="LIST", help="paths of all files in the image, one per line: records which agents are in it")
    parser.add_argument("--reference-out", metavar="FILE", help="write the predictions as reference values")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the output")


def run(args: argparse.Namespace) -> int:
    import json

    from evident import codec
    from evident.cli.outputs import write_file
    from evident.reference_values import documents
    from evident.reference_values.model import ReferenceSet

    values = _predict(args)
    if args.reference_out:
        write_file(args.reference_out, documents.dump(ReferenceSet(1, values, name=f"evident measure snp, {args.vmm}")))
    if args.output == "json":
        print(
            json.dumps(
                {"measurements": [value.value.hex() for value in values], "reference": codec.encode(ReferenceSet(1, values))}, indent=2
            )
        )
    else:
        print("\n\n".join(_text(value) for value in values))
    return 0


def _predict(args: argparse.Namespace) -> tuple[ReferenceValue, ...]:
    from datetime import UTC, datetime
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.reference_values.snp_launch import SnpLaunch, Svsm
    from evident.reference_values.snp_reference import snp_reference
    from evident.reference_values.vmsa import VMMS

    firmware, hashes, svsm = read_bytes(args.firmware), _kernel_hashes(args), None
    if args.svsm:
        size = _number("--variable-store-size", args.variable_store_size or "", "the size of the OVMF_VARS file in bytes")
        svsm = Svsm(read_bytes(args.svsm), size)
    signature, features = _signature(args.vcpu_type), _number("--guest-features", args.guest_features, "a number such as 0x21")
    launches = [
        SnpLaunch(firmware, vcpus, signature, features, vmm.name, hashes, svsm)
        for vmm in VMMS.values()
        if vmm.family == args.vmm
        for vcpus in _vcpus(args.vcpus)
    ]
    command_line = (args.append or "") if hashes else None
    origin, now = f"measured from {Path(args.firmware).name}", datetime.now(UTC).replace(microsecond=0)
    agents = _agents(args)
    return tuple(snp_reference(launch, command_line=command_line, origin=origin, recorded_at=now, agents=agents) for launch in launches)


def _agents(args: argparse.Namespace) -> tuple[str, ...] | None:
    """Agents in the image: from the list of all its files, and from an initrd that can be read. An initrd alone is not all of it."""
    from evident.cli.inputs import read_bytes
    from evident.errors import Malformed, Unsupported
    from evident.reference_values import agents

    found: tuple[str, ...] = ()
    if args.initrd:
        try:
            found = agents.find_in_initrd(read_bytes(args.initrd, limit=MAX_INITRD_BYTES))
        except (Malformed, Unsupported):  # measured all the same: it is the host's and the kernel's business what it is
            found = ()
    if args.files:
        found = tuple(dict.fromkeys((*found, *agents.find(agents.read_list(read_bytes(args.files, limit=MAX_LIST_BYTES))))))
    return found if args.files or found else None


def _kernel_hashes(args: argparse.Namespace) -> KernelHashes | None:
    from evident.cli.inputs import read_bytes
    from evident.reference_values.kernel_hashes import KernelHashes

    if args.kernel is None:
        for option in ("initrd", "append"):
            if getattr(args, option) is not None:
                raise _usage(
                    "kernel", f"--kernel with --{option}", "no --kernel", "Without a kernel nothing carries them into the measurement."
                )
        return None
    initrd = read_bytes(args.initrd, limit=MAX_INITRD_BYTES) if args.initrd else b""
    return KernelHashes.of(read_bytes(args.kernel, limit=MAX_KERNEL_BYTES), initrd, args.append or "")


def _usage(name: str, expected: str, found: str, remedy: str) -> UsageError:
    from evident.errors import UsageError

    return UsageError.of(f"usage.{name}", expected=expected, found=found, remedy=remedy)


def _number(option: str, text: str, expected: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise _usage(option.strip("-"), f"{expected} for {option}", repr(text), "Correct the option.") from None


def _vcpus(text: str) -> list[int]:
    return [_number("--vcpus", part, "a count, or counts separated by commas,") for part in text.split(",")]


def _signature(text: str) -> int:
    from difflib import get_close_matches

    from evident.reference_values.vmsa import VCPU_TYPES

    if text in VCPU_TYPES:
        return VCPU_TYPES[text]
    if text.lower().startswith("0x"):
        return _number("--vcpu-type", text, "a CPUID signature such as 0xa00f11")
    near = get_close_matches(text, VCPU_TYPES, n=1)
    hint = f"Did you mean {near[0]}?" if near else "Known: " + ", ".join(VCPU_TYPES) + "; or give CPUID 1 EAX as 0x..."
    raise _usage("vcpu-type", "a QEMU CPU model or a CPUID signature for --vcpu-type", repr(text), hint)


_NAMES = {
    "firmware": "firmware (digest after its pages)",
    "kernel": "kernel (SHA-256)",
    "initrd": "initrd (SHA-256)",
    "cmdline": "command line (SHA-256)",
    "verity_root_hash": "root file system (dm-verity)",
}


def _text(value: ReferenceValue) -> str:
    rows = [("measurement", value.value.hex()), ("of", value.description)]
    rows += [(_NAMES[name], digest.hex()) for name, digest in value.components.items()]
    rows.append(("settles", ", ".join(layer.replace("_", " ") for layer in value.layers)))
    if value.agents is not None:
        rows.append(("agents in it", ", ".join(value.agents) or "none that is known"))
    if "boot_chain" not in value.layers:
        rows.append(("not covered", "kernel, initrd and command line: this digest is the same whatever the host boots"))
    elif "root_filesystem" not in value.layers:
        rows.append(("not covered", "the root file system: the command line names no dm-verity root hash"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)
