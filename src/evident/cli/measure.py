"""Predict what a launch or a boot will measure, from its inputs alone.

examples:
  evident measure snp --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 roothash=..." --vcpus 4
  evident measure snp --firmware ovmf_img.fd --vmm ec2 --reference-out reference.json
  evident measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --append "console=ttyS0 roothash=..."
  evident measure pcr --uki image.efi --phase enter-initrd --pcrlock-out expected.pcrlock
  evident measure uki image.efi

What is printed here and what a genuine machine reports must be equal; `--reference-out` writes the prediction as a reference value that
`evident verify --reference` compares with.
"""

from __future__ import annotations

import argparse
from types import MappingProxyType

from evident.cli.actions import configure_actions, run_action

SUBJECTS = MappingProxyType(
    {
        "snp": "launch digest of an AMD SEV-SNP guest",
        "tdx": "MRTD, RTMR1 and RTMR2 of an Intel TDX guest",
        "pcr": "TPM registers of a boot: of a UKI, a disk, or kernel, initrd and command line",
        "uki": "PCR 11 of a unified kernel image, boot phase by boot phase",
    }
)
"""Each subject is a module ``measure_SUBJECT`` beside this one, with `configure` and `run`."""


def configure(parser: argparse.ArgumentParser) -> None:
    configure_actions(parser, "measure", SUBJECTS, word="subject")


run = run_action
