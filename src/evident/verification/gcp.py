"""Google Compute Engine with SEV-SNP: a hardware report that names the vTPM's attestation key, and quotes by that key.

The procedure ``gcp-snp``, in order:

(1) snp.*             the report is authentic (all steps of kind ``snp`` but its challenge)
(2) tpm.*             the quotes are authentic, over the challenge, by the AK of the instance's certificate; the log replays
(3) gcp.binding       REPORT_DATA = SHA-512(TPMT_PUBLIC of the AK ‖ nonce)
(4) gcp.endorsement   where given: Google's pinned root signed the launch endorsement

Evidence of the first public Evident binds more, and comes with its instance's key (role ``instance-key``): (2) extraData = SHA-256(nonce ‖
key), and (3) REPORT_DATA = SHA-512(nonce ‖ key ‖ certificate or SPKI of the AK). Its nonces have 64 bytes, so that none runs into a key.

The vTPM runs in Google's hypervisor. The guest's software puts the AK into the report, after the firmware that the report measures has
booted it: that quote and report are of one machine holds as far as that firmware and Google are honest (AT-23), and no further.

Source: google/go-tpm-tools ``proto/attest.proto`` (67670e5c); the binding as reclaimprotocol/attestor-core (51afb434) makes it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evident.endorsements import google, x509
from evident.endorsements.google import VerifiedEndorsement
from evident.errors import Indeterminate, NotAuthentic, UsageError
from evident.evidence import binding, cert_table, content, gce_endorsement
from evident.evidence.importers import containers
from evident.evidence.snp_report import SnpReport
from evident.verification import challenge, snp, tpm, tpm_facts
from evident.verification import pieces as piece
from evident.verification.composite import Parts, join, leave_out, trail_of, without_steps
from evident.verification.context import Context
from evident.verification.facts import Facts, Freshness
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.tpm_case import Case as TpmCase
from evident.verification.tpm_case import Quote, open_case
from evident.verification.verified import Verified

NAME = "gcp-snp"
OPERATOR = "Google"
CAVEAT_SOFTWARE_BINDING = "vtpm.bound-by-software"
CAVEAT_NOT_ENDORSED = "endorsement.other-measurement"
ENDORSEMENT_GUID = UUID("9f4116cd-c503-4f5a-8f6f-fb68882f4ce2")
FIRMWARE_LIMIT = 16 * 1024 * 1024
INSTANCE_KEY = "instance-key"
INSTANCE_NONCE_BYTES = 64
_SNP_ROLES = ("auxblob", "vcek", "crl", "launch")

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "report": replace(snp.ROLES["report"], count="optional"),
        **{role: snp.ROLES[role] for role in _SNP_ROLES},
        "tpm-quote": Role("any", tpm.PIECE_LIMIT, "TPMS_ATTEST; one for each bank"),
        **tpm.TPM_ROLES,
        "endorsement": Role("optional", gce_endorsement.MAX_BYTES, "Google's launch endorsement (binary protobuf)"),
        INSTANCE_KEY: Role("optional", 4096, "the instance's public key (DER) in evidence of the first public Evident"),
        "firmware": Role("optional", FIRMWARE_LIMIT, "the endorsed firmware binary, to recompute the measurement"),
        "evidence": Role("optional", containers.LIMIT, "an attestation as go-tpm-tools writes it"),
    }
)
HARDWARE = without_steps(snp.PROCEDURE, "snp.challenge")


@dataclass(frozen=True, slots=True)
class GcpEvidence:
    """The authentic pieces."""

    report: SnpReport
    quotes: tuple[Quote, ...]
    endorsement: VerifiedEndorsement | None
    firmware: bytes | None
    """As given: what it is worth, `reference_values` finds out."""


@dataclass(slots=True)
class Case:
    report: SnpReport
    tpm: TpmCase
    pieces: Pieces
    context: Context
    endorsement: VerifiedEndorsement | None = None


def _binding(case: Case) -> None:
    """(3) AT-22, AT-23."""
    public, context = case.tpm.ak.public, case.context
    challenge.compare_exact(context, case.report.report_data, "gcp")
    instance = piece.optional(case.pieces, INSTANCE_KEY)
    if instance is not None and context.nonce is not None:
        _instance_binding(case, context.nonce, instance)
        return
    if context.nonce is None or public is None:
        raise Indeterminate.of(
            "gcp.binding.missing",
            expected="the AK's public area and the challenge, which REPORT_DATA binds",
            found="no challenge" if context.nonce is None else "the AK as a bare key",
            remedy="Pass nonce=PATH and ak=PATH (TPM2B_PUBLIC); without them nothing ties the report to the vTPM.",
            layer="vtpm",
        )
    expected = binding.beside(public.raw, context.nonce)
    if not hmac.compare_digest(expected, case.report.report_data):
        raise NotAuthentic.of(
            "gcp.binding",
            expected=f"REPORT_DATA {expected.hex()}, which names the AK and the challenge",
            found=case.report.report_data.hex(),
            remedy="Report and quote are of different machines or challenges: have one guest make both.",
            layer="vtpm",
        )


def _instance_binding(case: Case, nonce: bytes, instance: bytes) -> None:
    """(3) As the first public Evident binds it (EI-05)."""
    certificate = case.tpm.ak.certificate
    key = case.tpm.ak.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    expected = [binding.first_evident(nonce, instance, named) for named in ((certificate.der, key) if certificate else (key,))]
    if not any(hmac.compare_digest(each, case.report.report_data) for each in expected):
        raise NotAuthentic.of(
            "gcp.binding.instance",
            expected=f"REPORT_DATA {expected[0].hex()}, which names the challenge, the instance's key and the AK",
            found=case.report.report_data.hex(),
            remedy="Report, quote or key are of different machines or challenges: have one instance make them all.",
            layer="vtpm",
        )


def _quoted(opened: Pieces, context: Context) -> Context:
    """What the quote has to answer: the challenge, and behind it the instance's key where there is one (EI-06)."""
    instance = piece.optional(opened, INSTANCE_KEY)
    if instance is None or context.nonce is None:
        return context
    if len(context.nonce) != INSTANCE_NONCE_BYTES:
        raise UsageError.of(
            "gcp.instance-key.nonce",
            expected=f"a nonce of {INSTANCE_NONCE_BYTES} bytes before an instance's key",
            found=f"{len(context.nonce)}",
            remedy="Pass the nonce as it was sent; the first Evident's have 64 bytes.",
        )
    return replace(context, nonce=context.nonce + instance)


