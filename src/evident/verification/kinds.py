"""Every kind of evidence that Evident verifies, one row each: the roles it takes, and the procedure, imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from evident.errors import Unsupported, UsageError
from evident.evidence import content
from evident.verification.context import Context
from evident.verification.pieces import Pieces, Role
from evident.verification.verified import Verified

CHALLENGE_ROLES: Mapping[str, str] = MappingProxyType({"nonce": "nonce", "report-data": "report_data"})
"""Roles that every kind takes and that go into the context: role to `Context` field."""
CHALLENGE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind lives: a module with `ROLES` (role name to `Role`) and `verify(pieces, context) -> Verified`."""

    module: str
    description: str


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "snp": Kind("evident.verification.snp", "AMD SEV-SNP attestation report, signed by a VCEK or VLEK"),
        "snp-tpm": Kind("evident.verification.snp_tpm", "SEV-SNP report, and quotes by a TPM that nothing in it vouches for"),
        "tdx": Kind("evident.verification.tdx", "Intel TDX quote, with TCB info and QE identity"),
        "tcg-log": Kind("evident.verification.tcg_log", "firmware event log or CCEL alone: replayed and told, signed by nobody"),
        "ima": Kind("evident.verification.ima_list", "IMA measurement list alone: replayed and compared, signed by nobody"),
        "tpm": Kind("evident.verification.tpm", "TPM 2.0 quotes by one attestation key, with their PCR values"),
        "azure-snp": Kind("evident.verification.azure_snp", "Azure SEV-SNP machine: HCL report, and quotes by the paravisor's vTPM"),
        "azure-tdx": Kind("evident.verification.azure_tdx", "Azure TDX machine: HCL report, TD quote, and quotes by the paravisor's vTPM"),
        "gcp-snp": Kind("evident.verification.gcp", "Google SEV-SNP machine: report bound to the vTPM's AK, quotes, launch endorsement"),
        "gcp-tdx": Kind("evident.verification.gcp_tdx", "Google TDX machine: TD quote, event log of its registers, launch endorsement"),
        "aws-snp": Kind("evident.verification.aws", "EC2 SEV-SNP machine: report that names a NitroTPM document"),
        "svsm": Kind("evident.verification.svsm", "SEV-SNP report of an SVSM, and quotes by the vTPM inside it"),
        "nitrotpm": Kind("evident.verification.nitrotpm", "NitroTPM attestation document, signed by the Nitro hypervisor"),
        "nitro-enclave": Kind("evident.verification.nitro_enclave", "Nitro Enclave attestation document; no confidential VM"),
    }
)


def kind_named(name: str) -> Kind:
    """The row of a kind; `Unsupported` for another name."""
    if name not in KINDS:
        raise Unsupported.of(
            "kind.unknown",
            expected="a kind among " + ", ".join(sorted(KINDS)),
            found=repr(name),
            remedy="SEV and SEV-ES have no remote attestation that Evident could verify; for anything else choose one of these kinds.",
        )
    return KINDS[name]


def roles(name: str) -> Mapping[str, Role]:
    """The roles that a kind takes, those of the challenge included."""
    own: Mapping[str, Role] = importlib.import_module(kind_named(name).module).ROLES
    challenge = {role: Role("optional", CHALLENGE_LIMIT, "the verifier's challenge: raw or hex") for role in CHALLENGE_ROLES}
    return {**challenge, **own}


def verify(name: str, pieces: Pieces, context: Context) -> Verified[Any]:
    """Verify `pieces` as evidence of this kind; a challenge among them is put into the context.

    Raises the errors of the kind's procedure, `Unsupported` for a kind that is none, `UsageError` for a challenge given twice.
    """
    module = importlib.import_module(kind_named(name).module)
    own = dict(pieces)
    for role, field in CHALLENGE_ROLES.items():
        given = () if role in module.ROLES else own.pop(role, ())
        if not given:
            continue
        if len(given) > 1 or getattr(context, field) is not None:
            raise UsageError.of(
                "pieces.challenge", expected=f"one {role}", found="two", remedy=f"Give {role} once, as a piece or as a value."
            )
        challenge: dict[str, Any] = {field: content.unhex(given[0])}
        context = replace(context, **challenge)
    verified: Verified[Any] = module.verify(own, context)
    return verified
