"""Steps 1 to 9 of `evident.verification.tdx`: from Intel's pinned root down to the signature over the quote."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from evident.endorsements import crl, intel, x509
from evident.endorsements.crl import Crl
from evident.endorsements.x509 import Certificate
from evident.errors import CollateralUnavailable, Finding, Indeterminate, Malformed, NotAuthentic, Unsupported
from evident.evidence import content
from evident.verification.context import Context
from evident.verification.memory import once, remembered
from evident.verification.procedure import Open, Step
from evident.verification.tdx_case import (
    LAYER,
    NAME,
    Case,
    Path,
    check_algorithm,
    issued_by,
    load_certificates,
    on_p256,
    refuse,
)

_ECDSA = ec.ECDSA(hashes.SHA256())


def _pck_chain(case: Case) -> None:
    """(1) The names lead from one certificate to the next; whether the path is worth anything is for the steps after this one."""
    chain = case.quote.pck_chain.removesuffix(b"\0")  # Intel's own quote generation ends the text like a C string
    case.path = remembered(case.context.chain_cache, (NAME, case.context.anchors, chain), partial(_find_path, case.context, chain))


def _find_path(context: Context, chain: bytes) -> Path:
    leaf, *above = load_certificates(context, chain)
    roots = context.anchors.for_purpose("tdx")
    ca = _issuer(leaf, above)
    root = _issuer(ca, (*above, *(anchor.certificate for anchor in roots)))
    pinned = next((anchor for anchor in roots if anchor.fingerprint == root.fingerprint), None)
    return Path(intel.parse_pck(leaf), ca, root, pinned)


def _issuer(certificate: Certificate, candidates: Iterable[Certificate]) -> Certificate:
    for candidate in candidates:
        if candidate.subject == certificate.issuer:
            return candidate
    raise refuse(
        "tdx.pck-chain.issuer",
        f"the certificate of {certificate.issuer_cn or 'the issuer'}, which issued {certificate.name}",
        "none of this name in the quote",
        "Configure the quote generation service to embed the whole PCK certificate chain.",
    )


def _root(case: Case) -> None:
    """(2) Anybody can make certificates that look like Intel's; only the fingerprint tells."""
    anchor = case.path.anchor
    if anchor is None:
        raise refuse(
            "tdx.root.unknown",
            "a pinned root: the Intel SGX Root CA",
            f"{case.path.root.name}, SHA-256 {case.path.root.fingerprint}",
            "Somebody else than Intel vouches for this quote: do not trust it.",
        )
    if anchor.simulated and "simulated-root" not in case.context.unsafe:
        raise refuse(
            "tdx.root.simulated",
            "a root that stands for hardware",
            f"{anchor.name}, a simulator's TEST root",
            "Simulated evidence proves nothing about hardware; for a trial, name the unsafe option simulated-root.",
        )


def _chain(case: Case) -> None:
    """(3) The pinned root needs no check of its own signature."""
    leaf, ca, root = case.path.certificates
    for certificate in (leaf, ca, root):
        x509.check_critical(certificate)
    issued_by(case, leaf, ca)
    issued_by(case, ca, root)


def _chain_profile(case: Case) -> None:
    """(4) PCK certificate profile 1.5, sections 1.3.2 to 1.3.4: names, algorithms, and that the leaf is no authority."""
    leaf, ca, root = case.path.certificates
    expected = (intel.PCK_NAME, next((name for name in intel.PCK_CA_NAMES if name == intel.intel_name(ca)), "Intel SGX PCK Platform CA"))
    if (
        (intel.intel_name(leaf), intel.intel_name(ca)) != expected
        or intel.intel_name(root) != intel.ROOT_NAME
        or leaf.is_ca
        or ca.path_length not in (0, None)
    ):
        raise refuse(
            "tdx.chain-profile.names",
            f"{expected[0]} under {expected[1]} and {intel.ROOT_NAME}",
            f"{leaf.name}{', itself an authority,' if leaf.is_ca else ''} under {ca.name} and {root.name}",
            "Intel issues no such chain: do not trust it.",
        )
    for certificate in (leaf, ca):
        check_algorithm(certificate)
    for certificate in (leaf, ca, root):
        if not on_p256(certificate):
            raise refuse(
                "tdx.chain-profile.key", f"a P-256 key in {certificate.name}", "another key", "Intel has no such key: do not trust it."
            )


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


def load_crl(context: Context, data: bytes) -> Crl:
    return remembered(context.chain_cache, ("crl", data), lambda: crl.load(content.unhex(data)))


def _judge_lists(case: Case, issuer: Certificate, subjects: tuple[Certificate, ...]) -> list[str]:
    """Why no list of `issuer` is in force; empty when one is. Raises when a list is forged, replayed, or names one of `subjects`."""
    reasons: list[str] = []
    lists = [crl_list for crl_list in case.crls if crl_list.issuer == issuer.subject]
    if not lists:
        try:
            lists = [load_crl(case.context, case.context.fetcher.fetch(intel.crl_url(issuer), limit=intel.CRL_LIMIT).body)]
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
            raise refuse(
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
        raise refuse(
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
        raise refuse(
            "tdx.signature",
            "a signature over header and body of the quote by its attestation key",
            "a signature that does not verify",
            "The quote was altered; collect it again.",
        )


PATH = ("tdx.pck-chain",)
STEPS: tuple[Step[Case], ...] = (
    Step("tdx.pck-chain", "The PCK certificate and its chain are at hand.", _pck_chain),
    Step("tdx.root", "The chain ends in the pinned root of Intel.", _root, PATH),
    Step("tdx.chain", "The root signed the PCK CA, and that the PCK certificate.", _chain, PATH),
    Step("tdx.chain-profile", "The chain has Intel's names and is signed with ECDSA on P-256.", _chain_profile, PATH),
    Step("tdx.validity", "Every certificate is valid at the time of the verification.", _validity, PATH),
    Step("tdx.revocation", "Intel has not revoked the chain.", _revocation, (*PATH, "tdx.root")),
    Step("tdx.qe-report", "The platform's key signed the report of the quoting enclave.", _qe_report, PATH),
    Step("tdx.attestation-key", "The quoting enclave reports the attestation key.", _attestation_key),
    Step("tdx.signature", "The attestation key signed the quote.", _signature),
)
