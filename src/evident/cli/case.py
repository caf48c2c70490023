"""One decision under the options of `options.configure`, shared by `verify` and `audit export`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from evident.audit.case import Case, decide
from evident.cli import documents, inputs, paths
from evident.cli.audit_verify import trusted_anchors
from evident.cli.options import UNSAFE
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import Fetcher, RecordingFetcher
from evident.endorsements.http import real_world, standard_fetcher
from evident.endorsements.prefetch import remember_crls
from evident.errors import UsageError
from evident.platforms import registry
from evident.reports.json_report import Outcome
from evident.verification.pieces import Pieces


@dataclass(frozen=True, slots=True)
class Decision:
    """A case, how it was decided, and what was fetched for it."""

    case: Case
    outcome: Outcome
    recorded: RecordingFetcher


def read_pieces(assignments: Iterable[str]) -> Pieces:
    """``ROLE=PATH`` words into pieces; the same role may be given several times."""
    pieces: dict[str, tuple[bytes, ...]] = {}
    for word in assignments:
        role, separator, path = word.partition("=")
        if not (role and separator and path):
            raise UsageError.of(
                "usage.role", expected="ROLE=PATH, e.g. report=report.bin", found=repr(word), remedy="Say what the file is."
            )
        pieces[role] = (*pieces.get(role, ()), inputs.read_bytes(path))
    return pieces


def decide_from(args: argparse.Namespace, kind: str, pieces: Pieces) -> Decision:
    """Decide on `pieces` under the options in `args`."""
    at = inputs.parse_time(args.at) if args.at else datetime.now(UTC)
    cache = Cache(paths.cache_dir())
    case = Case(
        kind=kind,
        pieces=pieces,
        at=at,
        crl_floor=cache.crl_floors(),
        unsafe=unsafe(args),
        policy=documents.read_policy(args.policy),
        references=documents.read_references(args.reference),
        profile=registry.profile(args.platform, at.date()) if args.platform else None,
    )
    recorded, anchors = RecordingFetcher(fetcher(args, cache)), trusted_anchors(args.unsafe_simulated_root)
    outcome = decide(case, anchors=anchors, fetcher=recorded)
    remember_crls(cache, recorded.recorded, anchors, pieces)
    return Decision(case, outcome, recorded)


def unsafe(args: argparse.Namespace) -> frozenset[str]:
    """The unsafe options that were given."""
    named = {option for option in UNSAFE if getattr(args, "unsafe_" + option.replace("-", "_"))}
    return frozenset(named | ({"simulated-root"} if args.unsafe_simulated_root else set()))


def fetcher(args: argparse.Namespace, cache: Cache) -> Fetcher:
    """How endorsements are had under these options."""
    from evident.endorsements import amd, intel

    others = ((amd.KDS_BASE, args.kds), (intel.PCS_BASE, args.pccs))
    bases = {base: url.rstrip("/") for base, url in others if url}
    return standard_fetcher(cache, real_world(), offline=args.offline, bases=bases)