def check_endorsement(pieces: Pieces, context: Context) -> VerifiedEndorsement | Open:
    """The authentic endorsement among `pieces`; open without Google's root. Raises `NotAuthentic`, `Malformed`."""
    parsed = gce_endorsement.parse(piece.one(pieces, "endorsement"))
    given = [found for data in piece.several(pieces, "chain") for found in x509.load_all(content.unhex(data))]
    try:
        verified = google.verify(parsed, given, context.anchors, context.at)
    except Indeterminate as missing:
        try:  # the fingerprint is pinned, so it does not matter who sends the bytes
            fetched = x509.load(context.fetcher.fetch(google.ROOT_URL, limit=google.OBJECT_LIMIT).body)
            verified = google.verify(parsed, [fetched], context.anchors, context.at)
        except Indeterminate:
            return Open(missing.findings[0], waived_by="")
    if verified.simulated and "simulated-root" not in context.unsafe:
        raise NotAuthentic.of(
            "endorsement.root.simulated",
            expected="a root of Google",
            found=f"the TEST root {verified.root.name}",
            remedy="A simulator made this endorsement: never trust it.",
            layer="firmware",
        )
    return verified


def _endorsement(case: Case) -> Open | None:
    """(4) Whether the endorsement is of this measurement is not a question of authenticity: `reference_values` compares."""
    found = check_endorsement(case.pieces, case.context)
    if isinstance(found, Open):
        return found
    case.endorsement = found
    return None


def _table_endorsement(pieces: dict[str, tuple[bytes, ...]]) -> dict[str, tuple[bytes, ...]]:
    """`pieces` with the endorsement that Google's hosts put into the certificate table, where none was given."""
    if "endorsement" not in pieces:
        for blob in pieces.get("auxblob", ()):
            for entry in cert_table.parse(blob).entries:
                if entry.guid == ENDORSEMENT_GUID:
                    return {**pieces, "endorsement": (entry.content,)}
    return pieces


