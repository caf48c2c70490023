"""Kind ``azure-snp``: see `evident.verification.azure` for the procedure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from evident.evidence.azure_hcl import HclReport
from evident.evidence.importers import containers
from evident.verification import azure, snp
from evident.verification import pieces as piece
from evident.verification.composite import leave_out, without_steps
from evident.verification.context import Context
from evident.verification.pieces import Pieces, Role
from evident.verification.verified import Verified

NAME = "azure-snp"
ROLES: Mapping[str, Role] = MappingProxyType(
    {
        **azure.ROLES,
        "report": replace(snp.ROLES["report"], count="optional", description="the SNP report alone, with 'claims' in place of 'hcl'"),
        **{role: snp.ROLES[role] for role in ("vcek", "chain", "crl")},
        "evidence": Role("optional", containers.LIMIT, "evidence as Trustee, attestation-rs or azure-cvm-tooling write it"),
    }
)
HARDWARE = without_steps(snp.PROCEDURE, "snp.challenge")


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[HclReport]:
    """Verify the evidence of an Azure SEV-SNP machine; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    opened = containers.expand(pieces, keep=frozenset(ROLES))
    piece.check(opened, ROLES, NAME)

    def hardware(hcl: HclReport) -> Verified[Any]:
        own = {role: contents for role, contents in opened.items() if role in ("vcek", "chain", "crl")}
        alone = replace(context, nonce=None, report_data=None)
        return snp.verify({**own, "report": (hcl.hardware_report,)}, alone, leave_out(HARDWARE, without))

    return azure.verify(NAME, "snp", opened, context, hardware, lambda root: root.evidence.report_data, without=without)
