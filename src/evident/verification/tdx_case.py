"""The state of one TDX verification (`evident.verification.tdx`), and what its steps share."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from evident.endorsements import intel, pem, x509
from evident.endorsements.anchors import Anchor
from evident.endorsements.crl import Crl
from evident.endorsements.intel import Collateral, Pck, QeIdentity, TcbInfo
from evident.endorsements.signatures import SignatureAlgorithm
from evident.endorsements.x509 import Certificate
from evident.errors import Finding, NotAuthentic
from evident.evidence.tdx_quote import TdxQuote
from evident.verification import challenge, tdx_log
from evident.verification.context import Context
from evident.verification.facts import Freshness
from evident.verification.memory import once
from evident.verification.procedure import Open
from evident.verification.tdx_tcb import TcbVerdict
from evident.verification.verified import Revocation

NAME = "tdx"
LAYER = "root_of_trust"
ALGORITHM = SignatureAlgorithm("ecdsa", "sha256")


@dataclass(frozen=True, slots=True)
class Path:
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
    path: Path = field(init=False)
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
        reason = finding or self.missing or collateral_missing("none at hand")
        return Open(reason, waived_by="tcb-unknown")


def collateral_missing(found: str) -> Finding:
    return Finding(
        "tdx.collateral.missing",
        LAYER,
        "TCB info and QE identity of this platform, signed by Intel",
        found,
        "Pass collateral=PATH (or tcb-info, qe-identity, tcb-chain), or let Evident reach Intel's service or your PCCS once.",
    )


def refuse(code: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(code, expected=expected, found=found, remedy=remedy, layer=LAYER)


def load_certificates(context: Context, text: bytes) -> tuple[Certificate, ...]:
    """Every certificate of a PEM text, each once; those that Evident ships are not read again."""
    shipped = (*context.anchors.for_purpose("tdx"), *context.anchors.for_purpose(intel.TCB_SIGNING_PURPOSE))
    known = {anchor.der: anchor.certificate for anchor in shipped}
    ders = dict.fromkeys(pem.decode(text, ("CERTIFICATE",), x509.WHAT))
    return tuple(known.get(der) or x509.parse(der) for der in ders)


def issued_by(case: Case, certificate: Certificate, issuer: Certificate) -> None:
    once(
        case.context.chain_cache,
        ("x509.issued-by", certificate.der, issuer.der),
        partial(x509.verify_issued_by, certificate, issuer),
    )


def check_algorithm(certificate: Certificate) -> None:
    if certificate.signature_algorithm != ALGORITHM:
        raise refuse(
            "tdx.chain-profile.algorithm",
            f"{certificate.name} signed with {ALGORITHM}",
            str(certificate.signature_algorithm),
            "Intel signs no certificate this way: do not trust it.",
        )


def on_p256(certificate: Certificate) -> bool:
    key = certificate.public_key
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
