"""Google Compute Engine with TDX: a TD quote, the event log of its registers, and Google's endorsement of the firmware.

The procedure ``gcp-tdx``, in order:

(1) tdx.*             the quote is authentic and answers the challenge; where a log is given, it replays (all steps of kind ``tdx``)
(2) gcp.endorsement   where given: Google's pinned root signed the launch endorsement

MRTD is the firmware, RTMR0 to RTMR2 are what that firmware measured: the boot is in the quote itself. The vTPM that such a machine has as
well runs in Google's hypervisor, would add nobody's word but Google's, and is not asked.

Source: google/gce-tcb-verifier ``proto/endorsement.proto`` (74582c07); google/go-tpm-tools (67670e5c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from evident.endorsements.google import VerifiedEndorsement
from evident.evidence import gce_endorsement
from evident.evidence.tdx_quote import TdxQuote
from evident.verification import gcp, tdx
from evident.verification import pieces as piece
from evident.verification.composite import Parts, join, leave_out, trail_of
from evident.verification.context import Context
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.verified import Verified

NAME = "gcp-tdx"
ROLES: Mapping[str, Role] = MappingProxyType(
    {
        **tdx.ROLES,
        "endorsement": Role("optional", gce_endorsement.MAX_BYTES, "Google's launch endorsement (binary protobuf)"),
        "firmware": Role("optional", gcp.FIRMWARE_LIMIT, "the endorsed firmware binary, to recompute the measurement"),
        "chain": Role("any", tdx.CERTIFICATE_LIMIT, "Google's root, where the endorsement does not bring it"),
    }
)


@dataclass(frozen=True, slots=True)
class GcpTdxEvidence:
    """The authentic pieces."""

    quote: TdxQuote
    endorsement: VerifiedEndorsement | None
    firmware: bytes | None
    """As given: what it is worth, `reference_values` finds out."""


@dataclass(slots=True)
class Case:
    pieces: Pieces
    context: Context
    endorsement: VerifiedEndorsement | None = None


def _endorsement(case: Case) -> Open | None:
    """(2) Whether it is of this MRTD is not a question of authenticity."""
    found = gcp.check_endorsement(case.pieces, case.context)
    if isinstance(found, Open):
        return found
    case.endorsement = found
    return None


ENDORSEMENT_STEP: Step[Case] = Step("gcp.endorsement", "Google signed the launch endorsement.", _endorsement)


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[GcpTdxEvidence]:
    """Verify the evidence of a Google TDX machine; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    own = {role: contents for role, contents in pieces.items() if role in tdx.ROLES}
    case = Case(pieces, context)
    steps = (ENDORSEMENT_STEP,) if "endorsement" in pieces else ()
    parts = Parts()
    root = parts.run(lambda: tdx.verify(own, context, leave_out(tdx.PROCEDURE, without)))
    endorsed = parts.run(lambda: run(leave_out(Procedure.of(NAME, *steps), without), case, context))
    parts.settle()
    if root is None or endorsed is None:
        raise AssertionError("a part failed without saying so")
    return issue(
        join(NAME, (trail_of(root), endorsed)),
        evidence=GcpTdxEvidence(root.evidence, case.endorsement, piece.optional(pieces, "firmware")),
        facts=replace(root.facts, kind=NAME, caveats=_caveats(root, case), claims=_claims(root, case)),
        context=context,
        revocation=root.revocation,
        simulated=root.simulated or bool(case.endorsement and case.endorsement.simulated),
        endorsers=(*root.endorsers, *((gcp.OPERATOR,) if case.endorsement else ())),
    )


def _caveats(root: Verified[TdxQuote], case: Case) -> tuple[str, ...]:
    other = case.endorsement is not None and not case.endorsement.tdx_of(root.evidence.report.mrtd)
    return (*root.facts.caveats, *((gcp.CAVEAT_NOT_ENDORSED,) if other else ()))


def _claims(root: Verified[TdxQuote], case: Case) -> dict[str, Any]:
    claims = dict(root.facts.claims)
    log = claims.pop("log", None)
    found: dict[str, Any] = {"tdx": claims, **({"log": log} if log else {})}
    if case.endorsement is not None:
        found["endorsement"] = gcp.endorsement_claims(case.endorsement, b"") | {
            "configurations": [
                {"ram_gib": golden.ram_gib or None, "early_accept": golden.early_accept}
                for golden in case.endorsement.tdx_of(root.evidence.report.mrtd)
            ]
        }
    return found
