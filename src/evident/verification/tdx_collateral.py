"""Steps 10 to 16 of `evident.verification.tdx`: what Intel's collateral says of platform, TDX module and quoting enclave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from evident.endorsements import crl, intel, x509
from evident.endorsements.intel import QeIdentity, SignedDocument, TcbInfo, TcbStatus
from evident.endorsements.x509 import Certificate
from evident.errors import CollateralUnavailable, Finding, Malformed, Unsupported
from evident.verification import tdx_tcb
from evident.verification.memory import remembered
from evident.verification.procedure import Open, Step
from evident.verification.tdx_case import (
    LAYER,
    NAME,
    Case,
    check_algorithm,
    collateral_missing,
    issued_by,
    load_certificates,
    on_p256,
    refuse,
)

T = TypeVar("T", TcbInfo, QeIdentity)


def _tcb_signer(case: Case) -> Open | None:
    """(10) Intel's service sends the chain in a header only, so the signing certificates ship with Evident as well."""
    reasons = _fetch_documents(case)
    root, context, text = case.path.root, case.context, case.collateral.certificates
    given: tuple[Certificate, ...] = ()
    if text.strip():
        given = remembered(context.chain_cache, (NAME, context.anchors, "signers", text), partial(load_certificates, context, text))
    shipped = [anchor.certificate for anchor in context.anchors.for_purpose(intel.TCB_SIGNING_PURPOSE)]
    signers = [c for c in (*given, *shipped) if c.issuer == root.subject and intel.intel_name(c) == intel.TCB_SIGNING_NAME]
    current = [c for c in signers if c.not_before <= context.at <= c.not_after][:1]
    for certificate in current:
        x509.check_critical(certificate)
        issued_by(case, certificate, root)
        check_algorithm(certificate)
        if certificate.is_ca or not on_p256(certificate):
            raise refuse("tdx.tcb-signer.profile", "a P-256 signing key that is no authority", certificate.name, "Do not trust it.")
        for crl_list in case.crls:
            crl.check_not_revoked(crl_list, certificate)
    if current:
        case.signer = current[0]
    else:
        reasons.append("no TCB signing certificate under this root that is valid at the time of the verification")
    if not reasons:
        return None
    case.missing = collateral_missing("; ".join(reasons))
    return case.collateral_open()


def _fetch_documents(case: Case) -> list[str]:
    """Complete the collateral over the fetcher; why something is still missing."""
    reasons: list[str] = []

    def fetched(url: str, member: str, what: str) -> SignedDocument | None:
        try:
            return intel.signed_document(case.context.fetcher.fetch(url, limit=intel.DOCUMENT_LIMIT).body, member, what)
        except (CollateralUnavailable, Malformed, Unsupported) as error:
            reasons.extend(f"{finding.code}: {finding.found}" for finding in error.findings)
            return None

    given = case.collateral
    tcb_info = given.tcb_info or fetched(intel.tcb_info_url(case.path.pck.fmspc), "tcbInfo", "intel.tcb-info")
    qe_identity = given.qe_identity or fetched(intel.qe_identity_url(), "enclaveIdentity", "intel.qe-identity")
    case.collateral = replace(given, tcb_info=tcb_info, qe_identity=qe_identity)
    return reasons


def _authentic(case: Case, document: SignedDocument, what: str, parse: Callable[[bytes], T]) -> T:
    """The parsed document, once Intel's TCB signing key is shown to have signed it."""
    signer = case.signer
    if signer is None:
        raise AssertionError("called without a signer")

    def check() -> T:
        intel.check_document(document, signer, f"tdx.{what}")
        return parse(document.body)

    return remembered(case.context.chain_cache, ("tdx.document", signer.der, document.signature, document.body), check)


def _window(case: Case, what: str, window: tuple[datetime, datetime]) -> Open | None:
    """At `Context.at`, ends included; a document from the future is as useless as one that is overdue."""
    issued, due = window
    if issued <= case.context.at <= due:
        return None
    return case.collateral_open(
        Finding(
            f"tdx.{what}.stale",
            LAYER,
            f"a {what} in force at {case.context.at:%Y-%m-%dT%H:%M:%SZ}",
            f"one issued {issued:%Y-%m-%dT%H:%M:%SZ} and due for replacement {due:%Y-%m-%dT%H:%M:%SZ}",
            "Obtain a current one from Intel's service or your PCCS, or give the time of the evidence with --at.",
        )
    )


def _tcb_info(case: Case) -> Open | None:
    """(11) Signature first, then the window."""
    if case.signer is None or case.collateral.tcb_info is None:
        return case.collateral_open()
    case.tcb_info = _authentic(case, case.collateral.tcb_info, "tcb-info", intel.parse_tcb_info)
    case.windows["tcbInfo"] = (case.tcb_info.issue_date, case.tcb_info.next_update)
    return _window(case, "tcb-info", case.windows["tcbInfo"])


def _tcb_info_subject(case: Case) -> Open | None:
    """(12) TCB info of another platform says nothing about this one."""
    if case.tcb_info is None:
        return case.collateral_open()
    pck = case.path.pck
    if (case.tcb_info.fmspc, case.tcb_info.pce_id) != (pck.fmspc, pck.pce_id):
        raise refuse(
            "tdx.tcb-info-subject",
            f"TCB info for FMSPC {pck.fmspc.hex()} and PCEID {pck.pce_id.hex()}",
            f"FMSPC {case.tcb_info.fmspc.hex()}, PCEID {case.tcb_info.pce_id.hex()}",
            "Pass the TCB info of the FMSPC in the PCK certificate.",
        )
    return None


