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

from evident.cli.answers import FORMS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--policy", metavar="FILE", help="hold it to this policy, this once")
    parser.add_argument("--bundle", metavar="FILE", help="write the signed audit bundle here too")
    parser.add_argument("-o", "--output", choices=FORMS, default="text")


def run(args: argparse.Namespace) -> int:
    import hashlib
    import os
    from pathlib import Path

    from evident.audit import bundle, keys
    from evident.cli import answers
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
    print(f"evident: audit bundle: {args.bundle or answer.bundle_path}", file=sys.stderr)
    digest = hashlib.sha256(answer.bundle).hexdigest()
    return answers.give(answer.outcome, args.output, case=answer.case, bundle_sha256=digest)