BINDING_STEP: Step[Case] = Step("gcp.binding", "The report names the vTPM's attestation key and the challenge.", _binding)
ENDORSEMENT_STEP: Step[Case] = Step("gcp.endorsement", "Google signed the launch endorsement.", _endorsement)


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[GcpEvidence]:
    """Verify the evidence of a Google SEV-SNP machine; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    opened = _table_endorsement(containers.expand(pieces, keep=frozenset(ROLES)))
    if "report" not in opened:
        raise UsageError.of(
            "pieces.count", expected="a 'report'", found="none", remedy="Pass report=PATH, or evidence=PATH with one in it."
        )
    own = {role: contents for role, contents in opened.items() if role in ("report", "chain", *_SNP_ROLES)}
    alone = replace(context, nonce=None, report_data=None)
    answered = _quoted(opened, context)
    quoted = open_case(opened, answered, quote_role="tpm-quote")
    parts = Parts()
    root = parts.run(lambda: snp.verify(own, alone, leave_out(HARDWARE, without)))
    tpm_procedure = leave_out(tpm.procedure(NAME, quoted, *tpm.QUOTE_STEPS, *tpm.AK_STEPS), without)
    tpm_trail = parts.run(lambda: run(tpm_procedure, quoted, answered))
    link, case = None, None
    if root is not None:
        case = Case(root.evidence, quoted, opened, context)
        bound = case
        steps = (BINDING_STEP, *((ENDORSEMENT_STEP,) if "endorsement" in opened else ()))
        link = parts.run(lambda: run(leave_out(Procedure.of(NAME, *steps), without), bound, context))
    parts.settle()
    if root is None or tpm_trail is None or link is None or case is None:
        raise AssertionError("a part failed without saying so")
    return issue(
        join(NAME, (trail_of(root), tpm_trail, link)),
        evidence=GcpEvidence(root.evidence, quoted.quotes, case.endorsement, piece.optional(opened, "firmware")),
        facts=_facts(root, case),
        context=context,
        revocation=root.revocation,
        simulated=root.simulated or quoted.simulated or bool(case.endorsement and case.endorsement.simulated),
        endorsers=(*root.endorsers, OPERATOR),
    )


def _facts(root: Verified[Any], case: Case) -> Facts:
    claims: dict[str, Any] = {"snp": root.facts.claims, "tpm": tpm_facts.claims(case.tpm)}
    instance = piece.optional(case.pieces, INSTANCE_KEY)
    if case.tpm.log_claims:
        claims["log"] = dict(case.tpm.log_claims)
    caveats = [*root.facts.caveats, *case.tpm.caveats, CAVEAT_SOFTWARE_BINDING]
    if case.endorsement is not None:
        claims["endorsement"] = endorsement_claims(case.endorsement, case.report.measurement)
        if not case.endorsement.vcpus_of(case.report.measurement):
            caveats.append(CAVEAT_NOT_ENDORSED)
    return replace(
        root.facts,
        kind=NAME,
        freshness=Freshness("challenge", "REPORT_DATA names the verifier's nonce and the vTPM's attestation key"),
        vtpm=tpm_facts.vtpm(case.tpm, "hypervisor", "tee", OPERATOR),
        boot=case.tpm.boot,
        runtime=case.tpm.ran.runtime if case.tpm.ran else None,
        bound_key=binding.key_digest(instance) if instance is not None and case.context.nonce is not None else root.facts.bound_key,
        caveats=tuple(dict.fromkeys(caveats)),
        claims=claims,
    )


def endorsement_claims(verified: VerifiedEndorsement, measurement: bytes) -> dict[str, Any]:
    """The endorsement, JSON-ready, and at which vCPU counts it names `measurement`."""
    endorsement = verified.endorsement
    return {
        "firmware_sha384": endorsement.firmware_digest.hex(),
        "svn": endorsement.snp.svn if endorsement.snp else endorsement.tdx_svn,
        "changelist": endorsement.changelist,
        "commit": endorsement.commit.hex(),
        "timestamp": endorsement.timestamp.isoformat().replace("+00:00", "Z") if endorsement.timestamp else None,
        "vcpus": list(verified.vcpus_of(measurement)),
        "signer_sha256": verified.signer.fingerprint,
    }
