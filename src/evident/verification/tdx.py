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

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from evident.endorsements import crl, intel, pem, x509
from evident.endorsements.anchors import Anchor
from evident.endorsements.crl import Crl
from evident.endorsements.intel import Collateral, Pck, QeIdentity, SignedDocument, TcbInfo, TcbStatus
from evident.endorsements.signatures import SignatureAlgorithm
from evident.endorsements.x509 import Certificate
from evident.errors import CollateralUnavailable, Finding, Indeterminate, Malformed, NotAuthentic, Unsupported, UsageError
from evident.evidence import content, tcg_log, tdx_quote
from evident.evidence.tdx_quote import TdxQuote
from evident.verification import challenge, tdx_log, tdx_tcb
from evident.verification import pieces as piece
from evident.verification.context import Context
from evident.verification.facts import Freshness
from evident.verification.memory import once, remembered
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.tdx_facts import facts
from evident.verification.tdx_tcb import TcbVerdict
from evident.verification.verified import Revocation, Verified

T = TypeVar("T", TcbInfo, QeIdentity)

NAME = "tdx"
LAYER = "root_of_trust"
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

_ALGORITHM = SignatureAlgorithm("ecdsa", "sha256")
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class _Path:
    """From the platform's certification key to the root that the evidence rests on."""

    pck: Pck
    ca: Certificate
    root: Certificate
    anchor: Anchor | None
    """The pinned root, or None when `root` is nobody that Evident trusts."""

    @property
    def certificates(self) -> tuple[Certificate, Certificate, Certificate]:
        return self.pck.certificate, self.ca, self.root


@dataclass(slots=True)
class Case:
    """One verification: what was given, and what the steps have established so far."""

    quote: TdxQuote
    collateral: Collateral
    crls: list[Crl]
    """As given; step 6 adds what it fetches."""
    key: bytes | None
    context: Context
    log: bytes | None = None
    path: _Path = field(init=False)
    """Set by step 1."""
    signer: Certificate | None = None
    """Set by step 10; None where the collateral or its signer is missing."""
    missing: Finding | None = None
    """Why steps 11 to 16 cannot be decided."""
    tcb_info: TcbInfo | None = None
    """Set by step 11, even where it is out of its window."""
    qe_identity: QeIdentity | None = None
    """Set by step 13, likewise."""
    verdict: TcbVerdict | None = None
    windows: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    """Of all collateral that proved authentic, by its kind: from when to when it is in force."""
    revocation: Revocation = "unknown"
    freshness: Freshness = challenge.NOT_COMPARED
    bound_key: bytes | None = None
    told: tdx_log.Told | None = None
    """Set by step 18."""

    def collateral_open(self, finding: Finding | None = None) -> Open:
        """The point that stays open without usable collateral; the same for every step that needs it."""
        reason = finding or self.missing or _collateral_missing("none at hand")
        return Open(reason, waived_by="tcb-unknown")


def _collateral_missing(found: str) -> Finding:
    return Finding(
        "tdx.collateral.missing",
        LAYER,
        "TCB info and QE identity of this platform, signed by Intel",
        found,
        "Pass collateral=PATH (or tcb-info, qe-identity, tcb-chain), or let Evident reach Intel's service or your PCCS once.",
    )


