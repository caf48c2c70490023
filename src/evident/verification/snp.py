"""Is this SEV-SNP report authentic, and is it an answer to my challenge?

The procedure ``snp``, in order; every step that fails is reported, not only the first. Codes and remedies: ``docs/platforms/snp.md``.

 (1) snp.signature-algorithm  the report says that it is signed with ECDSA P-384 and SHA-384
 (2) snp.signing-key          the report is signed at all, by a VCEK or a VLEK
 (3) snp.endorsement-key      the certificate of that key, and a path from it towards a root, are at hand (given, or from the KDS)
 (4) snp.root                 the path ends in a root that is pinned by fingerprint: the ARK of Milan, Genoa or Turin
 (5) snp.chain                ARK signed ASK or ASVK, which signed VCEK or VLEK
 (6) snp.chain-algorithms     with RSA-4096, RSASSA-PSS, SHA-384, MGF1 over SHA-384 and a salt of 48 bytes; the leaf key is on P-384
 (7) snp.validity             all three certificates are valid at the time of the verification
 (8) snp.certificate-kind     VCEK under an ASK, or VLEK under an ASVK, and whichever of them the report names
 (9) snp.product              certificate, root and report (CPUID in version 3 and later, chip id before) name one product
(10) snp.tcb                  the certificate's TCB extensions equal REPORTED_TCB
(11) snp.chip-id              the certificate's hwID equals CHIP_ID; zero with a VLEK, or where the host masks it
(12) snp.revocation           a fresh CRL of the root, not older than one seen before, lists neither intermediate nor root
(13) snp.signature            the key signed bytes 0x000-0x29f of the report
(14) snp.challenge            REPORT_DATA is the verifier's challenge

Source: AMD publications 56860 (ATTESTATION_REPORT) and 57230 (certificates, KDS, CRL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from evident import codec
from evident.endorsements import amd, anchors, crl, x509
from evident.endorsements.amd import EndorsementKey
from evident.endorsements.anchors import Anchor
from evident.endorsements.crl import Crl
from evident.endorsements.signatures import SignatureAlgorithm
from evident.endorsements.x509 import Certificate
from evident.errors import CollateralUnavailable, Finding, Indeterminate, Malformed, NotAuthentic, Unsupported, UsageError
from evident.evidence import cert_table, content, snp_report
from evident.evidence.importers import containers
from evident.evidence.snp_report import GENOA, MILAN, PRODUCTS, SigningKey, SnpReport
from evident.verification import challenge
from evident.verification import pieces as piece
from evident.verification.context import Context
from evident.verification.facts import Freshness, StatedLaunch
from evident.verification.memory import once, remembered
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.snp_facts import LazyClaims, facts, report_claims
from evident.verification.verified import Revocation, Verified

NAME = "snp"
LAYER = "root_of_trust"
REPORT_LIMIT = 4 * 1024 * 1024
CERTIFICATE_LIMIT = 256 * 1024
CRL_LIMIT = 1024 * 1024
KEY_LIMIT = 4096
STATED_LAUNCH_LIMIT = 64 * 1024

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "report": Role("optional", REPORT_LIMIT, "attestation report: raw, hex, field JSON, or a configfs-tsm document"),
        "evidence": Role("optional", REPORT_LIMIT, "the same, by the name for other tools' containers"),
        "auxblob": Role("optional", cert_table.MAX_BYTES, "certificate table of the extended report"),
        "vcek": Role("optional", CERTIFICATE_LIMIT, "VCEK certificate, its chain may follow"),
        "vlek": Role("optional", CERTIFICATE_LIMIT, "VLEK certificate, its chain may follow"),
        "chain": Role("any", CERTIFICATE_LIMIT, "ASK or ASVK and ARK"),
        "crl": Role("any", CRL_LIMIT, "AMD's revocation list"),
        "key": Role("optional", KEY_LIMIT, "public key that the guest binds to the challenge, SubjectPublicKeyInfo in DER"),
        "launch": Role("optional", STATED_LAUNCH_LIMIT, "what guest or host say was launched, JSON; helps to name what differs"),
    }
)

_CHAIN_ALGORITHM = SignatureAlgorithm("rsa-pss", "sha384", 48)
_REPORT_ALGORITHM = ec.ECDSA(hashes.SHA384())
_RSA_BITS = 4096


@dataclass(frozen=True, slots=True)
class _Path:
    """From the key that signed the report to the root that the evidence rests on."""

    key: EndorsementKey
    signer: Certificate
    root: Certificate
    anchor: Anchor | None
    """The pinned root, or None when `root` is nobody that Evident trusts."""

    @property
    def certificates(self) -> tuple[Certificate, Certificate, Certificate]:
        return self.key.certificate, self.signer, self.root


@dataclass(slots=True)
class Case:
    """One verification: what was given, and what the steps have established so far."""

    report: SnpReport
    leaves: tuple[bytes, ...]
    """Certificates that may be the key's, each perhaps with its chain behind it."""
    chain: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    context: Context
    path: _Path = field(init=False)
    """Set by step 3."""
    revocation: Revocation = "unknown"
    freshness: Freshness = challenge.NOT_COMPARED
    key: bytes | None = None
    """SubjectPublicKeyInfo that the guest says it has bound to the challenge."""
    bound_key: bytes | None = None
    """SHA-384 of `key`, once step 14 has shown that it is bound."""


