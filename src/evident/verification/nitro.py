"""Is this document really by AWS's Nitro system, and does it answer my challenge?

The procedures ``nitrotpm`` and ``nitro-enclave``, in order:

(1) nitro.kind        the document is of the kind that is asked for
(2) nitro.root        the first certificate of the bundle is the pinned root of AWS Nitro
(3) nitro.chain       the root leads through the bundle to the certificate in the document, all with ECDSA P-384 and SHA-384
(4) nitro.validity    all certificates are valid at the time of the verification; the leaf lives three hours
(5) nitro.signature   the leaf's key signed the document (COSE_Sign1, ES384)
(6) nitro.timestamp   the document was made within the leaf's life, and not after the time of the verification
(7) nitro.challenge   the document's nonce is the verifier's nonce
    nitro.key         where the machine names a key of its own: it is the document's public_key
(8) nitro.log         nitrotpm, where a log is given: it replays to the document's PCRs
(9) nitro.ima         nitrotpm, where an IMA list is given: it replays to PCR 10, and its boot_aggregate is of these PCRs

The signer is the Nitro hypervisor: the document is AWS's word about a machine that AWS runs, bound to no TEE. PCR 0 and 1 of a NitroTPM
are constant; an enclave in debug mode has PCR 0, 1 and 2 all zero and is readable by its parent.

Source: AWS Nitro Enclaves User Guide, "Verifying the root of trust"; Amazon EC2 User Guide, "Validate a NitroTPM Attestation Document".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from evident.endorsements import x509
from evident.endorsements.anchors import Anchor
from evident.endorsements.signatures import SignatureAlgorithm
from evident.endorsements.x509 import Certificate
from evident.errors import Finding, NotAuthentic, Unsupported, UsageError
from evident.evidence import binding, content, cose, nitro, tcg_log
from evident.evidence.nitro import NitroDocument
from evident.verification import boot_log, tpm_ima
from evident.verification import pieces as piece
from evident.verification.boot_log import Told
from evident.verification.composite import in_layer, leave_out
from evident.verification.context import Context
from evident.verification.facts import Facts, Freshness, Vtpm
from evident.verification.memory import once, remembered
from evident.verification.pieces import Pieces, Role
from evident.verification.procedure import Open, Procedure, Step, issue, run
from evident.verification.tpm_ima import Measured, Ran
from evident.verification.verified import Verified

PURPOSE = "nitro"
OPERATOR = "AWS"
LAYER = "vtpm"
CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the signer's clock may run before the verifier's."""

CAVEAT_DEBUG = "nitro.debug-mode"
CAVEAT_ENCLAVE = "nitro.enclave"
CAVEAT_FIRMWARE = "vtpm.nitrotpm-firmware-constant"
_ALGORITHM = SignatureAlgorithm("ecdsa", "sha384")

ROLES: Mapping[str, Role] = MappingProxyType(
    {"document": Role("one", cose.MAX_BYTES, "attestation document (COSE_Sign1)"), "key": Role("optional", 4096, "public key, DER")}
)
MEASURED_ROLES: Mapping[str, Role] = MappingProxyType(
    {"log": Role("optional", tcg_log.MAX_LOG_BYTES, "firmware event log of the same boot"), **tpm_ima.ROLES}
)
NITROTPM_ROLES: Mapping[str, Role] = MappingProxyType({**ROLES, **MEASURED_ROLES})
"""An enclave has neither log nor list: its registers measure one image file."""


@dataclass(slots=True)
class Case:
    document: NitroDocument
    kind: str
    context: Context
    key: bytes | None
    chain: tuple[Certificate, ...]
    """The leaf first, the root last."""
    anchor: Anchor | None = None
    freshness: Freshness = field(default_factory=lambda: Freshness("unknown", "no challenge was compared", carried_by="none"))
    log: bytes | None = None
    ima: Measured | None = None
    told: Told | None = None
    ran: Ran | None = None

    @property
    def pcrs(self) -> dict[str, dict[int, bytes]]:
        """The document's registers, in its one bank."""
        return {self.document.digest.lower(): dict(sorted(self.document.pcrs.items()))}


