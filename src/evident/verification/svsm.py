"""A vTPM inside the confidential VM: its endorsement key is named by a hardware report that only the SVSM can ask for.

The procedure ``svsm``, in order:

(1) snp.*            the report is authentic (all steps of kind ``snp`` but its challenge)
(2) svsm.privilege   it was asked for at VMPL 0: the guest's own kernel runs above that, and could not have asked (AT-20)
(3) svsm.binding     REPORT_DATA is the SHA-512 of the challenge and the services manifest, or of the EK alone (made at boot)
(4) tpm.*            the quotes are authentic and over the challenge; the AK's attributes and name hold; the log replays
(5) svsm.activation  the TPM of that EK activated a credential for the AK (AT-22; judged by the last steps of (4))

Whether the launch digest is that of an SVSM, and of which, is for reference values (AT-21): at VMPL 0 of a guest without SVSM its
kernel asks for whatever it likes. Appraisal therefore accepts only reference values that say they are of an SVSM.

Source: Narayanan et al., "Remote attestation of confidential VMs using ephemeral vTPMs", section 4 (EK in REPORT_DATA, report in NV
0x01C00002); AMD publication 58019, chapter 7, and COCONUT-SVSM ``kernel/src/protocols/attest.rs`` (nonce and manifest).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from evident.errors import Finding, NotAuthentic, UsageError
from evident.evidence import content, svsm_manifest, tpm_public
from evident.evidence.snp_report import SnpReport
from evident.evidence.tpm_public import Public
from evident.verification import challenge, snp, tpm, tpm_activation, tpm_facts
from evident.verification import pieces as piece
from evident.verification.composite import Parts, join, leave_out, trail_of, without_steps
from evident.verification.context import Context
from evident.verification.facts import Facts, Freshness
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.tpm_case import Case as TpmCase
from evident.verification.tpm_case import Quote, open_case
from evident.verification.verified import Verified

NAME = "svsm"
OPERATOR = "SVSM"
LAYER = "vtpm"
NONCE_BYTES = 64
_SNP_ROLES = ("report", "auxblob", "vcek", "vlek", "chain", "crl", "launch")

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        **{role: snp.ROLES[role] for role in _SNP_ROLES},
        "manifest": Role("optional", svsm_manifest.MAX_BYTES, "services manifest: of all services, or of the vTPM alone"),
        "tpm-quote": Role("any", tpm.PIECE_LIMIT, "TPMS_ATTEST; one for each bank"),
        **tpm.TPM_ROLES,
    }
)
HARDWARE = without_steps(snp.PROCEDURE, "snp.challenge")


@dataclass(frozen=True, slots=True)
class SvsmEvidence:
    """The authentic pieces."""

    report: SnpReport
    ek: Public
    quotes: tuple[Quote, ...]


@dataclass(slots=True)
class Case:
    report: SnpReport
    manifest: bytes | None
    ek: Public
    tpm: TpmCase
    context: Context
    freshness: Freshness = field(default_factory=lambda: Freshness("unknown", "nothing was compared", carried_by="none"))

    @property
    def activated(self) -> bool:
        return tpm_activation.activated(self.tpm)


def challenge_bytes(nonce: bytes) -> bytes:
    """The nonce as the SVSM gets it: 64 bytes, shorter ones padded with zeros, longer ones as their SHA-512."""
    return nonce.ljust(NONCE_BYTES, b"\0") if len(nonce) <= NONCE_BYTES else hashlib.sha512(nonce).digest()


def report_data(nonce: bytes, manifest: bytes) -> bytes:
    """What the SVSM puts into its report."""
    return hashlib.sha512(challenge_bytes(nonce) + manifest).digest()


def _refuse(code: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


def _privilege(case: Case) -> None:
    """(2) AT-20."""
    if case.report.vmpl != 0:
        raise _refuse(
            "svsm.privilege",
            "a report asked for at VMPL 0, where the SVSM runs",
            f"VMPL {case.report.vmpl}: the guest's own kernel could have asked for it",
            "Do not believe this vTPM; launch with an SVSM, and ask it (service_provider svsm) for the report.",
        )


def _binding(case: Case) -> None:
    """(3) AT-23, ET-02, ET-04. With a manifest the report is fresh; with the EK alone it is as old as the boot."""
    found, nonce = case.report.report_data, case.context.nonce
    challenge.compare_exact(case.context, found, "svsm")
    if case.manifest is not None and nonce is not None:
        if hmac.compare_digest(report_data(nonce, case.manifest), found):
            case.freshness = Freshness("challenge", "REPORT_DATA names the verifier's nonce and the SVSM's services manifest")
            return
        expected = f"REPORT_DATA {report_data(nonce, case.manifest).hex()}, of this challenge and this manifest"
    else:
        digest = hashlib.sha512(case.ek.tpm2b).digest()
        if hmac.compare_digest(digest, found):
            fresh = case.tpm.freshness
            case.freshness = fresh if fresh.scope == "challenge" else Freshness("boot", "REPORT_DATA names the vTPM's EK", made_at=None)
            return
        expected = f"REPORT_DATA {digest.hex()}, of this endorsement key"
    raise _refuse(
        "svsm.binding", expected, found.hex(), "EK and report are of different machines, or of another challenge: collect both from one."
    )


def _activation(case: Case) -> Open | None:
    """(5) Nothing in the report speaks of the AK: only the EK's TPM can show that it has it."""
    if case.activated:
        return None
    finding = Finding(
        "svsm.activation.missing",
        LAYER,
        "a credential activated by the TPM that has EK and AK",
        "none",
        "Run credential activation with the guest: `evident attest` does, and its audit bundle carries it.",
    )
    return Open(finding, waived_by="")