def _refuse(code: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


def _signature_algorithm(case: Case) -> None:
    """(1) 56860 table SIGNATURE_ALGO: 1 is the only one defined."""
    if case.report.signature_algo != snp_report.SIGNATURE_ALGORITHM_ECDSA_P384_SHA384:
        raise _refuse(
            "snp.signature-algorithm",
            "signature algorithm 1 (ECDSA P-384 with SHA-384)",
            str(case.report.signature_algo),
            "The report was altered, or comes from firmware that Evident does not know; collect it again.",
        )


def _signing_key(case: Case) -> None:
    """(2) 7 says that nobody signed: the host has masked the chip's key (MASK_CHIP_KEY)."""
    if case.report.signing_key is SigningKey.NONE:
        raise _refuse(
            "snp.signing-key",
            "a report signed by a VCEK or a VLEK",
            "signing key 7: not signed",
            "Have the host clear MASK_CHIP_KEY (SNP_CONFIG), then collect the report again.",
        )


def _endorsement_key(case: Case) -> None:
    """(3) Find the certificate and its path; whether they are worth anything is for the steps after this one."""
    if case.leaves:
        question = (NAME, case.context.anchors, case.report.signing_key, case.leaves, case.chain)
        case.path = remembered(case.context.chain_cache, question, partial(_find_path, case))
    else:
        case.path = _find_path(case)


def _find_path(case: Case) -> _Path:
    given = [x509.load_all(content.unhex(data)) for data in case.leaves]
    above = [certificate for certificates in given for certificate in certificates[1:]]
    above += [certificate for data in case.chain for certificate in x509.load_all(content.unhex(data))]
    keys = [amd.parse_endorsement_key(certificates[0]) for certificates in given] or [_fetch_vcek(case)]
    key = next((key for key in keys if key.kind is case.report.signing_key), keys[0])
    trusted = case.context.anchors
    roots = [anchor for product in PRODUCTS for anchor in anchors.amd_roots(trusted, product)]
    signers = [anchor.certificate for anchor in anchors.amd_intermediates(trusted, key.product, key.kind)]
    if not any(_signed(key.certificate, candidate) for candidate in (*above, *signers)):
        above += _published_chain(case, key)
    signer = _issuer(key.certificate, (*above, *signers))
    root = _issuer(signer, (*above, *(anchor.certificate for anchor in roots)))
    return _Path(key, signer, root, next((anchor for anchor in roots if anchor.fingerprint == root.fingerprint), None))


def _issuer(certificate: Certificate, candidates: Iterable[Certificate]) -> Certificate:
    """The candidate that signed `certificate`, else one that bears the issuer's name, for step 5 to refuse."""
    named = [candidate for candidate in candidates if candidate.subject == certificate.issuer]
    signers = [candidate for candidate in named if _signed(certificate, candidate)]
    if signers:
        return signers[0]
    if not named:
        raise _refuse(
            "snp.issuer-unknown",
            f"the certificate of {certificate.issuer_cn or 'the issuer'}, which issued {certificate.name}",
            "none of this name among AMD's and the given ones",
            "AMD's own ship with Evident, so this certificate is not AMD's; for a simulated chip pass chain=PATH too.",
        )
    return named[0]


def _signed(certificate: Certificate, candidate: Certificate) -> bool:
    """Which of several candidates is meant; whether the chain holds is for step 5."""
    try:
        x509.verify_issued_by(certificate, candidate)
    except NotAuthentic:
        return False
    return True


def _published_chain(case: Case, key: EndorsementKey) -> tuple[Certificate, ...]:
    """The chain that AMD publishes today, for an intermediate that is younger than this Evident; the root stays the pinned one."""
    try:
        url = amd.chain_url(key.product, key.kind)
        return x509.load_all(case.context.fetcher.fetch(url, limit=amd.CHAIN_LIMIT).body)
    except (CollateralUnavailable, Malformed, Unsupported):
        return ()  # step 5 says what is wrong with the chain at hand


def _fetch_vcek(case: Case) -> EndorsementKey:
    """The VCEK from AMD's KDS, by REPORTED_TCB and no other (AT-69); a version 2 report does not say of which product."""
    report = case.report
    if report.signing_key is SigningKey.VLEK or not report.chip_id.strip(b"\0"):
        raise Indeterminate.of(
            "snp.endorsement-key.missing",
            expected="the certificate of the key that signed the report",
            found="a VLEK, which only the cloud hands out"
            if report.signing_key is SigningKey.VLEK
            else "a masked chip id, which names no VCEK",
            remedy="Pass auxblob=PATH (the extended report's certificate table), or vlek=PATH or vcek=PATH.",
            layer=LAYER,
        )
    unavailable: list[Finding] = []
    for product in (report.product,) if report.product else (MILAN, GENOA):
        url = amd.vcek_url(product, report.chip_id, report.reported_tcb)
        try:
            return amd.load_endorsement_key(case.context.fetcher.fetch(url, limit=amd.CERTIFICATE_LIMIT).body)
        except (CollateralUnavailable, Malformed, Unsupported) as error:
            unavailable.extend(error.findings)
    raise CollateralUnavailable(
        Finding(
            "snp.endorsement-key.unavailable",
            LAYER,
            "the VCEK of this chip at REPORTED_TCB, from AMD's key distribution service",
            "; ".join(finding.found for finding in unavailable),
            "Pass vcek=PATH, or let Evident reach the service once (evident trust fetch).",
        ),
        *unavailable,
    )


def _root(case: Case) -> None:
    """(4) AT-39: anybody can make certificates that look like AMD's; only fingerprints tell."""
    anchor = case.path.anchor
    if anchor is None:
        raise _refuse(
            "snp.root.unknown",
            "a pinned root: the ARK of Milan, Genoa or Turin",
            f"{case.path.root.name}, SHA-256 {case.path.root.fingerprint}",
            "Somebody else than AMD vouches for this report: do not trust it.",
        )
    if anchor.simulated and "simulated-root" not in case.context.unsafe:
        raise _refuse(
            "snp.root.simulated",
            "a root that stands for hardware",
            f"{anchor.name}, a simulator's TEST root",
            "Simulated evidence proves nothing about hardware; for a trial, name the unsafe option simulated-root.",
        )


def _chain(case: Case) -> None:
    """(5) The pinned root needs no check of its own signature. What was verified once is remembered by its bytes."""
    leaf, signer, root = case.path.certificates
    once(case.context.chain_cache, ("snp.chain", leaf.der, signer.der, root.der), partial(_check_links, leaf, signer, root))


def _check_links(leaf: Certificate, signer: Certificate, root: Certificate) -> None:
    for certificate in (leaf, signer, root):
        x509.check_critical(certificate)
    x509.verify_issued_by(leaf, signer)
    x509.verify_issued_by(signer, root)


def _chain_algorithms(case: Case) -> None:
    """(6) 57230: certificates are signed with RSA-4096, RSASSA-PSS and SHA-384; VCEK and VLEK are on P-384."""
    leaf, signer, root = case.path.certificates
    once(case.context.chain_cache, ("snp.chain-algorithms", leaf.der, signer.der, root.der), partial(_check_algorithms, leaf, signer, root))


def _check_algorithms(leaf: Certificate, signer: Certificate, root: Certificate) -> None:
    for certificate, issuer in ((leaf, signer), (signer, root)):
        key = issuer.public_key
        if certificate.signature_algorithm != _CHAIN_ALGORITHM or not isinstance(key, rsa.RSAPublicKey) or key.key_size != _RSA_BITS:
            raise _refuse(
                "snp.chain-algorithms.certificate",
                f"{certificate.name} signed with RSA-{_RSA_BITS}, {_CHAIN_ALGORITHM}",
                f"{certificate.signature_algorithm} by a key of {key.key_size} bits",
                "AMD signs no certificate this way: do not trust it.",
            )
    leaf_key = leaf.public_key
    if not isinstance(leaf_key, ec.EllipticCurvePublicKey) or leaf_key.curve.name != "secp384r1":
        raise _refuse(
            "snp.chain-algorithms.key",
            f"a P-384 key in {leaf.name}",
            f"a key of {leaf_key.key_size} bits",
            "AMD's chips sign reports on P-384 only: do not trust it.",
        )


def _validity(case: Case) -> None:
    """(7) At `Context.at`; VLEKs live a year, VCEKs seven."""
    for certificate in case.path.certificates:
        x509.check_validity(certificate, case.context.at)


def _certificate_kind(case: Case) -> None:
    """(8) AT-40. Which extensions each kind has (hwID or CSP_ID) is checked where they are read."""
    key, signer, root = case.path.key, case.path.signer, case.path.root
    if (key.kind is SigningKey.VLEK) != (case.report.signing_key is SigningKey.VLEK):
        raise _refuse(
            "snp.certificate-kind.signing-key",
            f"the certificate of a {case.report.signing_key.name}, as the report says",
            f"that of a {key.kind.name}",
            "Pass the certificate that came with this report.",
        )
    names = (amd.amd_name(signer), amd.amd_name(root))
    expected = (amd.signer_name(key.product, key.kind), amd.ark_name(key.product))
    if names != expected or key.certificate.is_ca:
        raise _refuse(
            "snp.certificate-kind.issuer",
            f"a {key.kind.name} under {expected[0]} and {expected[1]}",
            f"{key.certificate.name}{', itself an authority,' if key.certificate.is_ca else ''} under {signer.name} and {root.name}",
            "AMD issues no such chain: do not trust it.",
        )


def _product(case: Case) -> None:
    """(9) AT-40. A version 2 report tells Turin from the others, by its short chip id, and no more."""
    report, key, anchor = case.report, case.path.key, case.path.anchor
    if report.product is not key.product and (report.product is not None or key.product.turin_layout):
        raise _refuse(
            "snp.product.report",
            f"a report of a {key.product.name} processor, as its certificate says",
            report.product.name if report.product else "a report in another product's layout",
            "Pass the certificate that came with this report.",
        )
    if anchor is not None and anchor.purpose != anchors.amd_root_purpose(key.product):
        raise _refuse(
            "snp.product.root",
            f"the root of {key.product.name}",
            f"{anchor.name}, which vouches for {anchor.purpose.removeprefix('snp:')}",
            "AMD issues no such chain: do not trust it.",
        )


def _tcb(case: Case) -> None:
    """(10) The key is derived from these numbers, so a certificate of other numbers is another key's."""
    if case.path.key.tcb != case.report.reported_tcb:
        raise _refuse(
            "snp.tcb",
            f"a certificate for REPORTED_TCB {_numbers(case.report.reported_tcb)}",
            _numbers(case.path.key.tcb),
            "Obtain the certificate for the report's REPORTED_TCB (not the committed or current one), or collect the report again.",
        )


def _numbers(tcb: snp_report.Tcb) -> str:
    return " ".join(f"{name}={number}" for name, number in tcb.components().items())


def _chip_id(case: Case) -> None:
    """(11) A host may mask the chip id to zero; then the certificate alone names the chip. A VLEK never names one (AT-61)."""
    report, key = case.report, case.path.key
    masked = not report.chip_id.strip(b"\0")
    if key.hwid is None:
        if not masked:
            raise _refuse(
                "snp.chip-id.vlek",
                "chip id zero: a VLEK speaks for a cloud and not for a chip",
                report.chip_id.hex(),
                "The report was altered; collect it again.",
            )
    elif not masked and report.chip_id != key.hwid.ljust(64, b"\0"):
        raise _refuse(
            "snp.chip-id.mismatch",
            f"chip id {key.hwid.hex()}, the hwID in the certificate",
            report.chip_id.hex(),
            "Pass the VCEK of the chip that made the report.",
        )
    if report.mask_chip_key and not masked:
        raise _refuse(
            "snp.chip-id.mask",
            "chip id zero where MASK_CHIP_KEY is set",
            report.chip_id.hex(),
            "The report was altered; collect it again.",
        )


def _revocation(case: Case) -> Open | None:
    """(12) AMD revokes ASKs and ASVKs; leaves have serial 0 and are on no CRL, so deny lists by identity are the policy's.

    What a list says is heeded even when it is out of date; what it does not say counts only inside its window. A list that
    is forged or replayed refuses (AT-28): somebody is hiding something.
    """
    signer, root = case.path.signer, case.path.root
    lists, reasons = _revocation_lists(case)
    in_force = False
    for crl_list in lists:
        question = ("snp.crl", crl_list.der, signer.der, root.der)
        once(case.context.chain_cache, question, partial(_heed, crl_list, signer, root))
        try:
            crl.check_floor(crl_list, case.context.crl_floor.get(amd.crl_scope(root, case.path.key.kind)))
        except Indeterminate as replay:
            raise NotAuthentic(*replay.findings) from None
        try:
            crl.check_window(crl_list, case.context.at)
            in_force = True
        except Indeterminate as outside:
            reasons += outside.findings
    if in_force:
        case.revocation = "good"
        return None
    return Open(
        Finding(
            "snp.revocation.unknown",
            LAYER,
            f"a CRL of {root.name} in force at the time of the verification",
            "; ".join(f"{reason.code}: {reason.found}" for reason in reasons),
            "Pass crl=PATH, or let Evident reach AMD's key distribution service (evident trust fetch).",
        ),
        waived_by="revocation-unknown",
    )


def _heed(crl_list: Crl, signer: Certificate, root: Certificate) -> None:
    """What the list says whatever the time is: that the root signed it, and whom it revokes."""
    crl.verify_issued_by(crl_list, root)
    crl.check_not_revoked(crl_list, signer)
    crl.check_not_revoked(crl_list, root)


def _revocation_lists(case: Case) -> tuple[list[Crl], tuple[Finding, ...]]:
    """The given CRLs of this root, else the KDS's; and why there is none."""
    key, root = case.path.key, case.path.root
    given = [remembered(case.context.chain_cache, ("crl", data), partial(_load_crl, data)) for data in case.crls]
    lists = [crl_list for crl_list in given if crl_list.issuer == root.subject]
    if lists:
        return lists, ()
    try:
        body = case.context.fetcher.fetch(amd.crl_url(key.product, key.kind), limit=amd.CRL_LIMIT).body
        return [remembered(case.context.chain_cache, ("crl", body), partial(_load_crl, body))], ()
    except (CollateralUnavailable, Malformed, Unsupported) as error:
        return [], error.findings


def _load_crl(data: bytes) -> Crl:
    return crl.load(content.unhex(data))


def _signature(case: Case) -> None:
    """(13) ECDSA over the first 0x2a0 bytes; R and S come as little-endian numbers."""
    report, key = case.report, case.path.key.certificate.public_key
    signature = utils.encode_dss_signature(report.signature_r, report.signature_s)
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        key.verify(signature, report.signed, _REPORT_ALGORITHM)
    except InvalidSignature:
        raise _refuse(
            "snp.signature",
            f"a signature over bytes 0x000-0x29f by the key of {case.path.key.certificate.name}",
            "a signature that does not verify",
            "The report was altered, or belongs to another certificate; collect both again.",
        ) from None


def _challenge(case: Case) -> Open | None:
    """(14) As for every technology that signs 64 bytes of the guest's choice."""
    answer = challenge.compare(case.context, case.report.report_data, case.key, NAME)
    if isinstance(answer, Open):
        return answer
    case.freshness, case.bound_key = answer.freshness, answer.bound_key
    return None


_PATH = ("snp.endorsement-key",)
PROCEDURE: Procedure[Case] = Procedure.of(
    NAME,
    Step("snp.signature-algorithm", "The report is signed with ECDSA P-384 and SHA-384.", _signature_algorithm),
    Step("snp.signing-key", "A VCEK or VLEK signed the report.", _signing_key),
    Step("snp.endorsement-key", "The signing key's certificate and its chain are at hand.", _endorsement_key),
    Step("snp.root", "The chain ends in a pinned root of AMD.", _root, _PATH),
    Step("snp.chain", "The root signed the intermediate, and that the key's certificate.", _chain, _PATH),
    Step("snp.chain-algorithms", "The chain is signed with RSA-4096, RSASSA-PSS and SHA-384.", _chain_algorithms, _PATH),
    Step("snp.validity", "Every certificate is valid at the time of the verification.", _validity, _PATH),
    Step("snp.certificate-kind", "The certificate is of the kind that the report names.", _certificate_kind, _PATH),
    Step("snp.product", "Certificate, root and report name the same product.", _product, _PATH),
    Step("snp.tcb", "The certificate is for the report's REPORTED_TCB.", _tcb, _PATH),
    Step("snp.chip-id", "The certificate is that of the chip in the report, or of its cloud.", _chip_id, _PATH),
    Step("snp.revocation", "AMD has not revoked the chain.", _revocation, (*_PATH, "snp.root")),
    Step("snp.signature", "The key signed the report.", _signature, _PATH),
    Step("snp.challenge", "The report answers the verifier's challenge.", _challenge),
)


def verify(pieces: Pieces, context: Context, procedure: Procedure[Case] = PROCEDURE) -> Verified[SnpReport]:
    """Verify one report; `pieces` as in `ROLES`. Appraisal refuses what a shortened `procedure` made.

    Raises `NotAuthentic` with every step that failed, `Indeterminate` without a certificate to verify with, `Malformed`,
    `Unsupported`, and `UsageError` for wrong roles.
    """
    piece.check(pieces, ROLES, NAME)
    challenge.check_size(context, NAME)
    case = _open(pieces, context)
    try:
        trail = run(procedure, case, context)
    except (NotAuthentic, Indeterminate) as refusal:
        refusal.with_claims(LazyClaims(partial(report_claims, case.report)))
        raise
    path = case.path
    simulated = path.anchor is not None and path.anchor.simulated
    established = facts(
        case.report,
        path.key,
        path.signer,
        path.anchor,
        case.freshness,
        waived=trail.waived,
        bound_key=case.bound_key,
        stated_launch=_stated_launch(piece.optional(pieces, "launch")),
    )
    return issue(
        trail,
        evidence=case.report,
        facts=established,
        context=context,
        revocation=case.revocation,
        simulated=simulated,
        endorsers=_endorsers(path, simulated=simulated),
    )


def _endorsers(path: _Path, *, simulated: bool) -> tuple[str, ...]:
    vendor = path.anchor.vendor if path.anchor else "unknown"
    cloud = (path.key.csp_id,) if path.key.csp_id else ()
    return (vendor, *cloud, "simulated AMD-SP" if simulated else "AMD-SP")


def _open(pieces: Pieces, context: Context) -> Case:
    if any(containers.looks_like_protobuf(raw) for raw in piece.several(pieces, "evidence")):
        pieces = containers.expand(pieces, keep=frozenset(ROLES))
    given = (*piece.several(pieces, "report"), *piece.several(pieces, "evidence"))
    if len(given) != 1:
        raise UsageError.of(
            "pieces.count", expected="exactly one 'report' or 'evidence'", found=str(len(given)), remedy="Pass report=PATH once."
        )
    raw, table = content.snp_report(given[0])
    leaves = (*piece.several(pieces, "vcek"), *piece.several(pieces, "vlek"))
    chain = piece.several(pieces, "chain")
    for blob in (*((table,) if table else ()), *piece.several(pieces, "auxblob")):
        entries = cert_table.parse(blob)
        leaves += tuple(found for role in ("vcek", "vlek") if (found := entries.get(role)))
        chain += tuple(found for role in ("ask", "ark") if (found := entries.get(role)))
    return Case(snp_report.parse(raw), leaves, chain, piece.several(pieces, "crl"), context, key=piece.optional(pieces, "key"))


def _stated_launch(document: bytes | None) -> StatedLaunch | None:
    """Nobody has signed it; it counts only where it reproduces the signed measurement."""
    return None if document is None else codec.decode(StatedLaunch, codec.loads(document, "stated-launch"), "stated-launch")
