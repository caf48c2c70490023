"""Predict PCR 11 of a unified kernel image: what systemd-stub and systemd-pcrphase measure, phase by phase, as systemd-measure does.

examples:
  evident measure uki image.efi
  evident measure uki image.efi --bank sha1 --bank sha256 --phase enter-initrd:leave-initrd:sysinit:ready -o json

Without --phase the usual four are printed: each prefix of enter-initrd, leave-initrd, sysinit, ready.
"""

from __future__ import annotations

import argparse

from evident.cli import options

MAX_IMAGE_BYTES = 1024 * 1024 * 1024
USUAL = ("enter-initrd", "enter-initrd:leave-initrd", "enter-initrd:leave-initrd:sysinit", "enter-initrd:leave-initrd:sysinit:ready")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="FILE", help="unified kernel image")
    parser.add_argument("--bank", choices=("sha1", "sha256", "sha384", "sha512"), action="append", help="PCR bank (default sha256)")
    parser.add_argument("--phase", metavar="PATH", action="append", help="phases joined by colons; repeatable")
    options.add_stub_version(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the output")


def run(args: argparse.Namespace) -> int:
    import json

    from evident.cli.inputs import read_bytes
    from evident.evidence import uki
    from evident.reference_values.pcr import values
    from evident.reference_values.uki import phase_measurements, section_measurements

    banks = tuple(dict.fromkeys(args.bank or ["sha256"]))
    sections = uki.parse(read_bytes(args.image, limit=MAX_IMAGE_BYTES)).measured(args.stub_version)
    measured = section_measurements(sections, banks)
    rows = []
    for path in args.phase or USUAL:
        whole = [*measured, *phase_measurements([phase for phase in path.split(":") if phase], banks)]
        rows += [{"phase": path, "pcr": 11, "bank": bank, "hash": values(whole, bank)[11].hex()} for bank in banks]
    if args.output == "json":
        print(json.dumps({"measurements": rows, "sections": [name for name, _ in sections]}, indent=2))
    else:
        print("\n".join(f"11:{row['bank']}={row['hash']}  {row['phase']}" for row in rows))
    return 0