def _refuse(code: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


def _pck_chain(case: Case) -> None:
    """(1) The names lead from one certificate to the next; whether the path is worth anything is for the steps after this one."""
    chain = case.quote.pck_chain.removesuffix(b"\0")  # Intel's own quote generation ends the text like a C string
    case.path = remembered(case.context.chain_cache, (NAME, case.context.anchors, chain), partial(_find_path, case.context, chain))


def _load_certificates(context: Context, text: bytes) -> tuple[Certificate, ...]:
    """Every certificate of a PEM text, each once; those that Evident ships are not read again."""
    shipped = (*context.anchors.for_purpose("tdx"), *context.anchors.for_purpose(intel.TCB_SIGNING_PURPOSE))
    known = {anchor.der: anchor.certificate for anchor in shipped}
    ders = dict.fromkeys(pem.decode(text, ("CERTIFICATE",), x509.WHAT))
    return tuple(known.get(der) or x509.parse(der) for der in ders)


def _find_path(context: Context, chain: bytes) -> _Path:
    leaf, *above = _load_certificates(context, chain)
    roots = context.anchors.for_purpose("tdx")
    ca = _issuer(leaf, above)
    root = _issuer(ca, (*above, *(anchor.certificate for anchor in roots)))
    pinned = next((anchor for anchor in roots if anchor.fingerprint == root.fingerprint), None)
    return _Path(intel.parse_pck(leaf), ca, root, pinned)


def _issuer(certificate: Certificate, candidates: Iterable[Certificate]) -> Certificate:
    for candidate in candidates:
        if candidate.subject == certificate.issuer:
            return candidate
    raise _refuse(
        "tdx.pck-chain.issuer",
        f"the certificate of {certificate.issuer_cn or 'the issuer'}, which issued {certificate.name}",
        "none of this name in the quote",
        "Configure the quote generation service to embed the whole PCK certificate chain.",
    )


def _root(case: Case) -> None:
    """(2) Anybody can make certificates that look like Intel's; only the fingerprint tells."""
    anchor = case.path.anchor
    if anchor is None:
        raise _refuse(
            "tdx.root.unknown",
            "a pinned root: the Intel SGX Root CA",
            f"{case.path.root.name}, SHA-256 {case.path.root.fingerprint}",
            "Somebody else than Intel vouches for this quote: do not trust it.",
        )
    if anchor.simulated and "simulated-root" not in case.context.unsafe:
        raise _refuse(
            "tdx.root.simulated",
            "a root that stands for hardware",
            f"{anchor.name}, a simulator's TEST root",
            "Simulated evidence proves nothing about hardware; for a trial, name the unsafe option simulated-root.",
        )


def _issued_by(case: Case, certificate: Certificate, issuer: Certificate) -> None:
    once(
        case.context.chain_cache,
        ("x509.issued-by", certificate.der, issuer.der),
        partial(x509.verify_issued_by, certificate, issuer),
    )


def _chain(case: Case) -> None:
    """(3) The pinned root needs no check of its own signature."""
    leaf, ca, root = case.path.certificates
    for certificate in (leaf, ca, root):
        x509.check_critical(certificate)
    _issued_by(case, leaf, ca)
    _issued_by(case, ca, root)


def _chain_profile(case: Case) -> None:
    """(4) PCK certificate profile 1.5, sections 1.3.2 to 1.3.4: names, algorithms, and that the leaf is no authority."""
    leaf, ca, root = case.path.certificates
    expected = (intel.PCK_NAME, next((name for name in intel.PCK_CA_NAMES if name == _name(ca)), "Intel SGX PCK Platform CA"))
    if (_name(leaf), _name(ca)) != expected or _name(root) != intel.ROOT_NAME or leaf.is_ca or ca.path_length not in (0, None):
        raise _refuse(
            "tdx.chain-profile.names",
            f"{expected[0]} under {expected[1]} and {intel.ROOT_NAME}",
            f"{leaf.name}{', itself an authority,' if leaf.is_ca else ''} under {ca.name} and {root.name}",
            "Intel issues no such chain: do not trust it.",
        )
    for certificate in (leaf, ca):
        _check_algorithm(certificate)
    for certificate in (leaf, ca, root):
        if not _on_p256(certificate):
            raise _refuse(
                "tdx.chain-profile.key", f"a P-256 key in {certificate.name}", "another key", "Intel has no such key: do not trust it."
            )


def _check_algorithm(certificate: Certificate) -> None:
    if certificate.signature_algorithm != _ALGORITHM:
        raise _refuse(
            "tdx.chain-profile.algorithm",
            f"{certificate.name} signed with {_ALGORITHM}",
            str(certificate.signature_algorithm),
            "Intel signs no certificate this way: do not trust it.",
        )


def _on_p256(certificate: Certificate) -> bool:
    key = certificate.public_key
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"


def _name(certificate: Certificate) -> str:
    """The common name as Intel would write it; a simulator's certificates bear it behind ``TEST-``. It proves nothing either way."""
    return (certificate.subject_cn or "").removeprefix("TEST-")


def _validity(case: Case) -> None:
    """(5) At `Context.at`; PCK certificates live seven years."""
    for certificate in case.path.certificates:
        x509.check_validity(certificate, case.context.at)


def _revocation(case: Case) -> Open | None:
    """(6) The root's list covers the authorities (and the TCB signing key), the PCK CA's list the platforms.

    What a list says is heeded even when it is out of date; what it does not say counts only inside its window. A list that
    is forged or replayed refuses: somebody is hiding something.
    """
    leaf, ca, root = case.path.certificates
    reasons = [
        *_judge_lists(case, root, (ca, root)),
        *_judge_lists(case, ca, (leaf,)),
    ]
    if not reasons:
        case.revocation = "good"
        return None
    return Open(
        Finding(
            "tdx.revocation.unknown",
            LAYER,
            f"CRLs of {root.name} and of {ca.name} in force at the time of the verification",
            "; ".join(reasons),
            "Pass root-crl=PATH and pck-crl=PATH, or let Evident reach Intel's service or your PCCS.",
        ),
        waived_by="revocation-unknown",
    )


def _load_crl(context: Context, data: bytes) -> Crl:
    return remembered(context.chain_cache, ("crl", data), lambda: crl.load(content.unhex(data)))


def _judge_lists(case: Case, issuer: Certificate, subjects: tuple[Certificate, ...]) -> list[str]:
    """Why no list of `issuer` is in force; empty when one is. Raises when a list is forged, replayed, or names one of `subjects`."""
    reasons: list[str] = []
    lists = [crl_list for crl_list in case.crls if crl_list.issuer == issuer.subject]
    if not lists:
        try:
            lists = [_load_crl(case.context, case.context.fetcher.fetch(intel.crl_url(issuer), limit=intel.CRL_LIMIT).body)]
        except (CollateralUnavailable, Malformed, Unsupported) as error:
            return [f"{issuer.name}: {finding.code}: {finding.found}" for finding in error.findings]
        case.crls += lists
    in_force = False
    for crl_list in lists:
        once(case.context.chain_cache, ("crl.issued-by", crl_list.der, issuer.der), partial(crl.verify_issued_by, crl_list, issuer))
        try:
            crl.check_issued_since(crl_list, case.context.crl_floor.get(intel.crl_scope(issuer)))
        except Indeterminate as replay:
            raise NotAuthentic(*replay.findings) from None
        for certificate in subjects:
            crl.check_not_revoked(crl_list, certificate)
        if crl_list.next_update is not None:
            case.windows["rootCrl" if issuer is case.path.root else "pckCrl"] = (crl_list.this_update, crl_list.next_update)
        try:
            crl.check_window(crl_list, case.context.at)
            in_force = True
        except Indeterminate as outside:
            reasons += [f"{finding.code}: {finding.found}" for finding in outside.findings]
    return [] if in_force else reasons


def _verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    """ECDSA P-256 over SHA-256 with R and S as 32 big-endian bytes each."""
    encoded = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(encoded, signed, _ECDSA)
    except InvalidSignature:
        return False
    return True


def _qe_report(case: Case) -> None:
    """(7) The same for every quote that the platform makes until its quoting enclave restarts, so it is remembered."""
    certificate, quote = case.path.pck.certificate, case.quote

    def check() -> None:
        key = certificate.public_key
        if not isinstance(key, ec.EllipticCurvePublicKey) or not _verify_raw(key, quote.qe_report_signature, quote.qe_report.raw):
            raise _refuse(
                "tdx.qe-report.signature",
                "a report of the quoting enclave signed by the key of the PCK certificate",
                "a signature that does not verify",
                "The quote was altered or put together from two; collect it again.",
            )

    once(case.context.chain_cache, ("tdx.qe-report", certificate.der, quote.qe_report.raw, quote.qe_report_signature), check)


def _attestation_key(case: Case) -> None:
    """(8) REPORT_DATA of the quoting enclave is SHA-256 over key and authentication data, then zeros."""
    quote = case.quote
    expected = hashlib.sha256(quote.attestation_key + quote.qe_authentication_data).digest().ljust(64, b"\0")
    if not hmac.compare_digest(expected, quote.qe_report.report_data):
        raise _refuse(
            "tdx.attestation-key",
            f"an attestation key that the quoting enclave reports: {expected.hex()}",
            quote.qe_report.report_data.hex(),
            "The quote was altered; collect it again.",
        )


def _signature(case: Case) -> None:
    """(9) By the attestation key, over header and body."""
    x, y = (int.from_bytes(case.quote.attestation_key[at : at + 32], "big") for at in (0, 32))
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        holds = _verify_raw(key, case.quote.signature, case.quote.signed)
    except ValueError:  # no point of the curve
        holds = False
    if not holds:
        raise _refuse(
            "tdx.signature",
            "a signature over header and body of the quote by its attestation key",
            "a signature that does not verify",
            "The quote was altered; collect it again.",
        )


def _tcb_signer(case: Case) -> Open | None:
    """(10) Intel's service sends the chain in a header only, so the signing certificates ship with Evident as well."""
    reasons = _fetch_documents(case)
    root, context, text = case.path.root, case.context, case.collateral.certificates
    given: tuple[Certificate, ...] = ()
    if text.strip():
        given = remembered(context.chain_cache, (NAME, context.anchors, "signers", text), partial(_load_certificates, context, text))
    shipped = [anchor.certificate for anchor in context.anchors.for_purpose(intel.TCB_SIGNING_PURPOSE)]
    signers = [c for c in (*given, *shipped) if c.issuer == root.subject and _name(c) == intel.TCB_SIGNING_NAME]
    current = [c for c in signers if c.not_before <= context.at <= c.not_after][:1]
    for certificate in current:
        x509.check_critical(certificate)
        _issued_by(case, certificate, root)
        _check_algorithm(certificate)
        if certificate.is_ca or not _on_p256(certificate):
            raise _refuse("tdx.tcb-signer.profile", "a P-256 signing key that is no authority", certificate.name, "Do not trust it.")
        for crl_list in case.crls:
            crl.check_not_revoked(crl_list, certificate)
    if current:
        case.signer = current[0]
    else:
        reasons.append("no TCB signing certificate under this root that is valid at the time of the verification")
    if not reasons:
        return None
    case.missing = _collateral_missing("; ".join(reasons))
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
        raise _refuse(
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
        raise _refuse(
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
        raise _refuse(
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
        raise _refuse(
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


_PATH = ("tdx.pck-chain",)
_SIGNER = (*_PATH, "tdx.root", "tdx.tcb-signer")
_INFO = (*_SIGNER, "tdx.tcb-info")
_IDENTITY = (*_SIGNER, "tdx.qe-identity")
PROCEDURE: Procedure[Case] = Procedure.of(
    NAME,
    Step("tdx.pck-chain", "The PCK certificate and its chain are at hand.", _pck_chain),
    Step("tdx.root", "The chain ends in the pinned root of Intel.", _root, _PATH),
    Step("tdx.chain", "The root signed the PCK CA, and that the PCK certificate.", _chain, _PATH),
    Step("tdx.chain-profile", "The chain has Intel's names and is signed with ECDSA on P-256.", _chain_profile, _PATH),
    Step("tdx.validity", "Every certificate is valid at the time of the verification.", _validity, _PATH),
    Step("tdx.revocation", "Intel has not revoked the chain.", _revocation, (*_PATH, "tdx.root")),
    Step("tdx.qe-report", "The platform's key signed the report of the quoting enclave.", _qe_report, _PATH),
    Step("tdx.attestation-key", "The quoting enclave reports the attestation key.", _attestation_key),
    Step("tdx.signature", "The attestation key signed the quote.", _signature),
    Step("tdx.tcb-signer", "TCB info, QE identity and the certificate of their signer are at hand.", _tcb_signer, (*_PATH, "tdx.root")),
    Step("tdx.tcb-info", "Intel signed the TCB info, and it is in force.", _tcb_info, _SIGNER),
    Step("tdx.tcb-info-subject", "The TCB info is that of this platform.", _tcb_info_subject, _INFO),
    Step("tdx.qe-identity", "Intel signed the identity of the quoting enclave, and it is in force.", _qe_identity, _SIGNER),
    Step("tdx.quoting-enclave", "The quoting enclave is Intel's.", _quoting_enclave, _IDENTITY),
    Step("tdx.module", "The TDX module is Intel's.", _module, _INFO),
    Step("tdx.tcb-level", "Platform, TDX module and quoting enclave reach a published level.", _tcb_level, (*_INFO, "tdx.qe-identity")),
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
    certificates = b"\n".join((collateral.certificates, *piece.several(pieces, "tcb-chain")))
    lists = (collateral.root_crl, collateral.pck_crl, *piece.several(pieces, "root-crl"), *piece.several(pieces, "pck-crl"))
    return Case(
        quote=quote,
        collateral=replace(collateral, certificates=certificates),
        crls=[_load_crl(context, data) for data in lists if data],
        key=piece.optional(pieces, "key"),
        context=context,
        log=piece.optional(pieces, "log"),
    )
