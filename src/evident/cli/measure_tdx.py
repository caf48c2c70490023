"""Predict MRTD, and RTMR1 and RTMR2 of a boot, of an Intel TDX guest.

MRTD covers the firmware alone. What it boots is in RTMR1 (images, partition table) and RTMR2 (command line and initrd): give --kernel for
direct boot, or --uki, with --disk where the firmware starts it from a disk. RTMR0 floats with memory size, vCPUs, devices and ACPI tables,
and RTMR3 is the guest's own: neither is predicted.

examples:
  evident measure tdx --firmware OVMF.fd
  evident measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --append "console=ttyS0" --reference-out reference.json
  evident measure tdx --uki image.efi --disk disk.raw --separator rtmr1 --tpm with                     a machine of Google's

VMMs differ in the order in which they add and measure pages, builds of EDK2 in where they put a separator and ``initrd=initrd``, and where
there is a TPM Linux measures into that alone. Without --order, --separator, --tpm and --initrd-argument every known variant is predicted,
and any of them may match.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli import options

if TYPE_CHECKING:
    from datetime import datetime

    from evident.reference_values.model import ReferenceValue
    from evident.reference_values.pcr import Prediction
    from evident.reference_values.tdx_reference import Machine

MAX_ARTIFACT_BYTES = 1024 * 1024 * 1024
ORDERS = ("page-by-page", "by-section", "gce")
SEPARATORS = ("rtmr1", "rtmr0")
INITRD_ARGUMENTS = ("after", "before")
TPM = {"without": False, "with": True}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--firmware", metavar="FILE", help="firmware with TDX metadata, as the host launches it")
    parser.add_argument("--order", choices=ORDERS, action="append", help="how the VMM adds and measures pages, repeatable (default all)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--kernel", metavar="FILE", help="kernel for direct boot")
    source.add_argument("--uki", metavar="FILE", help="unified kernel image")
    parser.add_argument("--initrd", metavar="FILE", help="initial RAM disk, with --kernel")
    parser.add_argument("--append", metavar="TEXT", default="", help="kernel command line, exactly as given to the VMM, with --kernel")
    parser.add_argument(
        "--initrd-argument", choices=INITRD_ARGUMENTS, action="append", help="where EDK2 puts initrd=initrd (default both, as alternatives)"
    )
    parser.add_argument("--separator", choices=SEPARATORS, action="append", help="where EDK2 puts the separator of the boot attempt")
    parser.add_argument("--tpm", choices=TPM, action="append", help="whether there is a TPM beside the run-time registers")
    parser.add_argument("--disk", metavar="FILE", help="raw disk image that the UKI is started from, with --uki")
    options.add_stub_version(parser)
    parser.add_argument("--reference-out", metavar="FILE", help="write the predictions as reference values")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the output")


def run(args: argparse.Namespace) -> int:
    import json
    from datetime import UTC, datetime

    from evident import codec
    from evident.cli.outputs import write_file
    from evident.reference_values import documents
    from evident.reference_values.model import ReferenceSet

    _check(args)
    now = datetime.now(UTC).replace(microsecond=0)
    predictions = _boot(args)
    values = (*_firmware(args, now), *_registers(args, predictions, now))
    if args.reference_out:
        write_file(args.reference_out, documents.dump(ReferenceSet(1, values, name="evident measure tdx")))
    assumptions = tuple(dict.fromkeys(text for prediction in predictions for text in prediction.assumptions))
    if args.output == "json":
        found = [{"register": value.register, "value": value.value.hex(), "of": value.description} for value in values]
        print(
            json.dumps(
                {"measurements": found, "assumptions": assumptions, "reference": codec.encode(ReferenceSet(1, values))},
                indent=2,
            )
        )
    else:
        common = [text for text in assumptions if all(text in prediction.assumptions for prediction in predictions)]
        print("\n".join([*(row for value in values for row in _rows(value, common)), *(f"assumes: {text}" for text in common)]))
    return 0


def _rows(value: ReferenceValue, common: list[str]) -> list[str]:
    """A value, and what it alone assumes beside what all do."""
    row = f"{'mrtd' if value.register == 'launch' else value.register}  {value.value.hex()}  {value.description}"
    own = value.provenance.how.split("; ") if value.register != "launch" else []
    return [row, *(f"  if {text}" for text in own if text not in common)]


def _check(args: argparse.Namespace) -> None:
    from evident.errors import UsageError

    wrong = [
        (not (args.firmware or args.kernel or args.uki), "--firmware, --kernel or --uki", "none of them"),
        (args.kernel is None and bool(args.initrd or args.append), "--kernel with --initrd or --append", "no --kernel"),
        (args.uki is None and bool(args.disk), "--uki with --disk", "no --uki"),
    ]
    for is_wrong, expected, found in wrong:
        if is_wrong:
            raise UsageError.of("usage.measure-tdx", expected=expected, found=found, remedy="Say what is booted, and how.")


def _firmware(args: argparse.Namespace, now: datetime) -> tuple[ReferenceValue, ...]:
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.reference_values import tdx_reference
    from evident.reference_values.tdx_mrtd import Order

    if args.firmware is None:
        return ()
    raw, origin = read_bytes(args.firmware), f"measured from {Path(args.firmware).name}"
    return tuple(tdx_reference.mrtd_reference(raw, Order(order), origin=origin, recorded_at=now) for order in args.order or ORDERS)


def _boot(args: argparse.Namespace) -> tuple[Prediction, ...]:
    from evident.cli.inputs import map_file, read_bytes
    from evident.reference_values import tdx_reference

    if args.uki:
        image = read_bytes(args.uki, limit=MAX_ARTIFACT_BYTES)
        if args.disk is None:
            return tdx_reference.unified_image(image, _machines(args), stub_version=args.stub_version)
        with map_file(args.disk) as disk:
            return tdx_reference.unified_image(image, _machines(args), stub_version=args.stub_version, booted_from=disk)
    if args.kernel is None:
        return ()
    kernel = read_bytes(args.kernel, limit=MAX_ARTIFACT_BYTES)
    initrd = read_bytes(args.initrd, limit=MAX_ARTIFACT_BYTES) if args.initrd else None
    return tdx_reference.direct_boot(kernel, initrd, args.append, _machines(args))


def _machines(args: argparse.Namespace) -> tuple[Machine, ...]:
    from evident.reference_values.tdx_reference import MACHINES

    return tuple(
        machine
        for machine in MACHINES
        if (args.separator is None or machine.separator in args.separator)
        and (args.tpm is None or machine.tpm in (TPM[word] for word in args.tpm))
        and (args.initrd_argument is None or machine.initrd_argument in args.initrd_argument)
    )


def _registers(args: argparse.Namespace, predictions: tuple[Prediction, ...], now: datetime) -> tuple[ReferenceValue, ...]:
    from pathlib import Path

    from evident.reference_values import tdx_reference

    return tdx_reference.references(predictions, origin=f"measured from {Path(args.uki or args.kernel or '-').name}", recorded_at=now)
