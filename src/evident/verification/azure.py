"""Azure confidential VMs: a static hardware report, the paravisor's claims that it binds, and quotes by the paravisor's vTPM.

The procedures ``azure-snp`` and ``azure-tdx``, in order:

 (1) azure.technology     the HCL report holds a report of the technology that is asked for
 (2) snp.* or tdx.*       the hardware report or quote is authentic (all steps of that kind but its challenge)
 (3) azure.claims         REPORT_DATA is the hash of the claims' raw bytes, and zeros: the hardware vouches for the claims
 (4) azure.key            the claims name the vTPM's attestation key, HCLAkPub
 (5) tpm.*                the quote is by that key, of the PCR values given, and over the verifier's challenge; the log replays
 (6) azure.challenge      the challenge is answered: by the quote, or by the claim user-data of a report made for it
 (7) azure.ak-certificate where given: the AK's certificate is valid (tpm.ak-key: and for HCLAkPub)

The paravisor makes its report at boot and keeps it in NV index 0x01400001 (FH-03); a newer one makes it again after 64 bytes were
written to 0x01400002, and says so in user-data. A report that answers no challenge is worth only what the quote is: the root of
what it shows is the paravisor's vTPM (AT-04). A report of other bytes in the index does not bind the quote's key (AT-19).

Source: Microsoft, "Azure confidential VM guest attestation design"; microsoft/openvmm (1488a37b) for the refresh.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from evident.errors import Finding, NotAuthentic, Unsupported, UsageError
from evident.evidence import azure_hcl, content
from evident.evidence.azure_hcl import AK_KEY_ID, HclReport, RsaJwk
from evident.verification import challenge, tpm, tpm_facts
from evident.verification import pieces as piece
from evident.verification.composite import Parts, join, leave_out, trail_of
from evident.verification.context import Context
from evident.verification.facts import Facts, Freshness, Vtpm
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, Trail, issue, run
from evident.verification.tpm_case import Case as TpmCase
from evident.verification.tpm_case import certificate_path, open_case
from evident.verification.verified import Verified

OPERATOR = "Microsoft"
"""Who makes the paravisor: its vTPM's word is Microsoft's code's word."""
LAYER = "vtpm"

CAVEAT_STATIC = "azure.report-static"
CAVEAT_AK_ROOT = "vtpm.ak-certificate-root-unknown"
CAVEAT_AK_ATTRIBUTES = "vtpm.ak-attributes-by-paravisor"

ROLES: Mapping[str, Role] = {
    "hcl": Role("optional", azure_hcl.MAX_BYTES, "contents of NV index 0x01400001"),
    "claims": Role("optional", azure_hcl.MAX_BYTES, "the runtime claims alone (JSON), exactly as they were hashed"),
    "tpm-quote": Role("any", tpm.PIECE_LIMIT, "TPMS_ATTEST by the AK 0x81000003"),
    **tpm.TPM_ROLES,
}


@dataclass(slots=True)
class Case:
    """One verification: the HCL report, the REPORT_DATA that the hardware signed, and the opened quote, if there is one."""

    hcl: HclReport
    technology: str
    report_data: bytes
    context: Context
    tpm: TpmCase | None
    freshness: Freshness


def open_hcl(pieces: Pieces, technology: str) -> HclReport:
    """Step 1, of the whole HCL report or of its parts.

    `Unsupported` (``azure.technology``) for a report of the other technology, `NotAuthentic` (``azure.claims``) for claims that are not
    those of the report, `UsageError` without either.
    """
    whole, claims = piece.optional(pieces, "hcl"), piece.optional(pieces, "claims")
    if whole is None:
        return _of_parts(pieces, technology, claims)
    hcl = azure_hcl.parse(content.unhex(whole))
    if hcl.technology.lower() != technology:
        raise Unsupported.of(
            "azure.technology",
            expected=f"an HCL report of {technology.upper()}",
            found=hcl.technology,
            remedy=f"Verify it with --kind azure-{hcl.technology.lower()}.",
        )
    if claims is not None and claims.rstrip(b"\0") != hcl.claims_raw:
        raise NotAuthentic.of(
            "azure.claims",
            expected=f"the claims of the HCL report, SHA-256 {hashlib.sha256(hcl.claims_raw).hexdigest()}",
            found=f"others, SHA-256 {hashlib.sha256(claims.rstrip(bytes(1))).hexdigest()}",
            remedy="Leave claims=PATH out: the HCL report brings its own.",
            layer=LAYER,
        )
    return hcl


