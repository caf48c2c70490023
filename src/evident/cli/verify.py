"""Check evidence completely and give a decision.

Either one file, an audit bundle or a wrapped collection of evidence (CMW, RFC 9999), or a kind and its pieces by role. Files are
told apart by content: PEM or DER, raw, hex or JSON; `-` is standard input.

examples:
  evident verify --kind snp report=report.bin vcek=vcek.der nonce=nonce.bin
  evident verify --kind snp report=report.bin nonce=nonce.bin --reference expected.json --policy policy.yaml
  evident verify --kind snp report=report.bin vcek=vcek.pem crl=milan.crl --at 2026-03-07T00:00:00Z --offline -o json
  evident verify bundle.json                           replay an audit bundle
  evident verify bundle.json --policy other.yaml       old evidence under another policy

exit codes: 0 accepted, 10 not authentic, 11 refused, 12 indeterminate, 20 unsupported, 30 malformed
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli.answers import FORMS

if TYPE_CHECKING:
    from evident.cli.case import Decision
    from evident.verification.pieces import Pieces


def configure(parser: argparse.ArgumentParser) -> None:
    from evident.cli import options

    parser.add_argument("inputs", nargs="+", metavar="FILE|ROLE=PATH", help="one bundle or CMW, or the pieces of --kind")
    options.configure(parser)
    parser.add_argument("--signer", metavar="KEY.pem", action="append", default=[], help="public key of a verifier whose bundles you trust")
    parser.add_argument("--bundle", metavar="FILE", help="write the signed audit bundle of this decision")
    parser.add_argument("-o", "--output", choices=FORMS, default="text", help="form of the answer (default: text)")


def run(args: argparse.Namespace) -> int:
    from evident.audit.bundle import looks_like_bundle
    from evident.cli.case import decide_from, read_pieces

    if args.kind:
        return _present(args, decide_from(args, args.kind, read_pieces(args.inputs)))
    data = _only_file(args.inputs)
    if looks_like_bundle(data):
        return _replay(args, data)
    return _present(args, decide_from(args, *_unwrap(data)))


def _only_file(words: list[str]) -> bytes:
    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError

    if len(words) != 1 or "=" in words[0]:
        raise UsageError.of(
            "usage.kind",
            expected="one bundle or CMW, or --kind with ROLE=PATH words",
            found=" ".join(words),
            remedy="Add --kind, for example: evident verify --kind snp report=report.bin",
        )
    return read_bytes(words[0])


def _unwrap(data: bytes) -> tuple[str, Pieces]:
    from evident.evidence import cmw

    return cmw.to_pieces(cmw.parse(data))


def _replay(args: argparse.Namespace, data: bytes) -> int:
    """Replay a bundle as it was decided, or, with --policy, appraise its evidence anew."""
    from dataclasses import replace

    from evident.audit.replay import reappraise, replay
    from evident.cli import documents
    from evident.cli.audit_verify import present, trusted_anchors, trusted_signers

    anchors = trusted_anchors(args.unsafe_simulated_root)
    held = replay(data, trusted=trusted_signers(args.signer), anchors=anchors)
    if args.policy:
        held = replace(held, outcome=reappraise(held, documents.read_policy(args.policy), anchors=anchors))
    return present(held, args.output)


def _present(args: argparse.Namespace, decision: Decision) -> int:
    from evident.cli import answers
    from evident.errors import UsageError

    if isinstance(decision.outcome, UsageError):  # nothing was decided: there is nothing to record or to render
        raise decision.outcome
    digest = _write_bundle(args.bundle, decision) if args.bundle else ""
    return answers.give(decision.outcome, args.output, case=decision.case, bundle_sha256=digest)


def _write_bundle(path: str, decision: Decision) -> str:
    """Write the signed record of `decision`; returns its SHA-256 (hex)."""
    import hashlib
    import os
    import sys
    from pathlib import Path

    from evident.audit import bundle, keys
    from evident.cli.paths import state_dir

    key = keys.load_or_create(state_dir(), os.urandom)
    data = bundle.build(decision.case, decision.recorded, decision.outcome, key)
    bundle.write(Path(path), data)
    print(f"evident: bundle written to {path}, signed by {key.public.keyid}", file=sys.stderr)
    return hashlib.sha256(data).hexdigest()
