"""AWS EC2 with SEV-SNP: a report signed by a VLEK, and a NitroTPM attestation document that the report names.

The procedure ``aws-snp``, in order:

(1) snp.*             the report is authentic (all steps of kind ``snp`` but its challenge)
(2) nitro.*           the document is authentic and answers the challenge, and log and IMA list replay to its PCRs (all steps of
                      kind ``nitrotpm``)
(3) aws.binding       REPORT_DATA = SHA-512(document ‖ nonce): whoever asked for the report held this document and this challenge

The document is made by the Nitro hypervisor and the report by the processor; the guest ties them together in software, after it booted
what the document says. That the two speak of one machine holds only as far as the firmware in the report and AWS are honest (AT-23):
no hardware measures what NitroTPM measures, and the statement says so.

Source: AWS EC2 User Guide, "Attest an Amazon EC2 instance with AMD SEV-SNP"; github.com/aws/uefi issue 20 for the missing link.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from evident.errors import Indeterminate, NotAuthentic, UsageError
from evident.evidence import binding, content
from evident.evidence.importers import containers
from evident.evidence.nitro import NitroDocument
from evident.evidence.snp_report import SnpReport
from evident.verification import challenge, nitro, snp
from evident.verification import pieces as piece
from evident.verification.composite import Parts, join, leave_out, trail_of, without_steps
from evident.verification.context import Context
from evident.verification.facts import Facts, Freshness
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Procedure, Step, issue, run
from evident.verification.verified import Verified

NAME = "aws-snp"
CAVEAT_SOFTWARE_BINDING = "vtpm.bound-by-software"
_SNP_ROLES = ("auxblob", "vcek", "vlek", "chain", "crl", "launch")

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "report": replace(snp.ROLES["report"], count="optional"),
        **{role: snp.ROLES[role] for role in _SNP_ROLES},
        **{role: nitro.ROLES[role] for role in ("document", "key")},
        **nitro.MEASURED_ROLES,
        "evidence": Role("optional", containers.LIMIT, "report and certificates as go-sev-guest writes them"),
    }
)
HARDWARE = without_steps(snp.PROCEDURE, "snp.challenge")


@dataclass(frozen=True, slots=True)
class AwsEvidence:
    report: SnpReport
    document: NitroDocument


@dataclass(frozen=True, slots=True)
class Case:
    """What step 3 compares."""

    report_data: bytes
    document: bytes
    context: Context


def _binding(case: Case) -> None:
    """(3) AT-23."""
    nonce = case.context.nonce
    challenge.compare_exact(case.context, case.report_data, "aws")
    if nonce is None:
        raise Indeterminate.of(
            "aws.binding.challenge-missing",
            expected="the challenge that went into REPORT_DATA beside the document",
            found="none given",
            remedy="Pass nonce=PATH; without it nothing ties the report to the document.",
            layer="vtpm",
        )
    expected = binding.beside(case.document, nonce)
    if not hmac.compare_digest(expected, case.report_data):
        raise NotAuthentic.of(
            "aws.binding",
            expected=f"REPORT_DATA {expected.hex()}, which names the document and the challenge",
            found=case.report_data.hex(),
            remedy="Report and document are of different machines or challenges: have one guest make both, the document first.",
            layer="vtpm",
        )


STEPS: tuple[Step[Case], ...] = (Step("aws.binding", "The report names the NitroTPM document and the challenge.", _binding),)


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[AwsEvidence]:
    """Verify the evidence of an EC2 SEV-SNP machine; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    opened = containers.expand(pieces, keep=frozenset(ROLES))
    if "report" not in opened:
        raise UsageError.of(
            "pieces.count", expected="a 'report'", found="none", remedy="Pass report=PATH, or evidence=PATH with one in it."
        )
    own = {role: contents for role, contents in opened.items() if role in ("report", *_SNP_ROLES)}
    alone = replace(context, nonce=None, report_data=None)
    document = content.unhex(piece.one(opened, "document"))
    parts = Parts()
    root = parts.run(lambda: snp.verify(own, alone, leave_out(HARDWARE, without)))
    measured = {role: contents for role, contents in opened.items() if role == "key" or role in nitro.MEASURED_ROLES}
    spoken = parts.run(lambda: nitro.verify_document("nitrotpm", {"document": (document,), **measured}, context, without=without))
    link = None
    if root is not None:
        case = Case(root.evidence.report_data, document, context)
        link = parts.run(lambda: run(leave_out(Procedure.of(NAME, *STEPS), without), case, context))
    parts.settle()
    if root is None or spoken is None or link is None:
        raise AssertionError("a part failed without saying so")
    return issue(
        join(NAME, (trail_of(root), trail_of(spoken), link)),
        evidence=AwsEvidence(root.evidence, spoken.evidence),
        facts=_facts(root, spoken),
        context=context,
        revocation=root.revocation,
        simulated=root.simulated or spoken.simulated,
        endorsers=tuple(dict.fromkeys((*root.endorsers, *spoken.endorsers))),
    )


def _facts(root: Verified[Any], spoken: Verified[Any]) -> Facts:
    """The report's freshness is the challenge's too: REPORT_DATA holds it (step 3)."""
    return replace(
        root.facts,
        kind=NAME,
        freshness=Freshness(
            "challenge", "REPORT_DATA names the verifier's nonce and the NitroTPM document", made_at=spoken.facts.freshness.made_at
        ),
        vtpm=spoken.facts.vtpm,
        boot=spoken.facts.boot,
        runtime=spoken.facts.runtime,
        bound_key=spoken.facts.bound_key,
        caveats=(*root.facts.caveats, *spoken.facts.caveats, CAVEAT_SOFTWARE_BINDING),
        claims={"snp": root.facts.claims, "nitrotpm": spoken.facts.claims},
    )