def _of_parts(pieces: Pieces, technology: str, claims: bytes | None) -> HclReport:
    """Claims that came without their HCL report, beside the hardware's report or quote."""
    role = {"snp": "report", "tdx": "quote"}[technology]
    if claims is None or role not in pieces:
        raise UsageError.of(
            "pieces.count",
            expected=f"an 'hcl', or 'claims' and '{role}'",
            found=", ".join(sorted(pieces)) or "nothing",
            remedy="Pass hcl=PATH (NV index 0x01400001), or evidence=PATH with one in it.",
        )
    if technology == "tdx":
        return azure_hcl.of_parts(azure_hcl.TYPE_TDX, b"", claims)
    return azure_hcl.of_parts(azure_hcl.TYPE_SNP, content.unhex(piece.one(pieces, role)), claims)


def ak_of(hcl: HclReport) -> rsa.RSAPublicKey:
    """Step 4: the vTPM's key as the claims have it."""
    key: RsaJwk | None = hcl.claims.keys.get(AK_KEY_ID)
    numbers = (int.from_bytes(key.e, "big"), int.from_bytes(key.n, "big")) if key else (0, 0)
    try:
        return rsa.RSAPublicNumbers(*numbers).public_key()
    except ValueError:
        raise NotAuthentic.of(
            "azure.key",
            expected=f"the RSA key {AK_KEY_ID} in the claims",
            found="no key" if key is None else "numbers that are no key",
            remedy="The claims name no attestation key: read the HCL report of this machine again.",
            layer=LAYER,
        ) from None


def _claims(case: Case) -> None:
    """(3) The raw bytes are hashed; JSON written again would be other bytes."""
    expected = case.hcl.expected_report_data
    if not hmac.compare_digest(expected, case.report_data):
        raise NotAuthentic.of(
            "azure.claims",
            expected=f"REPORT_DATA {expected.hex()}, the hash of the claims",
            found=case.report_data.hex(),
            remedy="The claims were altered, or the report is another machine's: read NV index 0x01400001 again.",
            layer=LAYER,
        )


def _challenge(case: Case) -> Open | None:
    """(6) The report itself is fresh only when user-data holds the challenge; else the vTPM alone answers it."""
    challenge.compare_exact(case.context, case.report_data, "azure")
    nonce, user_data = case.context.nonce, case.hcl.claims.user_data
    if nonce is None:
        case.freshness = Freshness("unknown", "no challenge was compared", carried_by="none")
        if case.tpm is not None:
            return None  # step tpm.challenge leaves it open
        finding = Finding(
            "azure.challenge.missing",
            "root_of_trust",
            "a challenge of the verifier's own to compare user-data with",
            "none given",
            "Pass nonce=PATH; without it an old report cannot be told from a new one.",
        )
        return Open(finding, waived_by="no-challenge")
    forms = (nonce.ljust(64, b"\0"), hashlib.sha512(nonce).digest(), hashlib.sha256(nonce).digest().ljust(64, b"\0"))
    if user_data is not None and any(hmac.compare_digest(user_data, form) for form in forms):
        case.freshness = Freshness("challenge", "the claim user-data, which the report binds, is the verifier's nonce")
        return None
    if case.tpm is not None:
        case.freshness = case.tpm.freshness
        return None
    raise NotAuthentic.of(
        "azure.challenge",
        expected=f"the challenge {nonce.hex()} in user-data, or a vTPM quote over it",
        found="a report made at boot, without quote" if not (user_data or b"").strip(b"\0") else f"user-data {(user_data or b'').hex()}",
        remedy="Quote with the verifier's nonce, or write it to NV index 0x01400002, wait 3 seconds and read 0x01400001 again.",
        layer="root_of_trust",
    )


STEPS: tuple[Step[Case], ...] = (
    Step("azure.claims", "The hardware's signed report vouches for the paravisor's claims.", _claims),
    Step("azure.challenge", "The report or the vTPM's quote answers the verifier's challenge.", _challenge),
)


def _ak_certificate(case: TpmCase) -> None:
    """(7) The hardware vouches for the key already; a certificate may add who issued it, and must not be wrong."""
    certificate = case.ak.certificate
    if certificate is None:
        raise AssertionError("a step ran without the piece that it is about")
    case.ak_path = certificate_path(case, certificate, "azure.ak-certificate")
    if case.ak_path.anchor is None:
        case.caveats.append(CAVEAT_AK_ROOT)


AK_CERTIFICATE_STEP: Step[TpmCase] = Step("azure.ak-certificate", "The AK's certificate is valid.", _ak_certificate)


