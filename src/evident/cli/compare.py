"""Statements side by side: layers, verifiability, endorsers, residual trust and the five questions, the differences first.

What is compared are recorded statements: audit bundles, or the last answer of a deployment. Each must be signed by a verifier that you
trust, this machine's own or those named with --signer. Nothing is decided anew; to do that, use `evident audit verify`.

exit code: 0, whatever they say; 10 or 30 where one of them is not to be believed.

examples:
  evident compare shop ledger                             two deployments
  evident compare aws.json azure.json gcp.json -o html > clouds.html
  evident compare shop before.json -o json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.audit.keys import VerifyingKey
    from evident.reports.json_report import Recorded

MAX_WIDTH = 200


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("statements", nargs="+", metavar="BUNDLE|NAME", help="an audit bundle, or a deployment; two or more")
    parser.add_argument(
        "--signer", metavar="KEY.pem", action="append", default=[], help="public key of a verifier whose bundles you trust (repeatable)"
    )
    parser.add_argument("-o", "--output", choices=("text", "json", "html"), default="text")


def run(args: argparse.Namespace) -> int:
    from evident.cli import terminal
    from evident.cli.audit_verify import trusted_signers
    from evident.errors import UsageError
    from evident.reports import comparison

    if len(args.statements) < 2:
        raise UsageError.of(
            "compare.one", expected="two statements or more", found="one", remedy="Name another deployment, or another bundle."
        )
    trusted = (*trusted_signers(()), *(trusted_signers(args.signer) if args.signer else ()))
    found = comparison.compare([(name, _recorded(name, trusted)) for name in args.statements])
    if args.output == "json":
        print(json.dumps(comparison.document(found), indent=2, ensure_ascii=False))
    elif args.output == "html":
        print(comparison.render_html(found))
    else:
        terminal.show(lambda width, color: comparison.render_text(found, width=width, color=color), at_most=MAX_WIDTH)
    return 0


def _recorded(name: str, trusted: tuple[VerifyingKey, ...]) -> Recorded:
    """A file of this name, or else the last answer of the deployment of this name."""
    from pathlib import Path

    from evident.audit import bundle
    from evident.cli.deployments import surroundings
    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError
    from evident.lifecycle.deployment import deployments
    from evident.lifecycle.fleet import latest
    from evident.reports import json_report

    if Path(name).exists() and not Path(name).is_dir():
        return json_report.read(bundle.open_bundle(read_bytes(name), trusted).result)
    known = {each.name: each for each in deployments(surroundings())}
    found = latest(known[name], trusted) if name in known else None
    if found is None:
        raise UsageError.of(
            "compare.nothing-recorded",
            expected=f"a bundle {name!r}, or a deployment of this name that was attested",
            found="a deployment that was not" if name in known else "neither",
            remedy=f"Attest it first (evident attest {name}), or correct the path.",
        )
    return found
