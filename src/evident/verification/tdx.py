"""Is this TDX quote authentic, what is its platform's TCB worth, and is it an answer to my challenge?

The procedure ``tdx``, in order; every step that fails is reported, not only the first. Numbers in brackets are Intel's, of the
appraisal that its quote verification library documents ("Intel SGX and TDX Quote Verification Library", section 4.1.2).

 (1) tdx.pck-chain          the quote carries a PCK certificate with a path towards a root
 (2) tdx.root               the path ends in a root that is pinned by fingerprint: the Intel SGX Root CA
 (3) tdx.chain              the root signed the PCK CA, which signed the PCK certificate
 (4) tdx.chain-profile      by ECDSA on P-256 with SHA-256, under Intel's names, none of them in another's place [4.1.2.4.4]
 (5) tdx.validity           all three certificates are valid at the time of the verification
 (6) tdx.revocation         fresh CRLs of root and PCK CA, not older than ones seen before, list none of them [4.1.2.4.6, .7]
 (7) tdx.qe-report          the PCK signed the report of the quoting enclave [4.1.2.4.12]
 (8) tdx.attestation-key    that report binds the attestation key and the authentication data [4.1.2.4.13]
 (9) tdx.signature          the attestation key signed header and body of the quote [4.1.2.4.16]
(10) tdx.tcb-signer         TCB info and QE identity are at hand, with the certificate of Intel's TCB signing key under the same root
(11) tdx.tcb-info           that key signed the TCB info, which is in force
(12) tdx.tcb-info-subject   and which speaks of this FMSPC and PCEID [4.1.2.4.9, .10]
(13) tdx.qe-identity        that key signed the QE identity, which is in force
(14) tdx.quoting-enclave    the quoting enclave is the one of that identity [4.1.2.4.14, .15; 4.1.2.9]
(15) tdx.module             signer and attributes of the TDX module are those of the TCB info [4.1.2.4.11]
(16) tdx.tcb-level          platform, module and quoting enclave each reach a published level, and none of these is revoked [4.1.2.4.17]
(17) tdx.challenge          REPORTDATA is the verifier's challenge
(18) tdx.log                where a log is given: it replays to the RTMRs of the signed quote, and the boot chain is told from it

Missing or stale collateral leaves (6) or (10)-(16) open: the quote is authentic, and the decision is indeterminate. Forged collateral
refuses. A TCB level below the best is a fact for the policy, with its advisories; a revoked one refuses here, because a key that a
broken platform may have lost proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from evident.endorsements import intel, pem
from evident.endorsements.intel import Collateral
from evident.errors import UsageError
from evident.evidence import content, tcg_log, tdx_quote
from evident.evidence.tdx_quote import TdxQuote
from evident.verification import challenge, tdx_collateral, tdx_log, tdx_signatures
from evident.verification import pieces as piece
from evident.verification.context import Context
from evident.verification.memory import remembered
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.tdx_case import NAME, Case
from evident.verification.tdx_facts import facts
from evident.verification.verified import Verified

QUOTE_LIMIT = 256 * 1024
CERTIFICATE_LIMIT = 256 * 1024

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "quote": Role("optional", QUOTE_LIMIT, "TDX quote: raw, hex, or a configfs-tsm document"),
        "evidence": Role("optional", QUOTE_LIMIT, "the same inside another tool's JSON"),
        "collateral": Role("optional", 4 * intel.DOCUMENT_LIMIT, "all collateral in one JSON object"),
        "tcb-info": Role("optional", intel.DOCUMENT_LIMIT, "TCB info of the FMSPC, as Intel's service sends it"),
        "qe-identity": Role("optional", intel.DOCUMENT_LIMIT, "identity of the TD quoting enclave, as Intel's service sends it"),
        "pck-crl": Role("any", intel.CRL_LIMIT, "revocation list of the PCK CA"),
        "root-crl": Role("any", intel.CRL_LIMIT, "revocation list of the Intel SGX Root CA"),
        "tcb-chain": Role("any", CERTIFICATE_LIMIT, "TCB signing certificate, its root may follow"),
        "log": Role("optional", tcg_log.MAX_LOG_BYTES, "event log of the RTMRs: CCEL, or the JSON array that dstack keeps"),
        "key": Role("optional", 4096, "public key that the guest binds to the challenge, SubjectPublicKeyInfo in DER"),
    }
)


def _challenge(case: Case) -> Open | None:
    """(17) As for every technology that signs 64 bytes of the guest's choice."""
    answer = challenge.compare(case.context, case.quote.report.report_data, case.key, NAME)
    if isinstance(answer, Open):
        return answer
    case.freshness, case.bound_key = answer.freshness, answer.bound_key
    return None


