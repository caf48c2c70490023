"""Is this TPM quote authentic, does it answer my challenge, and which PCR values does it cover?

The procedure ``tpm``, in order; every step that fails is reported. Quotes of several banks by one key are verified together.

 (1) tpm.magic            the structure begins with TPM_GENERATED: a TPM made it, nobody had it sign foreign bytes
 (2) tpm.type             it is a quote and no other kind of attestation
 (3) tpm.signature        the attestation key (AK) signed it, with the scheme that the key is bound to
 (4) tpm.hash             signature and registers use hashes that nobody can collide
 (5) tpm.challenge        extraData is the verifier's nonce, or its SHA-256
 (6) tpm.same-boot        all quotes were made in the same boot of the TPM
 (7) tpm.selection        PCRs are selected, and the values given are those of the selected ones
 (8) tpm.pcr-digest       the digest follows from the values, under the hash of the signing scheme whatever the bank
 (9) tpm.ak-key           every piece that has the AK has the same one
(10) tpm.ak-attributes    the AK signs nothing but what its TPM made and never leaves it
(11) tpm.ak-certificate   a certificate authority vouches for the AK
(12) tpm.ak-name          where the AK's public area is given: the signer named in the quote can be this AK
(13) tpm.ek-certificate   where an endorsement key is given: its certificate is valid and for that key
(14) tpm.log              where a log is given: it replays to the PCRs that the quote covers
(15) tpm.ima              where an IMA list is given: it replays to PCR 10, and its boot_aggregate is of these PCRs
(16) to (20)              where a credential was sent to the TPM, or its EK is named: `evident.verification.tpm_activation`

A TPM speaks for whoever runs it: steps 1 to 20 hold as well for a virtual TPM whose host made up every PCR (AT-18). What the
facts say of `location` and `anchor` decides what the values are worth.

Source: TCG TPM 2.0 Library, Part 1 sections 31.4 and 36.7, Part 3 TPM2_Quote; TCG "TPM v2.0 Provisioning Guidance" for AKs.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from evident.endorsements.tpm_ca import CRL_DISTRIBUTION_POINTS_OID
from evident.endorsements.x509 import Certificate
from evident.errors import Finding, NotAuthentic
from evident.evidence import tcg_log, tpm
from evident.evidence import tpm_algorithms as alg
from evident.evidence.importers import containers
from evident.evidence.tpm import Signature
from evident.evidence.tpm_public import HANDLE_ENDORSEMENT, HIERARCHIES
from evident.verification import boot_log, ima, tpm_activation, tpm_ima
from evident.verification import pieces as piece
from evident.verification.composite import leave_out
from evident.verification.context import Context
from evident.verification.facts import Freshness
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.tpm_case import Case, Key, Quote, certificate_path, open_case
from evident.verification.tpm_facts import facts
from evident.verification.verified import Verified

T = TypeVar("T")

NAME = "tpm"
LAYER = "vtpm"
PIECE_LIMIT = 64 * 1024
MIN_RSA_BITS = 2048

TPM_ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "signature": Role("any", PIECE_LIMIT, "TPMT_SIGNATURE over the quote, or a bare RSASSA-SHA256 signature"),
        "pcrs": Role("any", 256 * 1024, "PCR values: JSON, tpm2-tools' file, or the bare digests"),
        "ak": Role("optional", PIECE_LIMIT, "attestation key: TPM2B_PUBLIC, TPMT_PUBLIC or PEM"),
        "ak-cert": Role("optional", PIECE_LIMIT, "certificate of the attestation key"),
        "ek": Role("optional", PIECE_LIMIT, "endorsement key: TPM2B_PUBLIC or TPMT_PUBLIC"),
        "ek-cert": Role("optional", PIECE_LIMIT, "certificate of the endorsement key"),
        "chain": Role("any", 256 * 1024, "issuers of the certificates"),
        "log": Role("optional", tcg_log.MAX_LOG_BYTES, "firmware event log"),
        **tpm_ima.ROLES,
    }
)
ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "quote": Role("any", PIECE_LIMIT, "TPMS_ATTEST; one for each bank"),
        **TPM_ROLES,
        "evidence": Role("optional", containers.LIMIT, "another tool's container"),
    }
)

_HASHES: Mapping[int, hashes.HashAlgorithm] = MappingProxyType(
    {
        alg.ALG_SHA1: hashes.SHA1(),  # noqa: S303  # real AKs still sign with it; step 4 judges that
        alg.ALG_SHA256: hashes.SHA256(),
        alg.ALG_SHA384: hashes.SHA384(),
        alg.ALG_SHA512: hashes.SHA512(),
    }
)
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_COLLECT_AGAIN = "Have the guest make a new quote and send it with its signature."


def refuse(code: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


def _magic(case: Case) -> None:
    """(1) AT-63: a restricted key never signs outside data that begins with this value."""
    for quote in case.quotes:
        if quote.attest.magic != tpm.GENERATED:
            raise refuse("tpm.magic", f"{tpm.GENERATED:08x} (TPM_GENERATED)", f"{quote.attest.magic:08x}", _COLLECT_AGAIN)


def _type(case: Case) -> None:
    """(2) AT-63: other attestations are signed by the same key and may hold bytes of the caller's choice."""
    for quote in case.quotes:
        if quote.attest.type != tpm.ST_ATTEST_QUOTE:
            raise refuse("tpm.type", f"{tpm.ST_ATTEST_QUOTE:#06x} (quote)", f"{quote.attest.type:#06x}", _COLLECT_AGAIN)


