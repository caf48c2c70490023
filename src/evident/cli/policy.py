"""Check a policy before it decides anything, or run it over stored evidence.

examples:
  evident policy lint policy.yaml                  is it well formed, and what does it let pass?
  evident policy test policy.yaml *.bundle.json    what would it have decided?

lint exits with 0 when the policy can be used (warnings are printed), 30 when it is malformed. test exits with 0 when every bundle is
accepted, else with the code of the gravest decision.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evident.cli.answers import gravest

if TYPE_CHECKING:
    from evident.appraisal.policy import Policy
    from evident.audit.keys import VerifyingKey
    from evident.endorsements.anchors import AnchorSet


@dataclass(frozen=True, slots=True)
class Trial:
    """One bundle under a policy."""

    bundle: str
    recorded: str
    """Code of the recorded decision; empty when the bundle does not hold."""
    decision: str
    code: str
    exit_code: int
    findings: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    from evident.cli.audit_verify import configure_trust

    actions = parser.add_subparsers(dest="action", required=True, metavar="lint|test")
    lint = actions.add_parser("lint", help="check a policy file", description="Check a policy file: JSON, or YAML.")
    lint.add_argument("policy", metavar="POLICY")
    lint.add_argument("-o", "--output", choices=("text", "json"), default="text")
    test = actions.add_parser("test", help="run a policy over stored bundles", description="Run a policy over stored bundles, offline.")
    test.add_argument("policy", metavar="POLICY")
    test.add_argument("bundle", metavar="BUNDLE", nargs="+")
    configure_trust(test)
    test.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    from evident.cli.documents import read_policy

    policy = read_policy(args.policy)
    return _lint(policy, args.output) if args.action == "lint" else _test(policy, args)


def _lint(policy: Policy, output: str) -> int:
    from evident import codec
    from evident.appraisal.policy_lint import lint

    warnings = lint(policy)
    if output == "json":
        print(json.dumps({"policy": policy.name, "valid": True, "warnings": codec.encode(warnings)}, indent=2))
        return 0
    print(f"Policy {policy.name!r} is well formed; {len(warnings)} warning{'' if len(warnings) == 1 else 's'}.")
    for warning in warnings:
        print(f"  {warning.code}: {warning.text}\n      {warning.remedy}")
    return 0


def _test(policy: Policy, args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from evident.cli.audit_verify import trusted_anchors, trusted_signers

    signers, anchors = trusted_signers(args.signer), trusted_anchors(args.unsafe_simulated_root)
    trials = [_trial(path, policy, signers, anchors) for path in args.bundle]
    if args.output == "json":
        print(json.dumps({"policy": policy.name, "bundles": [asdict(trial) for trial in trials]}, indent=2, ensure_ascii=False))
    else:
        for trial in trials:
            was = f" (recorded: {trial.recorded})" if trial.recorded and trial.recorded != trial.code else ""
            print(f"{trial.decision:<13} {trial.bundle}{was}")
            for finding in trial.findings:
                print(f"    {finding}")
    return gravest(trial.exit_code for trial in trials)


def _trial(path: str, policy: Policy, signers: tuple[VerifyingKey, ...], anchors: AnchorSet) -> Trial:
    from evident.audit.replay import reappraise, replay
    from evident.cli.answers import exit_code
    from evident.cli.inputs import read_bytes
    from evident.errors import EvidentError, UsageError

    recorded = ""
    try:
        held = replay(read_bytes(path), trusted=signers, anchors=anchors)
        recorded = held.outcome.code
        outcome = reappraise(held, policy, anchors=anchors)
    except UsageError:
        raise
    except EvidentError as error:
        outcome = error
    return Trial(path, recorded, outcome.decision, outcome.code, exit_code(outcome), tuple(str(finding) for finding in outcome.findings))