def _qe_identity(case: Case) -> Open | None:
    """(13) Signature first, then the window."""
    if case.signer is None or case.collateral.qe_identity is None:
        return case.collateral_open()
    case.qe_identity = _authentic(case, case.collateral.qe_identity, "qe-identity", intel.parse_qe_identity)
    case.windows["qeIdentity"] = (case.qe_identity.issue_date, case.qe_identity.next_update)
    return _window(case, "qe-identity", case.windows["qeIdentity"])


def _quoting_enclave(case: Case) -> Open | None:
    """(14) MISCSELECT and ATTRIBUTES under their masks, MRSIGNER and ISVPRODID exactly; ISVSVN is judged in step 16."""
    identity, report = case.qe_identity, case.quote.qe_report
    if identity is None:
        return case.collateral_open()
    rows = (
        ("MISCSELECT", _masked(report.miscselect, identity.miscselect_mask), identity.miscselect),
        ("ATTRIBUTES", _masked(report.attributes, identity.attributes_mask), identity.attributes),
        ("MRSIGNER", report.mrsigner, identity.mrsigner),
        ("ISVPRODID", report.isv_prod_id.to_bytes(2, "big"), identity.isv_prod_id.to_bytes(2, "big")),
    )
    wrong = [(name, found, expected) for name, found, expected in rows if found != expected]
    if wrong:
        raise refuse(
            "tdx.quoting-enclave",
            "Intel's TD quoting enclave: " + ", ".join(f"{name} {expected.hex()}" for name, _, expected in wrong),
            ", ".join(f"{name} {found.hex()}" for name, found, _ in wrong),
            "The quote was signed by another enclave than Intel's: do not trust it.",
        )
    return None


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(byte & bits for byte, bits in zip(value, mask, strict=True))


def _module(case: Case) -> Open | None:
    """(15) MRSIGNERSEAM and SEAMATTRIBUTES; attributes that the mask leaves free must still be zero (no debug module)."""
    info, report = case.tcb_info, case.quote.report
    if info is None:
        return case.collateral_open()
    identity = tdx_tcb.module_identity(info, report.tee_tcb_svn)
    if identity is None:
        return None  # no level either: step 16 says so
    attributes_hold = _masked(report.seamattributes, identity.attributes_mask) == _masked(identity.attributes, identity.attributes_mask)
    free = bytes(0xFF ^ bits for bits in identity.attributes_mask)
    if report.mrsignerseam != identity.mrsigner or not attributes_hold or _masked(report.seamattributes, free).strip(b"\0"):
        raise refuse(
            "tdx.module",
            f"a TDX module with MRSIGNERSEAM {identity.mrsigner.hex()} and SEAMATTRIBUTES {identity.attributes.hex()}",
            f"MRSIGNERSEAM {report.mrsignerseam.hex()}, SEAMATTRIBUTES {report.seamattributes.hex()}",
            "This is not Intel's production TDX module: do not trust it.",
        )
    return None


def _tcb_level(case: Case) -> Open | None:
    """(16) No level is never a pass: nothing waives it. Which status is good enough is the policy's question."""
    if case.tcb_info is None:
        return case.collateral_open()
    case.verdict = tdx_tcb.evaluate(case.tcb_info, case.qe_identity, case.path.pck, case.quote.report, case.quote.qe_report.isv_svn)
    if case.verdict.status is TcbStatus.REVOKED:
        raise refuse(
            "tdx.tcb-level.revoked",
            "a TCB level that Intel has not revoked",
            "status Revoked" + (f" ({', '.join(case.verdict.advisories)})" if case.verdict.advisories else ""),
            "Do not use this machine until its firmware is updated and it has new keys.",
        )
    if case.qe_identity is None:
        return case.collateral_open()
    if case.verdict.status is None:
        return Open(
            Finding(
                "tdx.tcb-level.none",
                LAYER,
                "a published TCB level that the platform reaches",
                f"none for {case.verdict.unmatched}",
                "Ask the operator to update firmware and TDX module; with an older quote, pass the TCB info of its time.",
            ),
            waived_by="",
        )
    return None


_SIGNER = ("tdx.pck-chain", "tdx.root", "tdx.tcb-signer")
_INFO = (*_SIGNER, "tdx.tcb-info")
_IDENTITY = (*_SIGNER, "tdx.qe-identity")
STEPS: tuple[Step[Case], ...] = (
    Step(
        "tdx.tcb-signer",
        "TCB info, QE identity and the certificate of their signer are at hand.",
        _tcb_signer,
        ("tdx.pck-chain", "tdx.root"),
    ),
    Step("tdx.tcb-info", "Intel signed the TCB info, and it is in force.", _tcb_info, _SIGNER),
    Step("tdx.tcb-info-subject", "The TCB info is that of this platform.", _tcb_info_subject, _INFO),
    Step("tdx.qe-identity", "Intel signed the identity of the quoting enclave, and it is in force.", _qe_identity, _SIGNER),
    Step("tdx.quoting-enclave", "The quoting enclave is Intel's.", _quoting_enclave, _IDENTITY),
    Step("tdx.module", "The TDX module is Intel's.", _module, _INFO),
    Step("tdx.tcb-level", "Platform, TDX module and quoting enclave reach a published level.", _tcb_level, (*_INFO, "tdx.qe-identity")),
)