def _signature(case: Case) -> None:
    """(3) Under the key's own scheme, where its public area names one."""
    bound = case.ak.public.scheme if case.ak.public else None
    for quote in case.quotes:
        signature = quote.signature
        if bound and bound.id != alg.ALG_NULL and (bound.id, bound.hash) != (signature.scheme, signature.hash):
            raise refuse(
                "tpm.signature.scheme",
                "the scheme that the key is bound to",
                signature.name,
                "The signature was made by another key or altered: do not trust it.",
            )
        if not verifies(case.ak.key, signature, quote.attest.raw):
            raise refuse(
                "tpm.signature",
                "a signature over the quote by the attestation key",
                f"a {signature.name} signature that does not verify",
                "The quote was altered, or another key signed it; collect quote, signature and AK together.",
            )


def verifies(key: Key, signature: Signature, message: bytes) -> bool:
    """Whether `signature` by `key` covers `message`; False for a scheme that the key cannot have and for keys too weak."""
    if signature.hash not in _HASHES:
        return False
    digest = _HASHES[signature.hash]
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if key.key_size < MIN_RSA_BITS or signature.scheme == alg.ALG_ECDSA:
                return False
            pss = signature.scheme == alg.ALG_RSAPSS
            scheme = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO) if pss else padding.PKCS1v15()
            key.verify(signature.rsa, message, scheme, digest)
        else:
            if key.curve.name not in _CURVES or signature.scheme != alg.ALG_ECDSA:
                return False
            r, s = int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big")
            key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def _hash(case: Case) -> Open | None:
    """(4) SHA-1 can be collided: who controls what is hashed may have two contents for one signature."""
    weak = sorted({quote.signature.name for quote in case.quotes if quote.signature.hash == alg.ALG_SHA1})
    banks = {item.algorithm for quote in case.quotes if quote.attest.type == tpm.ST_ATTEST_QUOTE for item in quote.info.selections}
    if not weak and banks != {alg.ALG_SHA1}:
        return None
    finding = Finding(
        "tpm.hash.sha1",
        LAYER,
        "signatures and at least one quoted bank over SHA-256 or better",
        ", ".join(weak) or "the SHA-1 bank alone",
        "Use an AK whose scheme is SHA-256 or SHA-384, and quote the bank of such a hash.",
    )
    return Open(finding, waived_by="")


