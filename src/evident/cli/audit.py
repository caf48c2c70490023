"""Replay audit bundles, or export one.

A bundle is one signed file with the evidence, the endorsements, the reference values, the policy, the time and the result of a
decision. `verify` makes that decision again, from the bundle alone and without a network, and fails if a single byte changed, if
the outcome differs, or if you do not trust the signer. Its exit code is that of the decision itself: a bundle that holds and
records a refusal exits with 11.

`verify` takes a deployment's final record too (`evident down`): its signature is checked and what it says is shown; exit code 0.

examples:
  evident audit export --kind snp report=report.bin vcek=vcek.der nonce=nonce.bin --out bundle.json
  evident audit verify bundle.json                           signed by this machine's own verifier
  evident audit verify bundle.json --signer their-key.pem    signed by somebody else's, whom you trust
  evident audit verify bundle.json -o html > statement.html
  evident verify bundle.json --policy other.yaml             old evidence under another policy
"""

from __future__ import annotations

import argparse
from types import MappingProxyType

from evident.cli.actions import configure_actions, run_action

ACTIONS = MappingProxyType(
    {
        "export": "write the signed record of a decision",
        "verify": "make a recorded decision again, offline; or check a final record",
    }
)
"""Each action is a module ``audit_ACTION`` beside this one, with `configure` and `run`."""


def configure(parser: argparse.ArgumentParser) -> None:
    configure_actions(parser, "audit", ACTIONS)


run = run_action