def verify(
    name: str,
    technology: str,
    pieces: Pieces,
    context: Context,
    hardware: Callable[[HclReport], Verified[Any]],
    report_data: Callable[[Verified[Any]], bytes],
    *,
    without: frozenset[str],
) -> Verified[HclReport]:
    """Steps 1 to 7. `hardware` verifies the report or quote of this technology without a challenge of its own."""
    hcl = open_hcl(pieces, technology)
    parts = Parts()
    root = parts.run(lambda: hardware(hcl))
    key = parts.run(lambda: ak_of(hcl))
    quoted = None
    tpm_trail: Trail | None = None
    if key is not None and ("tpm-quote" in pieces or "signature" in pieces):
        opened = open_case(pieces, context, quote_role="tpm-quote", vouched={AK_KEY_ID: key})
        quoted = opened
        tpm_trail = parts.run(lambda: run(leave_out(_tpm_procedure(name, opened), without), opened, context))
    signed = report_data(root) if root is not None else _unverified_report_data(hcl)
    case = Case(hcl, technology, signed, context, quoted, Freshness("unknown", "nothing was compared", carried_by="none"))
    link = parts.run(lambda: run(leave_out(Procedure.of(name, *STEPS), without), case, context))
    parts.settle()
    if root is None or link is None:
        raise AssertionError("a part failed without saying so")
    trail = join(name, (trail_of(root), *((tpm_trail,) if tpm_trail else ()), link))
    return issue(
        trail,
        evidence=hcl,
        facts=_facts(name, root, case),
        context=context,
        revocation=root.revocation,
        simulated=root.simulated or (case.tpm is not None and case.tpm.simulated),
        endorsers=(*root.endorsers, OPERATOR),
    )


def _tpm_procedure(name: str, case: TpmCase) -> Procedure[TpmCase]:
    certificate = (AK_CERTIFICATE_STEP,) if case.ak.certificate is not None else ()
    attributes = tuple(step for step in tpm.AK_STEPS if step.id == "tpm.ak-attributes" and case.ak.public is not None)
    return tpm.procedure(name, case, *tpm.QUOTE_STEPS, *attributes, *certificate)


def _unverified_report_data(hcl: HclReport) -> bytes:
    """REPORT_DATA as the enclosed report has it: enough to say, beside the hardware's failure, whether the claims belong to it."""
    offset = 0x50 if hcl.report_type == azure_hcl.TYPE_SNP else 128
    return hcl.hardware_report[offset : offset + 64]


def _facts(name: str, root: Verified[Any], case: Case) -> Facts:
    caveats = list(root.facts.caveats)
    if case.freshness.carried_by != "tee":
        caveats.append(CAVEAT_STATIC)
    vtpm: Vtpm | None = None
    claims: dict[str, Any] = {"hcl": hcl_claims(case.hcl), case.technology: root.facts.claims}
    if case.tpm is not None:
        caveats += case.tpm.caveats
        if case.tpm.ak.public is None:
            caveats.append(CAVEAT_AK_ATTRIBUTES)
        vtpm = tpm_facts.vtpm(case.tpm, "paravisor", "tee", OPERATOR)
        claims["tpm"] = tpm_facts.claims(case.tpm)
        if case.tpm.log_claims:
            claims["log"] = dict(case.tpm.log_claims)
    return replace(
        root.facts,
        kind=name,
        freshness=case.freshness,
        vtpm=vtpm,
        boot=case.tpm.boot if case.tpm else None,
        runtime=case.tpm.ran.runtime if case.tpm and case.tpm.ran else None,
        caveats=tuple(dict.fromkeys(caveats)),
        claims=claims,
    )


def hcl_claims(hcl: HclReport) -> dict[str, Any]:
    """The HCL report, JSON-ready."""
    claims = hcl.claims
    other: dict[str, Any] = {"vm-configuration": dict(claims.vm_configuration), **claims.other}
    if claims.user_data is not None:
        other["user-data"] = claims.user_data.hex()
    header = {"hcl_version": hcl.version, "hcl_report_size": hcl.report_size} if hcl.raw else {}
    return {
        **header,
        "report_type": hcl.technology,
        "hash_type": hcl.hash_type,
        "claims_len": len(hcl.claims_raw),
        f"claims_{azure_hcl.HASH_TYPES[hcl.hash_type]}": hcl.claims_digest.hex(),
        "key_ids": list(claims.keys),
        "claims_other": other,
        "report_data_binds_claims": True,
    }
