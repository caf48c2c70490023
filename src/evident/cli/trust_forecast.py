"""Which machines will change status, when, and why: every bundle judged again, now and at later times, by the endorsements in the cache.

examples:
  evident trust fetch --quote quote.bin            fetch what Intel and AMD say today
  evident trust forecast machines/*.evident        then look ahead
  evident trust forecast --days 90 -o json machines/*.evident

No network is used. A change is dated where the endorsements give the date: the end of a window, of a certificate, a revocation already
published. What a vendor's next update will do has no date; it is told from the security versions that the machine reports.
The exit code is that of the worst decision within the time looked at.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from evident.cli.answers import EXIT_CODES, gravest
from evident.cli.options import number

if TYPE_CHECKING:
    from datetime import datetime

    from evident.appraisal.forecast import Judgement
    from evident.audit.outlook import Outlook
    from evident.endorsements.fetcher import Fetched

DEFAULT_DAYS = 400


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", nargs="+", help="bundles of past decisions, one for each machine")
    parser.add_argument("--at", metavar="TIME", help="look from this time instead of now (RFC 3339)")
    parser.add_argument(
        "--days", metavar="N", type=number(1, 3650), default=DEFAULT_DAYS, help=f"how far to look (default: {DEFAULT_DAYS})"
    )
    parser.add_argument("--signer", metavar="KEY.pem", action="append", default=[], help="public key of a verifier whose bundles you trust")
    parser.add_argument("--unsafe-simulated-root", metavar="FILE", help="believe this simulator's TEST root: for trials")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result (default: text)")


def run(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime, timedelta

    from evident import codec
    from evident.appraisal.forecast import newest_reported, next_update
    from evident.audit.bundle import open_bundle
    from evident.audit.outlook import outlook
    from evident.cli.audit_verify import trusted_anchors, trusted_signers
    from evident.cli.inputs import parse_time, read_bytes
    from evident.cli.paths import cache_dir
    from evident.endorsements.cache import Cache

    now = parse_time(args.at) if args.at else datetime.now(UTC)
    until, cache = now + timedelta(days=args.days), Cache(cache_dir())
    anchors, signers = trusted_anchors(args.unsafe_simulated_root), trusted_signers(args.signer)

    def cached(url: str) -> Fetched | None:
        from evident.endorsements.fetcher import Fetched

        entry = cache.lookup(url)
        return Fetched(url, entry.body, entry.retrieved_at) if entry is not None and entry.body is not None else None

    machines = [
        (name, outlook(open_bundle(read_bytes(name), signers), cached=cached, anchors=anchors, now=now, until=until))
        for name in args.bundle
    ]
    newest = newest_reported(found.tee for _, found in machines if found.tee)
    ahead = {name: next_update(found.tee, newest) if found.tee else () for name, found in machines}
    if args.output == "json":
        print(json.dumps({"from": codec.format_time(now), "until": codec.format_time(until), "machines": _json(machines, ahead)}, indent=2))
    else:
        print("\n\n".join(_text(name, found, ahead[name], until) for name, found in machines))
    decisions = [judged.decision for _, found in machines for judged in (found.present, *(change.after for change in found.changes))]
    return gravest(EXIT_CODES[decision] for decision in decisions)


def _json(machines: list[tuple[str, Outlook]], ahead: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    from evident import codec

    return [
        {
            "bundle": name,
            "technology": found.tee.technology if found.tee else None,
            "product": found.tee.product if found.tee else None,
            "identities": dict(found.tee.identities) if found.tee else {},
            "recorded": _judgement(found.recorded),
            "present": _judgement(found.present),
            "changes": [
                {
                    "at": codec.format_time(change.at),
                    "from": {"decision": change.before.decision, "tcb_status": change.before.tcb_status},
                    "to": _judgement(change.after),
                    "because": [codec.encode(finding) for finding in change.because],
                    "advisories": list(change.advisories),
                }
                for change in found.changes
            ],
            "next_update": list(ahead[name]),
        }
        for name, found in machines
    ]


def _judgement(judged: Judgement) -> dict[str, Any]:
    return {
        "decision": judged.decision,
        "tcb_status": judged.tcb_status,
        "advisories": list(judged.advisories),
        "codes": [finding.code for finding in judged.findings],
    }


def _text(name: str, found: Outlook, ahead: tuple[str, ...], until: datetime) -> str:
    tee = found.tee
    lines = [f"{name}  {f'{tee.technology} {tee.product}' if tee else 'no evidence of a TEE'}"]
    lines.append(f"  when recorded    {_short(found.recorded)}")
    lines.append(f"  now              {_short(found.present)}")
    if not found.present.same_as(found.recorded):
        news = [finding for finding in found.present.findings if finding.code not in found.recorded.codes]
        lines += [f"                   {finding.code}: {finding.found}" for finding in news]
    for change in found.changes:
        lines.append(f"  {change.at:%Y-%m-%d %H:%M}Z {_short(change.after)}")
        lines += [f"                   {finding.code}: {finding.found}. {finding.remedy}" for finding in change.because]
    if not found.changes:
        lines.append(f"  until {until:%Y-%m-%d} nothing changes by what is published")
    lines += [f"  next update      {sentence}" for sentence in ahead]
    return "\n".join(lines)


def _short(judged: Judgement) -> str:
    status = f", {judged.tcb_status}" if judged.tcb_status else ""
    return judged.decision.replace("_", " ") + status + (f" ({', '.join(judged.advisories)})" if judged.advisories else "")