def _refuse(code: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


_AGAIN = "Have the guest ask for a new document and verify it within three hours, or give the time of the document with --at."


def _kind(case: Case) -> None:
    """(1) The two kinds differ by the name of their registers alone, and the same root signs both."""
    if case.document.kind != case.kind:
        raise Unsupported.of(
            "nitro.kind",
            expected=f"a document of kind {case.kind}",
            found=case.document.kind,
            remedy=f"Verify it with --kind {case.document.kind}: an enclave is not the machine that it runs in.",
        )


def _root(case: Case) -> None:
    """(2) The document brings its own root along; only the fingerprint makes it AWS's."""
    root = case.chain[-1]
    case.anchor = next((item for item in case.context.anchors.for_purpose(PURPOSE) if item.fingerprint == root.fingerprint), None)
    if case.anchor is None:
        raise _refuse(
            "nitro.root",
            "the pinned root aws.nitro-enclaves",
            f"{root.name}, SHA-256 {root.fingerprint}",
            "Somebody else than AWS made this document (another AWS partition has another root): do not trust it.",
        )
    if case.anchor.simulated and "simulated-root" not in case.context.unsafe:
        raise _refuse(
            "nitro.root.simulated", "a root of AWS", f"the TEST root {case.anchor.name}", "A simulator made this document: never trust it."
        )


def _chain(case: Case) -> None:
    """(3)"""
    cache = case.context.chain_cache
    # The leaf is new every few hours: not worth remembering.
    in_layer(LAYER, partial(x509.verify_issued_by, case.chain[0], case.chain[1]))
    for certificate, issuer in zip(case.chain[1:], case.chain[2:], strict=False):
        issued = partial(x509.verify_issued_by, certificate, issuer)
        in_layer(LAYER, partial(once, cache, ("nitro.chain", certificate.der, issuer.der), issued))
    for certificate in case.chain:
        if certificate.signature_algorithm != _ALGORITHM:
            raise _refuse("nitro.chain.algorithm", str(_ALGORITHM), str(certificate.signature_algorithm), "AWS issues no such chain.")
    if case.chain[0].is_ca:
        raise _refuse("nitro.chain.leaf", "a leaf certificate in the document", "a certificate authority", "AWS issues no such document.")


def _validity(case: Case) -> None:
    """(4) With path lengths and critical extensions."""
    in_layer(LAYER, lambda: x509.check_path(case.chain, case.context.at))


def _signature(case: Case) -> None:
    """(5) R and S, 48 bytes each, big endian (RFC 9053 section 2.1)."""
    sign1, key = case.document.sign1, case.chain[0].public_key
    r, s = (int.from_bytes(half, "big") for half in (sign1.signature[:48], sign1.signature[48:]))
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
            raise InvalidSignature
        key.verify(utils.encode_dss_signature(r, s), sign1.to_be_signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise _refuse(
            "nitro.signature",
            "a signature over the document by the key of its certificate",
            "a signature that does not verify",
            "The document was altered: ask for a new one.",
        ) from None


def _timestamp(case: Case) -> None:
    """(6) Certificates say when the signer lived, the timestamp when it spoke."""
    made, leaf = case.document.made_at, case.chain[0]
    last = min(leaf.not_after, case.context.at) + CLOCK_TOLERANCE
    if not leaf.not_before - CLOCK_TOLERANCE <= made <= last:
        raise _refuse(
            "nitro.timestamp",
            f"a document made from {leaf.not_before:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ}",
            f"{made:%Y-%m-%dT%H:%M:%SZ}",
            _AGAIN,
        )


def _challenge(case: Case) -> Open | None:
    """(7) AT-05. A nonce of up to 1024 bytes goes in as it is; its SHA-256 or SHA-512 is taken too."""
    nonce, found, made = case.context.nonce, case.document.nonce, case.document.made_at
    if nonce is None:
        finding = Finding(
            "nitro.challenge.missing",
            LAYER,
            "a challenge of the verifier's own to compare the document's nonce with",
            "none given",
            "Pass nonce=PATH; without it only the three hours of the certificate bound the document's age.",
        )
        case.freshness = Freshness("unknown", "no challenge was compared", carried_by="none", made_at=made)
        return Open(finding, waived_by="no-challenge")
    forms = (nonce, hashlib.sha256(nonce).digest(), hashlib.sha512(nonce).digest())
    if found is None or not any(hmac.compare_digest(found, form) for form in forms):
        raise _refuse(
            "nitro.challenge",
            f"nonce {nonce.hex()}",
            found.hex() if found else "no nonce",
            "This document answers another challenge, perhaps an old one: have the guest ask for one with yours.",
        )
    case.freshness = Freshness("challenge", "the document's nonce is the verifier's", carried_by="vtpm", made_at=made)
    return None


def _key(case: Case) -> None:
    """The document is the only thing here that could speak of a key; another one would be bound to nothing."""
    if case.key is not None and case.document.public_key != case.key:
        raise _refuse(
            "nitro.key",
            f"a document that names the key with SHA-384 {binding.key_digest(case.key).hex()}",
            binding.key_digest(case.document.public_key).hex() if case.document.public_key else "a document without a public key",
            "Somebody else's key came with this document: do not send anything to it.",
        )


def _log(case: Case) -> None:
    """(8)"""
    if case.log is not None:
        case.told = boot_log.judge(case.log, case.pcrs)


def _ima(case: Case) -> None:
    """(9)"""
    if case.ima is not None:
        case.ran = tpm_ima.judge(case.ima, case.pcrs)


STEPS: tuple[Step[Case], ...] = (
    Step("nitro.kind", "The document is of the kind that is asked for.", _kind),
    Step("nitro.root", "The document's chain begins at the pinned root of AWS Nitro.", _root),
    Step("nitro.chain", "The root leads to the certificate that signed the document.", _chain),
    Step("nitro.validity", "Every certificate is valid at the time of the verification.", _validity),
    Step("nitro.signature", "The Nitro system signed the document.", _signature),
    Step("nitro.timestamp", "The document was made while its certificate lived.", _timestamp),
    Step("nitro.challenge", "The document answers the verifier's challenge.", _challenge),
)
KEY_STEP: Step[Case] = Step("nitro.key", "The document names the machine's key.", _key, ("nitro.signature",))
LOG_STEP: Step[Case] = Step("nitro.log", "The event log replays to the document's PCRs.", _log, ("nitro.signature",))
IMA_STEP: Step[Case] = Step("nitro.ima", "The IMA list replays to the document's PCR 10.", _ima, ("nitro.signature",))


def open_case(raw: bytes, kind: Literal["nitrotpm", "nitro-enclave"], context: Context, key: bytes | None = None) -> Case:
    """Parse a document and its certificates. Raises `Malformed`, `Unsupported`."""
    document = nitro.parse(content.unhex(raw))
    issuers = (remembered(context.chain_cache, ("certificate", item), partial(x509.parse, item)) for item in reversed(document.cabundle))
    return Case(document, kind, context, key, (x509.parse(document.certificate), *issuers))


def verify_document(
    kind: Literal["nitrotpm", "nitro-enclave"], pieces: Pieces, context: Context, *, without: frozenset[str]
) -> Verified[NitroDocument]:
    """Verify one document; `pieces` as in `ROLES`. Appraisal refuses what was verified `without` a step.

    Raises `NotAuthentic` with every step that failed, `Malformed`, `Unsupported`, `UsageError`.
    """
    piece.check(pieces, NITROTPM_ROLES if kind == "nitrotpm" else ROLES, kind)
    if context.nonce == b"":
        raise UsageError.of("nitro.challenge.size", expected="a nonce", found="an empty one", remedy="Give the challenge as it was sent.")
    case = open_case(piece.one(pieces, "document"), kind, context, piece.optional(pieces, "key"))
    case.log, case.ima = piece.optional(pieces, "log"), tpm_ima.read(pieces)
    steps = (
        *STEPS,
        *((KEY_STEP,) if case.key is not None else ()),
        *((LOG_STEP,) if case.log is not None else ()),
        *((IMA_STEP,) if case.ima is not None else ()),
    )
    trail = run(leave_out(Procedure.of(kind, *steps), without), case, context)
    return issue(
        trail,
        evidence=case.document,
        facts=facts(case),
        context=context,
        revocation="unknown",
        simulated=bool(case.anchor and case.anchor.simulated),
        endorsers=(OPERATOR, "Nitro hypervisor"),
    )


def facts(case: Case) -> Facts:
    """What the document says; of an enclave only claims, for its registers measure the enclave's image and no machine's boot."""
    document = case.document
    vtpm = Vtpm("hypervisor", "certificate", OPERATOR, case.pcrs, instance={"module_id": document.module_id})
    enclave = document.kind == "nitro-enclave"
    debug = enclave and not any(document.pcrs.get(index, b"").strip(b"\0") for index in (0, 1, 2))
    return Facts(
        document.kind,
        None,
        case.freshness,
        vtpm=None if enclave else vtpm,
        boot=case.told.boot if case.told else None,
        runtime=case.ran.runtime if case.ran else None,
        caveats=(CAVEAT_ENCLAVE, *((CAVEAT_DEBUG,) if debug else ()))
        if enclave
        else (CAVEAT_FIRMWARE, *(case.ran.caveats if case.ran else ())),
        bound_key=binding.key_digest(document.public_key) if document.public_key else None,
        claims=claims(document)
        | ({"log": dict(case.told.claims)} if case.told else {})
        | ({"ima": dict(case.ran.claims)} if case.ran else {}),
    )


def claims(document: NitroDocument) -> dict[str, Any]:
    """The members of the document, JSON-ready; `digest` names the one bank of `pcrs`."""
    return {
        "kind": {"nitrotpm": "NitroTPM", "nitro-enclave": "Nitro Enclave"}[document.kind],
        "module_id": document.module_id,
        "timestamp_ms": document.timestamp,
        "digest": document.digest,
        "pcrs": {str(index): value.hex() for index, value in sorted(document.pcrs.items())},
        "user_data": (document.user_data or b"").hex(),
        "nonce": (document.nonce or b"").hex(),
        "public_key": (document.public_key or b"").hex(),
        "cose_algorithm": document.sign1.algorithm,
        "root_sha256": hashlib.sha256(document.cabundle[0]).hexdigest(),
    }
