"""Kind ``azure-tdx``: see `evident.verification.azure` for the procedure. The TD quote is made from the HCL report's TDREPORT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from evident.errors import Indeterminate
from evident.evidence.azure_hcl import HclReport
from evident.evidence.importers import containers
from evident.verification import azure, tdx
from evident.verification import pieces as piece
from evident.verification.composite import leave_out, without_steps
from evident.verification.context import Context
from evident.verification.pieces import Pieces, Role
from evident.verification.verified import Verified

NAME = "azure-tdx"
_TDX_ROLES = frozenset(tdx.ROLES) - {"quote", "evidence", "key", "log"}
ROLES: Mapping[str, Role] = MappingProxyType(
    {
        **azure.ROLES,
        "quote": Role("optional", tdx.ROLES["quote"].limit, "TD quote, which Azure's metadata service makes of the TDREPORT"),
        **{role: tdx.ROLES[role] for role in sorted(_TDX_ROLES)},
        "evidence": Role("optional", containers.LIMIT, "evidence as Trustee or attestation-rs write it"),
    }
)
HARDWARE = without_steps(tdx.PROCEDURE, "tdx.challenge")


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[HclReport]:
    """Verify the evidence of an Azure TDX machine; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate` (among others without a TD quote: a TDREPORT is not signed),
    `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    opened = containers.expand(pieces, keep=frozenset(ROLES))
    piece.check(opened, ROLES, NAME)

    def hardware(_: HclReport) -> Verified[Any]:
        if "quote" not in opened:
            raise Indeterminate.of(
                "azure.quote.missing",
                expected="a TD quote of this TDREPORT",
                found="the TDREPORT alone, which only its own processor can check",
                remedy="Have the guest fetch the quote from Azure's metadata service (/acc/tdquote) and pass quote=PATH.",
                layer="root_of_trust",
            )
        own = {role: contents for role, contents in opened.items() if role in _TDX_ROLES or role == "quote"}
        return tdx.verify(own, replace(context, nonce=None, report_data=None), leave_out(HARDWARE, without))

    return azure.verify(NAME, "tdx", opened, context, hardware, lambda root: root.evidence.report.report_data, without=without)