def _challenge(case: Case) -> Open | None:
    """(5) AT-05. TPM2_Quote takes at most one digest's length, so a longer nonce goes in as its SHA-256."""
    nonce = case.context.nonce
    if nonce is None:
        finding = Finding(
            "tpm.challenge.missing",
            LAYER,
            "a challenge of the verifier's own to compare extraData with",
            "none given",
            "Pass nonce=PATH; without it an old quote cannot be told from a new one.",
        )
        return Open(finding, waived_by="no-challenge")
    for quote in case.quotes:
        found = quote.attest.extra_data
        if not any(hmac.compare_digest(found, wanted) for wanted in (nonce, hashlib.sha256(nonce).digest())):
            raise refuse(
                "tpm.challenge",
                f"extraData {nonce.hex()}, or its SHA-256",
                found.hex() or "nothing",
                "This quote answers another challenge, perhaps an old one: have the guest quote for yours.",
            )
    case.freshness = Freshness("challenge", "the quote's extraData is the verifier's nonce", carried_by="vtpm")
    return None


def _same_boot(case: Case) -> None:
    """(6) Banks of different boots put together would show a machine that never was."""
    boots = {(quote.attest.reset_count, quote.attest.restart_count) for quote in case.quotes}
    if len(boots) > 1:
        raise refuse(
            "tpm.same-boot", "quotes of one boot", f"(reset, restart) {sorted(boots)}", "Quote all banks again, one after the other."
        )


def _selection(case: Case) -> None:
    """(7) AT-63: a quote of no PCR, or of other PCRs than the values, proves nothing of the values."""
    for quote in case.quotes:
        selected = [(item.bank, item.indices) for item in quote.info.selections]
        if not any(indices for _, indices in selected):
            raise refuse("tpm.selection.empty", "a quote of at least one PCR", "none selected", "Quote the PCRs of the boot chain.")
        missing = [f"{bank}:{index}" for bank, indices in selected for index in indices if index not in case.values.get(bank, {})]
        if case.values and missing:
            raise refuse(
                "tpm.selection.values",
                "a value of every PCR that the quote selects",
                "none of " + ", ".join(missing[:8]) + (" and more" if len(missing) > 8 else ""),
                "The values belong to another selection: pass those that were read with this quote.",
            )


def _pcr_digest(case: Case) -> Open | None:
    """(8) Only values that a digest covers are believed; what is given beyond them is left aside."""
    if not case.values:
        finding = Finding("tpm.pcrs.missing", LAYER, "the values of the quoted PCRs", "none given", "Pass pcrs=PATH.")
        return Open(finding, waived_by="")
    covered: dict[str, dict[int, bytes]] = {}
    for quote in case.quotes:
        info = quote.info
        computed = tpm.pcr_digest(info.selections, case.values, quote.signature.hash)
        if not hmac.compare_digest(computed, info.pcr_digest):
            raise refuse(
                "tpm.pcr-digest",
                f"PCR digest {info.pcr_digest.hex()}, as quoted",
                f"{computed.hex()} from the values given",
                "A PCR value was altered, or belongs to another quote; collect both again.",
            )
        for item in info.selections:
            given = case.values[item.bank]
            covered.setdefault(item.bank, {}).update({index: given[index] for index in item.indices})
    case.pcrs = covered
    return None


def _ak_key(case: Case) -> None:
    """(9) AT-23: the key that signed must be the one that is vouched for."""
    wanted = _spki(case.ak.key)
    for who, key in case.ak.others:
        if _spki(key) != wanted:
            raise refuse(
                "tpm.ak-key",
                "one attestation key in all pieces",
                f"another key in {who}",
                "Pieces of different machines are mixed: collect all of them from one.",
            )


def _spki(key: Key) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


_ATTRIBUTES = {"restricted": True, "sign": True, "decrypt": False, "fixed_tpm": True, "fixed_parent": True, "sensitive_data_origin": True}


def _ak_attributes(case: Case) -> Open | None:
    """(10) AT-22: a key without these could sign a forged quote."""
    if case.ak.public is None:
        finding = Finding(
            "tpm.ak-attributes.unknown",
            LAYER,
            "the public area of the AK, which says that it signs only what its TPM made",
            "the bare key",
            "Pass ak=PATH with the TPM2B_PUBLIC (tpm2_createak -u, tpm2_readpublic -o).",
        )
        return Open(finding, waived_by="")
    flags = case.ak.public.attribute_flags
    wrong = [f"{name} {'not ' if wanted else ''}set" for name, wanted in _ATTRIBUTES.items() if flags[name] is not wanted]
    if wrong:
        raise refuse(
            "tpm.ak-attributes",
            "a restricted signing key with fixedTPM, fixedParent and sensitiveDataOrigin",
            ", ".join(wrong),
            "Such a key can sign made-up quotes: create an AK (tpm2_createak) and quote with that.",
        )
    return None


