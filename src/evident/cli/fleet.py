"""All deployments on one screen: level, freshness, drift, and whom each still trusts.

Read from the journals and from the bundles of each one's last two answers, checked under this verifier's own key; nothing is asked of a
machine or a cloud. What is damaged is said of that deployment and hides no other. To ask them, use `evident attest`.

How often one has to answer stands in its specification (`reattest_seconds`); `--interval` is for those that have none. An answer is overdue
after one and a half intervals.

exit code: 0 all are well; else the gravest of 30 records are damaged, 11 one is refused, 12 one has to be asked or finished.

examples:
  evident fleet
  evident fleet --interval 1h
  evident fleet -o html > fleet.html
  evident fleet -o json
"""

from __future__ import annotations

import argparse
import json

MAX_WIDTH = 140


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", metavar="TIME", default="24h", help="how often one has to answer whose specification is silent")
    parser.add_argument("--all", action="store_true", help="those that were destroyed too")
    parser.add_argument("-o", "--output", choices=("text", "json", "html"), default="text")


def run(args: argparse.Namespace) -> int:
    from evident.cli import terminal
    from evident.cli.answers import gravest
    from evident.cli.audit_verify import trusted_signers
    from evident.cli.deployments import surroundings
    from evident.cli.inputs import parse_duration
    from evident.lifecycle.fleet import fleet
    from evident.reports import fleet as report

    found = fleet(surroundings(), trusted=trusted_signers(()), interval=parse_duration(args.interval), everything=args.all)
    if args.output == "json":
        print(json.dumps(report.document(found), indent=2, ensure_ascii=False))
    elif args.output == "html":
        print(report.render_html(found))
    else:
        terminal.show(lambda width, color: report.render_text(found, width=width, color=color), at_most=MAX_WIDTH)
    graver = {report.Standing.WELL: 0, report.Standing.REFUSED: 11, report.Standing.DAMAGED: 30}
    return gravest([0, *(graver.get(member.standing, 12) for member in found.asked)])