STEPS: tuple[Step[Case], ...] = (
    Step("svsm.privilege", "Only code at VMPL 0 can have asked for the report.", _privilege),
    Step("svsm.binding", "The report names the vTPM's endorsement key.", _binding),
    Step("svsm.activation", "The attestation key lives in the TPM of that endorsement key.", _activation),
)


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[SvsmEvidence]:
    """Verify a report and quotes of a vTPM in an SVSM; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    own = {role: contents for role, contents in pieces.items() if role in _SNP_ROLES}
    alone = replace(context, nonce=None, report_data=None)
    quoted = open_case(pieces, context, quote_role="tpm-quote")
    manifest = piece.optional(pieces, "manifest")
    ek = _endorsement_key(manifest, quoted)
    parts = Parts()
    root = parts.run(lambda: snp.verify(own, alone, leave_out(HARDWARE, without)))
    attributes = tuple(step for step in tpm.AK_STEPS if step.id == "tpm.ak-attributes")
    tpm_trail = parts.run(lambda: run(leave_out(tpm.procedure(NAME, quoted, *tpm.QUOTE_STEPS, *attributes), without), quoted, context))
    link, case = None, None
    if root is not None:
        case = Case(root.evidence, manifest, ek, quoted, context)
        bound = case
        link = parts.run(lambda: run(leave_out(Procedure.of(NAME, *STEPS), without), bound, context))
    parts.settle()
    if root is None or tpm_trail is None or link is None or case is None:
        raise AssertionError("a part failed without saying so")
    return issue(
        join(NAME, (trail_of(root), tpm_trail, link)),
        evidence=SvsmEvidence(root.evidence, ek, quoted.quotes),
        facts=_facts(root, case),
        context=context,
        revocation=root.revocation,
        simulated=root.simulated or quoted.simulated,
        endorsers=(*root.endorsers, OPERATOR),
    )


def endorsement_key(manifest: bytes) -> Public:
    """The EK of the vTPM that a services manifest names; the vTPM's own manifest is nothing but its EK."""
    raw = svsm_manifest.parse(manifest).get(svsm_manifest.VTPM_GUID) if svsm_manifest.looks_like(manifest) else content.unhex(manifest)
    if raw is None:
        raise _refuse("svsm.manifest.vtpm", "a vTPM among the services", "none", "Launch an SVSM that runs a vTPM.")
    return tpm_public.parse(raw)


def _endorsement_key(manifest: bytes | None, quoted: TpmCase) -> Public:
    """The EK out of the manifest, or as given; where both are, they must be the same."""
    named = None if manifest is None else endorsement_key(manifest)
    if named is not None and quoted.ek is not None and named.raw != quoted.ek.raw:
        raise _refuse(
            "svsm.ek", "the endorsement key in the manifest", "another one given", "Pass the EK of this machine, or the manifest alone."
        )
    found = named or quoted.ek
    if found is None:
        raise UsageError.of(
            "svsm.pieces", expected="the vTPM's endorsement key", found="none", remedy="Pass manifest=PATH (manifestblob) or ek=PATH."
        )
    quoted.ek = found
    return found


def _facts(root: Verified[Any], case: Case) -> Facts:
    claims: dict[str, Any] = {"snp": root.facts.claims, "tpm": tpm_facts.claims(case.tpm) | {"ek_name": case.ek.name.hex()}}
    if case.tpm.log_claims:
        claims["log"] = dict(case.tpm.log_claims)
    return replace(
        root.facts,
        kind=NAME,
        freshness=case.freshness,
        vtpm=tpm_facts.vtpm(case.tpm, "svsm", "tee" if case.activated else "none", OPERATOR),
        boot=case.tpm.boot,
        runtime=case.tpm.ran.runtime if case.tpm.ran else None,
        caveats=tuple(dict.fromkeys((*root.facts.caveats, *tpm_facts.caveats(case.tpm)))),
        claims=claims,
    )