def _ak_name(case: Case) -> None:
    """(12) The qualified name follows from the AK and its parents; an unknown parent is remarked, a wrong form refused."""
    public = _given(case.ak.public)
    parents = [handle.to_bytes(4, "big") for handle in HIERARCHIES]
    if case.ek is not None:
        parents.append(case.ek.qualified_name(HANDLE_ENDORSEMENT.to_bytes(4, "big")))
    known = {public.qualified_name(parent) for parent in parents}
    for quote in case.quotes:
        signer = quote.attest.qualified_signer
        if signer[:2] != public.name[:2] or len(signer) != len(public.name):
            raise refuse("tpm.ak-name", f"a signer named by {public.name[:2].hex()}, as the AK is", signer.hex(), _COLLECT_AGAIN)
        if signer not in known and "tpm.ak-parent-unknown" not in case.caveats:
            case.caveats.append("tpm.ak-parent-unknown")


def _ak_certificate(case: Case) -> Open | None:
    """(11) Without a pinned root the key is just a key: the quote is authentic, and nobody knows whose it is."""
    certificate = case.ak.certificate or _activated_ek_certificate(case)
    if certificate is None:
        return _unvouched(
            case,
            "tpm.ak-certificate.missing",
            "somebody who vouches for the attestation key",
            "a bare key",
            "Pass ak-cert=PATH, activate a credential for it, or bind it to a TEE's report.",
        )
    path = certificate_path(case, certificate, "tpm.ak-certificate")
    case.ak_path = path
    signs = certificate.key_usage is None or "digital_signature" in certificate.key_usage
    if certificate.is_ca or (certificate is case.ak.certificate and not signs):
        raise refuse("tpm.ak-certificate.usage", "a certificate for signing", "one for another use", "Pass the certificate of the AK.")
    if path.anchor is None:
        top = path.chain[-1]
        return _unvouched(
            case,
            "tpm.ak-certificate.root",
            "a path to a pinned root: Google's, Azure's, or one that you give",
            f"it ends at {top.name}, issued by {top.issuer_cn or 'nobody named'}, SHA-256 {top.fingerprint}",
            "Pass the issuers as chain=PATH, or add the root to your anchors if you trust it.",
        )
    if CRL_DISTRIBUTION_POINTS_OID in certificate.extensions:
        case.caveats.append("tpm.ak-certificate.revocation-unchecked")
    return None


def _unvouched(case: Case, code: str, expected: str, found: str, remedy: str) -> Open | None:
    """What stays open for want of a certificate, unless whoever runs the TPM named the key that the AK lives beside."""
    return None if tpm_activation.named_by(case) else Open(Finding(code, LAYER, expected, found, remedy), waived_by="")


def _activated_ek_certificate(case: Case) -> Certificate | None:
    """The EK's certificate speaks for the AK where their TPM activated a credential (AT-22)."""
    return case.ek_certificate if tpm_activation.activated(case) else None


def _ek_certificate(case: Case) -> None:
    """(13) An EK certificate speaks for the AK only after credential activation."""
    certificate = _given(case.ek_certificate)
    if case.ek is not None and _spki(case.ek.public_key()) != _spki(certificate.public_key):
        raise refuse("tpm.ek-certificate.key", "the given endorsement key", "another key", "Pass the certificate of this endorsement key.")
    case.ek_path = certificate_path(case, certificate, "tpm.ek-certificate")
    if _activated_ek_certificate(case) is None:
        case.caveats.append("tpm.ek-not-activated")


