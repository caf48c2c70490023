"""Replay audit bundles, or export one.

A bundle is one signed file with the evidence, the endorsements, the reference values, the policy, the time and the result of a
decision. `verify` makes that decision again, from the bundle alone and without a network, and fails if a single byte changed, if
the outcome differs, or if you do not trust the signer. Its exit code is that of the decision itself: a bundle that holds and
records a refusal exits with 11.

examples:
  evident audit export --kind snp report=report.bin vcek=vcek.der nonce=nonce.bin --out bundle.json
  evident audit verify bundle.json                           signed by this machine's own verifier
  evident audit verify bundle.json --signer their-key.pem    signed by somebody else's, whom you trust
  evident audit verify bundle.json -o html > statement.html
  evident verify bundle.json --policy other.yaml             old evidence under another policy
"""

from __future__ import annotations

import argparse
import importlib
from types import MappingProxyType

ACTIONS = MappingProxyType(
    {
        "export": "write the signed record of a decision",
        "verify": "make a recorded decision again, offline",
    }
)
"""Each action is a module ``audit_ACTION`` beside this one, with `configure` and `run`."""


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    for name, summary in ACTIONS.items():
        module = importlib.import_module(f"evident.cli.audit_{name}")
        child = actions.add_parser(name, help=summary, description=module.__doc__)
        module.configure(child)
        child.set_defaults(action=module.run)


def run(args: argparse.Namespace) -> int:
    code: int = args.action(args)
    return code
