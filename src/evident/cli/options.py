"""The options that make up one decision. Nothing heavy is imported here, so that help comes at once."""

from __future__ import annotations

import argparse

KINDS = (
    "snp",
    "snp-tpm",
    "tdx",
    "tpm",
    "azure-snp",
    "azure-tdx",
    "gcp-snp",
    "gcp-tdx",
    "aws-snp",
    "svsm",
    "nitrotpm",
    "nitro-enclave",
    "tcg-log",
    "ima",
)
"""Kinds of evidence, as `verification.kinds` has them; a test holds the two together."""

UNSAFE = ("revocation-unknown", "tcb-unknown", "no-challenge")
"""Options of the verification that the command line offers as ``--unsafe-...``; the TEST root is named by its file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add every option of a decision; the verb adds what it does with it."""
    parser.add_argument("--kind", metavar="KIND", help="kind of evidence: " + ", ".join(KINDS))
    parser.add_argument("--at", metavar="TIME", help="clock of the decision, e.g. 2026-11-22T00:00:00Z (default: now)")
    parser.add_argument("--policy", metavar="FILE", help="appraisal policy, JSON or YAML (default: strict)")
    parser.add_argument("--reference", metavar="FILE", action="append", default=[], help="reference values (repeatable)")
    parser.add_argument("--platform", metavar="ID", help="platform whose facts name the parties, e.g. aws-snp (see `evident explain`)")
    parser.add_argument("--offline", action="store_true", help="never touch the network: cache and built-in roots only")
    parser.add_argument("--kds", metavar="URL", help="another server for AMD's key distribution service (a mirror, or the simulator's)")
    parser.add_argument("--pccs", metavar="URL", help="another server for Intel's provisioning service (a PCCS)")
    for option in UNSAFE:
        parser.add_argument(
            f"--unsafe-{option}", action="store_true", help=f"go on in spite of: {option.replace('-', ' ')}; shown in the result"
        )
    parser.add_argument("--unsafe-simulated-root", metavar="FILE", help="believe this simulator's TEST root: proves nothing about hardware")
