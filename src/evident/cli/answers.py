"""How a verb answers: a decision in the form asked for, on standard output, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evident.audit.case import Case
    from evident.reports.json_report import Outcome

EXIT_CODES = MappingProxyType({"malformed": 30, "unsupported": 20, "not_authentic": 10, "refused": 11, "indeterminate": 12, "accepted": 0})
"""What a command exits with after each decision, the gravest first (docs/command-line.md)."""
FORMS = ("text", "json", "html", "ear", "sarif", "junit", "external")


def give(outcome: Outcome, form: str, *, case: Case, bundle_sha256: str = "", bundle: Mapping[str, Any] | None = None) -> int:
    """Print `outcome` of `case`; `bundle_sha256` names the bundle that records it, `bundle` is added to the JSON under that name."""
    if form == "text":
        from evident.cli.terminal import show_outcome

        show_outcome(outcome)
    elif form == "json":
        from evident.reports import json_report

        print(json.dumps({**json_report.document(outcome), **({"bundle": bundle} if bundle else {})}, indent=2, ensure_ascii=False))
    elif form == "html":
        from evident.reports import html

        print(html.render(outcome, pieces=html.artifacts(case.pieces), bundle_sha256=bundle_sha256))
    elif form == "ear":
        print(_ear(outcome, case))
    elif form == "sarif":
        from evident.reports import sarif

        print(sarif.render(outcome))
    elif form == "external":
        _external(outcome, bundle_sha256)
    else:
        from evident.reports import junit

        print(junit.render(outcome))
    return exit_code(outcome)


def exit_code(outcome: Outcome) -> int:
    """What the command exits with after this outcome."""
    from evident.errors import EvidentError

    return outcome.exit_code if isinstance(outcome, EvidentError) else EXIT_CODES[outcome.decision]


def gravest(codes: Iterable[int]) -> int:
    """The exit code that answers for several decisions; one that is no decision's is graver than all."""
    order = tuple(EXIT_CODES.values())
    return min(codes, key=lambda code: order.index(code) if code in order else -1)


def _external(outcome: Outcome, bundle_sha256: str) -> None:
    """The protocol of Terraform's ``external`` data source: the query is read, and a failure is told on standard error."""
    import sys

    from evident.cli.terminal import tell
    from evident.reports import external

    if not sys.stdin.isatty():
        sys.stdin.read()
    print(external.render(outcome, bundle_sha256=bundle_sha256))
    for finding in outcome.findings:
        tell(f"evident: {outcome.decision}: {finding}")


def _ear(outcome: Outcome, case: Case) -> str:
    """The result as a signed EAT attestation result, for other people's relying parties."""
    import os
    from datetime import UTC, datetime

    from evident.audit import keys
    from evident.cli.paths import state_dir
    from evident.evidence.content import unhex
    from evident.reports import ear

    given = case.pieces.get("nonce", ())
    nonce = unhex(given[0]) if given else case.nonce
    key = keys.load_or_create(state_dir(), os.urandom)
    return ear.sign(ear.claims(outcome, issued_at=datetime.now(UTC), nonce=nonce), key.pem, key.public.keyid)
