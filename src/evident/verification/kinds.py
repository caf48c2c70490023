"""Every kind of evidence that Evident verifies, one row each: the roles it takes, and the procedure, imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from evident.errors import Finding, Unsupported, UsageError
from evident.evidence import binding, content
from evident.verification import pieces as piece
from evident.verification.context import Context
from evident.verification.pieces import Pieces, Role
from evident.verification.verified import Verified

CHALLENGE_ROLES: Mapping[str, str] = MappingProxyType({"nonce": "nonce", "report-data": "report_data"})
"""Roles that go into the context: role to `Context` field. Every kind takes a nonce."""
CHALLENGE_LIMIT = 64 * 1024
LEAST_CHALLENGE = 16
"""Bytes of a nonce that nobody guesses; whoever brings a shorter one is told that it says little."""
_KEY = Role("optional", 4096, "the guest's public key (DER), bound by the quote with the challenge")


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a kind lives: a module with `ROLES` (role name to `Role`) and `verify(pieces, context) -> Verified`."""

    module: str
    description: str
    quoted: bool = False
    """Its challenge is answered by a TPM's quote, which has room for one digest: a key of the guest goes in with the challenge."""
    reports: bool = True
    """A report of a TEE is in it, so that there is REPORT_DATA to compare; elsewhere the role ``report-data`` is none."""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "snp": Kind("evident.verification.snp", "AMD SEV-SNP attestation report, signed by a VCEK or VLEK"),
        "snp-tpm": Kind("evident.verification.snp_tpm", "SEV-SNP report, and quotes by a TPM that nothing in it vouches for"),
        "tdx": Kind("evident.verification.tdx", "Intel TDX quote, with TCB info and QE identity"),
        "tcg-log": Kind(
            "evident.verification.tcg_log", "firmware event log or CCEL alone: replayed and told, signed by nobody", reports=False
        ),
        "ima": Kind("evident.verification.ima_list", "IMA measurement list alone: replayed and compared, signed by nobody", reports=False),
        "tpm": Kind("evident.verification.tpm", "TPM 2.0 quotes by one attestation key, with their PCR values", quoted=True, reports=False),
        "azure-snp": Kind(
            "evident.verification.azure_snp", "Azure SEV-SNP machine: HCL report, and quotes by the paravisor's vTPM", quoted=True
        ),
        "azure-tdx": Kind(
            "evident.verification.azure_tdx", "Azure TDX machine: HCL report, TD quote, and quotes by the paravisor's vTPM", quoted=True
        ),
        "gcp-snp": Kind(
            "evident.verification.gcp", "Google SEV-SNP machine: report bound to the vTPM's AK, quotes, launch endorsement", quoted=True
        ),
        "gcp-tdx": Kind("evident.verification.gcp_tdx", "Google TDX machine: TD quote, event log of its registers, launch endorsement"),
        "aws-snp": Kind("evident.verification.aws", "EC2 SEV-SNP machine: report that names a NitroTPM document"),
        "svsm": Kind("evident.verification.svsm", "SEV-SNP report of an SVSM, and quotes by the vTPM inside it", quoted=True),
        "nitrotpm": Kind("evident.verification.nitrotpm", "NitroTPM attestation document, signed by the Nitro hypervisor", reports=False),
        "nitro-enclave": Kind(
            "evident.verification.nitro_enclave", "Nitro Enclave attestation document; no confidential VM", reports=False
        ),
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


def _challenge_roles(kind: Kind) -> tuple[str, ...]:
    return tuple(role for role in CHALLENGE_ROLES if kind.reports or role != "report-data")


def roles(name: str) -> Mapping[str, Role]:
    """The roles that a kind takes, those of the challenge included."""
    kind = kind_named(name)
    own: Mapping[str, Role] = importlib.import_module(kind.module).ROLES
    challenge = {role: Role("optional", CHALLENGE_LIMIT, "the verifier's challenge: raw or hex") for role in _challenge_roles(kind)}
    return {**challenge, **({"key": _KEY} if kind.quoted else {}), **own}


def verify(name: str, pieces: Pieces, context: Context) -> Verified[Any]:
    """Verify `pieces` as evidence of this kind; a challenge among them is put into the context.

    Raises the errors of the kind's procedure, `Unsupported` for a kind that is none, `UsageError` for a challenge given twice.
    """
    kind = kind_named(name)
    module = importlib.import_module(kind.module)
    own = dict(pieces)
    for role in _challenge_roles(kind):
        field = CHALLENGE_ROLES[role]
        given = () if role in module.ROLES else own.pop(role, ())
        if not given:
            continue
        if len(given) > 1 or getattr(context, field) is not None:
            raise UsageError.of(
                "pieces.challenge", expected=f"one {role}", found="two", remedy=f"Give {role} once, as a piece or as a value."
            )
        challenge: dict[str, Any] = {field: content.unhex(given[0])}
        context = replace(context, **challenge)
    if context.report_data is not None and not kind.reports:
        raise UsageError.of(
            "pieces.challenge",
            expected=f"a nonce: evidence of kind {name} has no report of a TEE",
            found="report data",
            remedy="Leave report-data out, and give the nonce that was sent.",
        )
    key = own.pop("key", ()) if kind.quoted else ()
    piece.check({"key": key}, {"key": _KEY}, name)
    verified: Verified[Any]
    if not key or context.nonce is None:
        verified = module.verify(own, context)
    else:
        verified = module.verify(own, replace(context, nonce=binding.report_data(context.nonce, key[0])))
        fresh = verified.facts.freshness.scope == "challenge"
        verified = replace(verified, facts=replace(verified.facts, bound_key=binding.key_digest(key[0]) if fresh else None))
    return _left_open(verified, context) if context.nonce is not None and len(context.nonce) < LEAST_CHALLENGE else verified


def _left_open(verified: Verified[Any], context: Context) -> Verified[Any]:
    """The nonce is so short that an answer to it may have been collected beforehand: authentic, and as fresh as without a challenge."""
    if "no-challenge" in context.unsafe:
        return replace(verified, unsafe=tuple(dict.fromkeys((*verified.unsafe, "no-challenge"))))
    short = Finding(
        "challenge.short",
        "root_of_trust",
        f"a nonce of {LEAST_CHALLENGE} random bytes or more (Evident's own have 32)",
        f"{len(context.nonce or b'')} bytes",
        "Have the machine answer a longer one: whoever can guess it has the answer ready, of whatever machine and age.",
    )
    return replace(verified, open_points=(*verified.open_points, short))