def _log(case: Case) -> Open | None:
    """(14) Steps 1 to 4 of `evident.verification.log`, against the PCRs of step 8."""
    raw = _given(case.log)
    if not case.pcrs:
        tcg_log.parse(raw, registers="pcr")
        finding = Finding("tpm.log.unquoted", LAYER, "PCR values to replay the log to", "none", "Pass pcrs=PATH with the quote.")
        return Open(finding, waived_by="")
    listed = () if case.ima is None else (ima.IMA_PCR,)  # step 15 speaks of that one
    told = boot_log.judge(raw, {bank: {at: value for at, value in pcrs.items() if at not in listed} for bank, pcrs in case.pcrs.items()})
    case.boot, case.log_claims = told.boot, told.claims
    return None


def _ima(case: Case) -> Open | None:
    """(15) `evident.verification.tpm_ima`, against the PCRs of step 8."""
    measured = _given(case.ima)
    if not case.pcrs:
        finding = Finding("tpm.ima.unquoted", LAYER, "the value of PCR 10 to replay the list to", "none", "Pass pcrs=PATH with the quote.")
        return Open(finding, waived_by="")
    case.ran = tpm_ima.judge(measured, case.pcrs)
    case.caveats += case.ran.caveats
    return None


def _given(value: T | None) -> T:
    """A piece whose step is only part of the procedure when the piece was given."""
    if value is None:
        raise AssertionError("a step ran without the piece that it is about")
    return value


_TYPE = ("tpm.type",)
QUOTE_STEPS: tuple[Step[Case], ...] = (
    Step("tpm.magic", "A TPM made the quoted structure.", _magic),
    Step("tpm.type", "The structure is a quote.", _type),
    Step("tpm.signature", "The attestation key signed the quote.", _signature),
    Step("tpm.hash", "Signature and registers use hashes without known collisions.", _hash),
    Step("tpm.challenge", "The quote answers the verifier's challenge.", _challenge),
    Step("tpm.same-boot", "All quotes are of one boot of the TPM.", _same_boot),
    Step("tpm.selection", "The quote selects PCRs, and their values are given.", _selection, _TYPE),
    Step("tpm.pcr-digest", "The PCR values are the quoted ones.", _pcr_digest, ("tpm.type", "tpm.selection")),
    Step("tpm.ak-key", "All pieces name the same attestation key.", _ak_key),
)
AK_STEPS: tuple[Step[Case], ...] = (
    Step("tpm.ak-attributes", "The attestation key signs only what its TPM made.", _ak_attributes),
    Step("tpm.ak-certificate", "A certificate authority vouches for the attestation key.", _ak_certificate),
)
AK_NAME_STEP: Step[Case] = Step("tpm.ak-name", "The quote's signer can be this attestation key.", _ak_name)
EK_STEP: Step[Case] = Step("tpm.ek-certificate", "The endorsement key's certificate is valid and for that key.", _ek_certificate)
LOG_STEP: Step[Case] = Step("tpm.log", "The event log replays to the quoted PCRs.", _log, ("tpm.signature", "tpm.pcr-digest"))

IMA_STEP: Step[Case] = Step("tpm.ima", "The IMA list replays to the quoted PCR 10.", _ima, ("tpm.signature", "tpm.pcr-digest"))


def procedure(name: str, case: Case, *steps: Step[Case]) -> Procedure[Case]:
    """The procedure of these steps, and of those about what need not be there: AK's public area, EK certificate, log, list, activation."""
    optional = ((case.ak.public, AK_NAME_STEP), (case.ek_certificate, EK_STEP), (case.log, LOG_STEP), (case.ima, IMA_STEP))
    return Procedure.of(name, *steps, *(step for given, step in optional if given is not None), *tpm_activation.steps(case))


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[tuple[Quote, ...]]:
    """Verify quotes by one TPM; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Indeterminate`, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, ROLES, NAME)
    case = open_case(containers.expand(pieces, rename={"tpm-quote": "quote"}, keep=frozenset(ROLES)), context)
    trail = run(leave_out(procedure(NAME, case, *QUOTE_STEPS, *AK_STEPS), without), case, context)
    established = facts(case)
    anchor, named = case.ak_path.anchor if case.ak_path else None, tpm_activation.named_by(case)
    return issue(
        trail,
        evidence=case.quotes,
        facts=established,
        context=context,
        revocation="unknown",
        simulated=case.simulated,
        endorsers=(anchor.vendor,) if anchor else (named.operator,) if named else (),
    )
