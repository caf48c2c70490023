"""Challenge a deployment and appraise what it answers.

A fresh 32-byte challenge is given, used once, and bound by the guest together with a key of its own. The exit code is that of the
decision, the statement goes to standard output, and a signed audit bundle is kept beside the deployment.

examples:
  evident attest shop
  evident attest shop -o html > statement.html
  evident attest shop --policy stricter.json --bundle shop-bundle.json
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.lifecycle.attest import Answer


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--policy", metavar="FILE", help="hold it to this policy, this once")
    parser.add_argument("--bundle", metavar="FILE", help="write the signed audit bundle here too")
    parser.add_argument("-o", "--output", choices=("text", "json", "html"), default="text")


def run(args: argparse.Namespace) -> int:
    import os
    from pathlib import Path

    from evident.appraisal.statement import EXIT_CODES, TrustStatement
    from evident.audit import bundle, keys
    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy
    from evident.cli.paths import cache_dir
    from evident.endorsements import anchors
    from evident.endorsements.cache import Cache
    from evident.endorsements.http import real_world, standard_fetcher
    from evident.lifecycle.attest import attest
    from evident.lifecycle.deployment import deployment
    from evident.platforms import registry

    around, cache = surroundings(), Cache(cache_dir())
    target = deployment(args.name, around)
    answer = attest(
        target,
        anchors=anchors.production(),
        fetcher=standard_fetcher(cache, real_world()),
        crl_floor=cache.crl_floors(),
        key=keys.load_or_create(around.state, os.urandom),
        profile=registry.profile(target.driver().profile, around.clock().date()),
        policy=read_policy(args.policy) if args.policy else None,
    )
    if args.bundle:
        bundle.write(Path(args.bundle), answer.bundle)
    _show(answer, args.output)
    print(f"evident: audit bundle: {args.bundle or answer.bundle_path}", file=sys.stderr)
    outcome = answer.outcome
    return EXIT_CODES[outcome.decision] if isinstance(outcome, TrustStatement) else outcome.exit_code


def _show(answer: Answer, output: str) -> None:
    if output == "json":
        from evident.reports import json_report

        print(json_report.render(answer.outcome))
    elif output == "html":
        import hashlib

        from evident.reports import html

        print(
            html.render(answer.outcome, pieces=html.artifacts(answer.case.pieces), bundle_sha256=hashlib.sha256(answer.bundle).hexdigest())
        )
    else:
        from evident.cli.terminal import show_outcome

        show_outcome(answer.outcome)