def _log(case: Case) -> None:
    """(18) Only what a signed RTMR confirms is told; see `evident.verification.tdx_log`."""
    if case.log is None:
        raise AssertionError("a step ran without the piece that it is about")
    case.told = tdx_log.tell(case.log, case.quote.report)


PROCEDURE: Procedure[Case] = Procedure.of(
    NAME,
    *tdx_signatures.STEPS,
    *tdx_collateral.STEPS,
    Step("tdx.challenge", "The quote answers the verifier's challenge.", _challenge),
    Step("tdx.log", "The event log replays to the signed run-time registers.", _log, ("tdx.signature",)),
)


def _of_what_is_given(procedure: Procedure[Case], case: Case) -> Procedure[Case]:
    """Step 18 is about a piece that need not be given; without it no boot chain is told."""
    if case.log is not None:
        return procedure
    steps = tuple(step for step in procedure.steps if step.id != "tdx.log")
    return replace(procedure, steps=steps, required=procedure.required - {"tdx.log"})


def verify(pieces: Pieces, context: Context, procedure: Procedure[Case] = PROCEDURE) -> Verified[TdxQuote]:
    """Verify one quote; `pieces` as in `ROLES`. Appraisal refuses what a shortened `procedure` made.

    Raises `NotAuthentic` with every step that failed, `Malformed`, `Unsupported` (SGX quotes among others), and `UsageError` for
    wrong roles.
    """
    piece.check(pieces, ROLES, NAME)
    challenge.check_size(context, NAME)
    case = _open(pieces, context)
    trail = run(_of_what_is_given(procedure, case), case, context)
    trail = replace(  # several steps may leave the same point open
        trail,
        open_points=tuple(dict.fromkeys(trail.open_points)),
        waived=tuple(dict.fromkeys(trail.waived)),
        unsafe=tuple(dict.fromkeys(trail.unsafe)),
    )
    anchor = case.path.anchor
    simulated = anchor is not None and anchor.simulated
    judged = case.qe_identity is not None
    established = facts(case.quote, case.path.pck, anchor, case.freshness, case.windows, case.verdict, judged)
    caveats = (*established.caveats, *(finding.code for finding in trail.waived))
    if case.told is not None:
        caveats = (*caveats, *case.told.caveats)
        established = replace(established, boot=case.told.boot, claims={**established.claims, "log": case.told.claims})
    return issue(
        trail,
        evidence=case.quote,
        facts=replace(established, bound_key=case.bound_key, caveats=caveats),
        context=context,
        revocation=case.revocation,
        simulated=simulated,
        endorsers=(anchor.vendor if anchor else "unknown", "TDX module"),
    )


def _open(pieces: Pieces, context: Context) -> Case:
    given = (*piece.several(pieces, "quote"), *piece.several(pieces, "evidence"))
    if len(given) != 1:
        raise UsageError.of(
            "pieces.count", expected="exactly one 'quote' or 'evidence'", found=str(len(given)), remedy="Pass quote=PATH once."
        )
    quote = tdx_quote.parse(content.tdx_quote(given[0]))
    bundle = piece.optional(pieces, "collateral")
    collateral = Collateral()
    if bundle:
        collateral = remembered(context.chain_cache, ("intel.collateral", bundle), partial(intel.parse_collateral, bundle))
    tcb_info, qe_identity = piece.optional(pieces, "tcb-info"), piece.optional(pieces, "qe-identity")
    if tcb_info:
        collateral = replace(collateral, tcb_info=intel.signed_document(tcb_info, "tcbInfo", "intel.tcb-info"))
    if qe_identity:
        collateral = replace(collateral, qe_identity=intel.signed_document(qe_identity, "enclaveIdentity", "intel.qe-identity"))
    chain = (content.unhex(data) for data in piece.several(pieces, "tcb-chain"))
    texts = (data if pem.is_pem(data) else pem.encode(data, "CERTIFICATE") for data in chain)
    certificates = b"\n".join((collateral.certificates, *texts))
    lists = (collateral.root_crl, collateral.pck_crl, *piece.several(pieces, "root-crl"), *piece.several(pieces, "pck-crl"))
    return Case(
        quote=quote,
        collateral=replace(collateral, certificates=certificates),
        crls=[tdx_signatures.load_crl(context, data) for data in lists if data],
        key=piece.optional(pieces, "key"),
        context=context,
        log=piece.optional(pieces, "log"),
    )
