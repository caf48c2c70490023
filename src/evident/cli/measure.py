"""Predict what a launch or a boot will measure, from its inputs alone.

examples:
  evident measure snp --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 roothash=..." --vcpus 4
  evident measure snp --firmware ovmf_img.fd --vmm ec2 --reference-out reference.json
  evident measure pcr --uki image.efi --phase enter-initrd --pcrlock-out expected.pcrlock
  evident measure uki image.efi

What is printed here and what a genuine machine reports must be equal; `--reference-out` writes the prediction as a reference value that
`evident verify --reference` compares with.
"""

from __future__ import annotations

import argparse
import importlib
from types import MappingProxyType

SUBJECTS = MappingProxyType(
    {
        "snp": "launch digest of an AMD SEV-SNP guest",
        "pcr": "TPM registers of a boot: of a UKI, a disk, or kernel, initrd and command line",
        "uki": "PCR 11 of a unified kernel image, boot phase by boot phase",
    }
)
"""Each subject is a module ``measure_SUBJECT`` beside this one, with `configure` and `run`."""


def configure(parser: argparse.ArgumentParser) -> None:
    subjects = parser.add_subparsers(metavar="SUBJECT", required=True, title="subjects")
    for name, summary in SUBJECTS.items():
        module = importlib.import_module(f"evident.cli.measure_{name}")
        child = subjects.add_parser(name, help=summary, description=module.__doc__)
        module.configure(child)
        child.set_defaults(measure=module.run)


def run(args: argparse.Namespace) -> int:
    code: int = args.measure(args)
    return code
