"""Challenge a deployment and appraise what it answers.

A fresh 32-byte challenge is given, used once, and bound by the guest together with a key of its own. The exit code is that of the
decision, the statement goes to standard output, and a signed audit bundle is kept beside the deployment.

A machine that is refused is quarantined: nothing is released to it until it attests again, or another image is put in its place. Where its
specification says `on_refusal: destroy` it is destroyed, as `evident down` does it; but never for what --policy demands this once.

examples:
  evident attest shop
  evident attest shop -o html > statement.html
  evident attest shop --policy stricter.json --bundle shop-bundle.json
  evident attest shop --every                       at the interval of its document (reattest_seconds)
  evident attest shop --every 60s                   until it is refused; what drifted is named on standard error
  evident attest shop --known-hosts ~/.ssh/known_hosts   then: ssh -p PORT USER@127.0.0.1
  evident attest shop --tls shop.example:443        is it this machine that answers there? (tls_names in its image)
  evident attest shop --certificate shop.pem        then: curl --cacert shop.pem https://shop.example/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from evident.cli.answers import FORMS
from evident.cli.options import endpoint, number

if TYPE_CHECKING:
    from datetime import timedelta

    from evident.lifecycle.attest import Answer
    from evident.lifecycle.deployment import Deployment

DOCUMENT = "as the document says"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--policy", metavar="FILE", help="hold it to this policy, this once")
    parser.add_argument("--bundle", metavar="FILE", help="write the signed audit bundle here too")
    parser.add_argument(
        "--every",
        metavar="TIME",
        nargs="?",
        const=DOCUMENT,
        help="ask again for as long as it is accepted: at this interval (90s, 30m, 12h), or at that of the deployment's document",
    )
    parser.add_argument("--times", metavar="N", type=number(1, 999_999_999), help="with --every: stop after N answers")
    parser.add_argument("--known-hosts", metavar="FILE", help="once it is accepted, write its SSH host key there (port 22 of the machine)")
    parser.add_argument(
        "--tls",
        metavar="HOST:PORT",
        type=endpoint,
        help="once it is accepted, connect there and refuse whoever has not the machine's TLS key",
    )
    parser.add_argument("--certificate", metavar="FILE", help="once it is accepted, write its instance certificate there (PEM)")
    parser.add_argument("-o", "--output", choices=FORMS, default="text")


def run(args: argparse.Namespace) -> int:
    import hashlib
    from pathlib import Path

    from evident.audit import bundle
    from evident.cli import answers
    from evident.cli.deployments import surroundings
    from evident.cli.documents import read_policy
    from evident.cli.paths import cache_dir
    from evident.errors import UsageError
    from evident.lifecycle import logins, proving
    from evident.lifecycle.attest import attest
    from evident.lifecycle.deployment import deployment

    if args.times and not args.every:
        raise UsageError.of("usage.times", expected="--every with --times", found="--times alone", remedy="Add --every, or leave it out.")
    target = deployment(args.name, surroundings())
    by = proving.verifier(target.surroundings, cache_dir())

    def ask() -> Answer:
        answer = attest(target, by, policy=read_policy(args.policy) if args.policy else None)
        if args.tls or args.certificate:
            _hold(answer, args.tls, args.certificate)
        return answer

    answer = _again(ask, _interval(args.every, target), args.times) if args.every else ask()
    if args.known_hosts:
        logins.remember(target, answer, Path(args.known_hosts))
    if args.bundle:
        bundle.write(Path(args.bundle), answer.bundle)
    print(f"evident: audit bundle: {args.bundle or answer.bundle_path}", file=sys.stderr)
    digest = hashlib.sha256(answer.bundle).hexdigest()
    return answers.give(answer.outcome, args.output, case=answer.case, bundle_sha256=digest)


def _hold(answer: Answer, tls: tuple[str, int] | None, certificate: str | None) -> None:
    """Hold a live connection against what the machine certified, and write that down; nothing where it was not accepted."""
    from pathlib import Path

    from evident.cli.terminal import tell
    from evident.lifecycle import connections

    known = connections.certified(answer)
    if known is None:
        return
    if tls:
        connections.check(known, *tls)
        tell(f"evident: {tls[0]}:{tls[1]} is the attested machine, by its TLS key {known.pin}")
    if certificate:
        connections.remember(known, Path(certificate))


def _interval(text: str, target: Deployment) -> timedelta:
    from datetime import timedelta

    from evident.cli.inputs import parse_duration
    from evident.errors import UsageError
    from evident.lifecycle import specification

    if text != DOCUMENT:
        return parse_duration(text)
    said = specification.kept(target)
    if said is None or said.reattest_seconds is None:
        raise UsageError.of(
            "usage.every",
            expected="an interval, here or in the deployment's document (reattest_seconds)",
            found="none",
            remedy=f"For example: evident attest {target.name} --every 15m",
        )
    return timedelta(seconds=said.reattest_seconds)


def _again(ask: Callable[[], Answer], interval: timedelta, times: int | None) -> Answer:
    """Ask until an answer is not accepted, or `times` answers were given; the last one."""
    import time

    from evident.cli.terminal import tell
    from evident.lifecycle.drift import drift

    answer, given = ask(), 1
    while answer.outcome.decision == "accepted" and given != times:
        time.sleep(interval.total_seconds())
        before, answer = answer, ask()
        given += 1
        for change in drift(before.outcome, answer.outcome):
            tell(f"evident: drift: {change}")
    return answer
