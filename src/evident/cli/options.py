"""Options that several verbs share: those that make up one decision, and numbers. Nothing heavy is imported, so that help comes at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

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
    configure_surety(parser, "strict")


def configure_surety(parser: argparse.ArgumentParser, policy: str) -> None:
    """Add what a decision rests on besides evidence and time; `policy`: what applies where none is given."""
    parser.add_argument("--policy", metavar="FILE", help=f"appraisal policy, JSON or YAML (default: {policy})")
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


def number(lowest: int, highest: int) -> Callable[[str], int]:
    """Type of an option that takes a whole number of this range; anything else is an error of use that names the range."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 9 or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} to {highest} is expected, {text[:40]!r} was given")
        return int(text)

    return read


def endpoint(text: str) -> tuple[str, int]:
    """Type of an option that says where something serves: HOST:PORT, an IPv6 address in brackets."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|((?:[\w-]{1,63}\.)*[\w-]{1,63})):([1-9][0-9]{0,4})", text, re.ASCII)
    if not found or int(found[3]) > 65535:
        raise argparse.ArgumentTypeError(f"HOST:PORT is expected, such as shop.example:443 or [2001:db8::1]:443; {text[:80]!r} was given")
    return found[1] or found[2], int(found[3])


def add_vcpus(parser: argparse.ArgumentParser, default: int, text: str) -> None:
    """``--vcpus``, up to what `reference_values.snp_launch` can measure."""
    parser.add_argument("--vcpus", metavar="N", type=number(1, 4096), default=default, help=f"{text} (default {default})")


def add_stub_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stub-version", metavar="N", type=number(1, 999), help="major version of systemd-stub, where the image does not say it"
    )
