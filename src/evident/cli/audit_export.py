"""Write the signed audit bundle of a decision: of evidence at hand, or the latest one of a deployment.

The exit code is that of the decision; the bundle is written whatever it was, for a refusal needs its record more than a pass.

examples:
  evident audit export --kind snp report=report.bin vcek=vcek.der nonce=nonce.bin --policy policy.yaml --out bundle.json
  evident audit export shop --out bundle.json                the latest attestation of the deployment `shop`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    from evident.cli import options

    parser.add_argument("inputs", nargs="+", metavar="NAME|ROLE=PATH", help="a deployment, or the pieces of --kind")
    options.configure(parser)
    parser.add_argument("--out", metavar="FILE", required=True, help="where to write the bundle")


def run(args: argparse.Namespace) -> int:
    return _of_evidence(args) if args.kind else _of_deployment(args)


def _of_evidence(args: argparse.Namespace) -> int:
    import os

    from evident.audit import bundle, keys
    from evident.cli.answers import exit_code
    from evident.cli.case import decide_from, read_pieces
    from evident.cli.paths import state_dir

    decision = decide_from(args, args.kind, read_pieces(args.inputs))
    key = keys.load_or_create(state_dir(), os.urandom)
    data = bundle.build(decision.case, decision.recorded, decision.outcome, key)
    bundle.write(Path(args.out), data)
    outcome = decision.outcome
    _say(args.out, outcome.decision, outcome.code, state_dir() / keys.PUBLIC_NAME)
    return exit_code(outcome)


def _of_deployment(args: argparse.Namespace) -> int:
    from evident.audit import bundle, keys
    from evident.cli.answers import EXIT_CODES
    from evident.cli.deployments import surroundings
    from evident.cli.inputs import read_bytes
    from evident.cli.paths import state_dir
    from evident.errors import UsageError
    from evident.lifecycle.deployment import deployment

    if len(args.inputs) != 1 or "=" in args.inputs[0]:
        raise UsageError.of(
            "usage.kind",
            expected="one deployment, or --kind with ROLE=PATH words",
            found=" ".join(args.inputs),
            remedy="Add --kind, for example: evident audit export --kind snp report=report.bin --out bundle.json",
        )
    target = deployment(args.inputs[0], surroundings())
    bundles = sorted(target.bundles.glob("*.json")) if target.bundles.is_dir() else []
    if not bundles:
        raise UsageError.of(
            "audit.nothing-recorded",
            expected=f"a deployment {args.inputs[0]!r} that was attested",
            found="no bundle",
            remedy=f"Attest it first: evident attest {args.inputs[0]}",
        )
    data = read_bytes(bundles[-1])
    result = bundle.decode(data).result
    bundle.write(Path(args.out), data)
    _say(args.out, result["decision"], result["code"], state_dir() / keys.PUBLIC_NAME)
    return EXIT_CODES.get(result["decision"], 1)


def _say(path: str, decision: str, code: str, public_key: Path) -> None:
    print(f"evident: {path} records: {decision} ({code})", file=sys.stderr)
    print(f"  next      give readers {public_key}; they run: evident audit verify {path} --signer verifier-key.pub.pem", file=sys.stderr)
