"""An SEV-SNP report and, beside it, quotes of a TPM that nothing in the report vouches for: one on the host, or of its hypervisor.

The procedure ``snp-tpm``, in order:

(1) snp.*   the report is authentic and answers the challenge (all steps of kind ``snp``)
(2) tpm.*   the quotes are authentic and answer what the report answers: REPORT_DATA, which binds challenge and key, or the bare challenge;
            the AK's attributes and name hold; log and IMA list replay

What the launch digest covers is the hardware's word. What the PCRs say beyond it is the word of whoever runs the TPM: of whom a certificate
or the platform names for its endorsement key, once that activated; else it is taken for whoever runs the host. One that lies has its TPM
quote any boot (AT-18). So no layer that rests on the quotes stands without that word, and the statement says so. Against everybody else
they hold: a machine that booted something else than was predicted is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from evident.evidence import binding
from evident.evidence.snp_report import SnpReport
from evident.verification import pieces as piece
from evident.verification import snp, tpm, tpm_facts
from evident.verification.composite import Parts, join, leave_out, trail_of
from evident.verification.context import Context
from evident.verification.facts import Facts
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import issue, run
from evident.verification.tpm_case import Case as TpmCase
from evident.verification.tpm_case import Quote, open_case
from evident.verification.verified import Verified

NAME = "snp-tpm"
OPERATOR = "whoever runs the host"

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        **{role: described for role, described in snp.ROLES.items() if role != "evidence"},
        "report": replace(snp.ROLES["report"], count="one"),
        "tpm-quote": Role("any", tpm.PIECE_LIMIT, "TPMS_ATTEST; one for each bank"),
        **tpm.TPM_ROLES,
    }
)


@dataclass(frozen=True, slots=True)
class SnpTpmEvidence:
    """The authentic pieces."""

    report: SnpReport
    quotes: tuple[Quote, ...]


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[SnpTpmEvidence]:
    """Verify a report and the quotes beside it; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    own = {role: contents for role, contents in pieces.items() if role in snp.ROLES}
    quoted = open_case(pieces, replace(context, nonce=_quoted_challenge(pieces, context), report_data=None), quote_role="tpm-quote")
    attributes = tuple(step for step in tpm.AK_STEPS if step.id == "tpm.ak-attributes")
    parts = Parts()
    root = parts.run(lambda: snp.verify(own, context, leave_out(snp.PROCEDURE, without)))
    tpm_trail = parts.run(lambda: run(leave_out(tpm.procedure(NAME, quoted, *tpm.QUOTE_STEPS, *attributes), without), quoted, context))
    parts.settle()
    if root is None or tpm_trail is None:
        raise AssertionError("a part failed without saying so")
    return issue(
        join(NAME, (trail_of(root), tpm_trail)),
        evidence=SnpTpmEvidence(root.evidence, quoted.quotes),
        facts=_facts(root, quoted),
        context=context,
        revocation=root.revocation,
        simulated=root.simulated or quoted.simulated,
        endorsers=root.endorsers,
    )


def together(report: Pieces, quotes: Pieces) -> Pieces:
    """The pieces of this kind, out of those of the kinds ``snp`` and ``tpm``."""
    renamed = {"tpm-quote" if role == "quote" else role: contents for role, contents in quotes.items()}
    return {role: (*report.get(role, ()), *renamed.get(role, ())) for role in dict.fromkeys((*report, *renamed))}


def _quoted_challenge(pieces: Pieces, context: Context) -> bytes | None:
    """What the quotes have to answer: the same as the report."""
    key = piece.optional(pieces, "key")
    if context.nonce is not None and key is not None:
        return binding.report_data(context.nonce, key)
    return context.report_data or context.nonce


def _facts(root: Verified[Any], quoted: TpmCase) -> Facts:
    claims: dict[str, Any] = {"snp": root.facts.claims, "tpm": tpm_facts.claims(quoted)}
    if quoted.log_claims:
        claims["log"] = dict(quoted.log_claims)
    vtpm, caveats = tpm_facts.anchored(quoted, "host", OPERATOR)
    return replace(
        root.facts,
        kind=NAME,
        vtpm=vtpm,
        boot=quoted.boot,
        runtime=quoted.ran.runtime if quoted.ran else None,
        caveats=tuple(dict.fromkeys((*root.facts.caveats, *caveats))),
        claims=claims,
    )
