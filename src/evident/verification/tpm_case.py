"""What one verification of TPM quotes was given, opened: quotes with their signatures, PCR values, and everything known of the AK."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evident.endorsements import pem, tpm_ca, x509
from evident.endorsements.tpm_ca import KeyPath
from evident.endorsements.x509 import Certificate
from evident.errors import Malformed, NotAuthentic, Unsupported, UsageError
from evident.evidence import content, tpm, tpm_public
from evident.evidence.importers import azure_cvm, containers, pcr_values
from evident.evidence.tpm import Attest, PcrValues, QuoteInfo, Signature
from evident.evidence.tpm_public import Public
from evident.verification import pieces as piece
from evident.verification import tpm_ima
from evident.verification.composite import in_layer
from evident.verification.context import ChainCache, Context
from evident.verification.facts import BootChain, Freshness
from evident.verification.memory import remembered
from evident.verification.pieces import Pieces
from evident.verification.tpm_ima import Measured, Ran

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Quote:
    """One quote and the signature over it."""

    attest: Attest
    signature: Signature

    @cached_property
    def info(self) -> QuoteInfo:
        """The body as a quote's, whatever the type says."""
        return tpm.quote_info(self.attest)


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """The key that must have signed, and what is known of it beside its numbers."""

    key: Key
    public: Public | None
    """The public area; None when only the bare key was given."""
    certificate: Certificate | None
    others: tuple[tuple[str, Key], ...] = ()
    """The same key as other pieces have it (a certificate, signed claims): all must agree."""

    @property
    def rsa_bytes(self) -> int | None:
        return self.key.key_size // 8 if isinstance(self.key, rsa.RSAPublicKey) else None


@dataclass(slots=True)
class Case:
    """The state of one verification; the lower fields are filled by its steps."""

    quotes: tuple[Quote, ...]
    values: PcrValues
    ak: AttestationKey
    chain: tuple[Certificate, ...]
    ek: Public | None
    ek_certificate: Certificate | None
    log: bytes | None
    context: Context
    ak_path: KeyPath | None = None
    ek_path: KeyPath | None = None
    freshness: Freshness = field(default_factory=lambda: Freshness("unknown", "no challenge was compared", carried_by="none"))
    pcrs: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """PCR values that a verified digest covers."""
    boot: BootChain | None = None
    log_claims: Mapping[str, object] = field(default_factory=dict)
    ima: Measured | None = None
    ran: Ran | None = None
    caveats: list[str] = field(default_factory=list)

    @property
    def simulated(self) -> bool:
        """Whether a simulator's TEST root vouches for one of its keys."""
        return any(path.anchor.simulated for path in (self.ak_path, self.ek_path) if path and path.anchor)


def open_case(pieces: Pieces, context: Context, *, quote_role: str = "quote", vouched: Mapping[str, Key] | None = None) -> Case:
    """Parse the pieces of a TPM quote. `vouched`: keys that other evidence already speaks for, by what speaks for them.

    Raises `Malformed` and `Unsupported`, and `UsageError` when quotes, signatures and key do not come together.
    """
    pieces = _open_quote(pieces, quote_role)
    ak = _attestation_key(pieces, vouched or {}, context.chain_cache)
    messages, signatures = piece.several(pieces, quote_role), piece.several(pieces, "signature")
    if not messages or len(messages) != len(signatures):
        raise UsageError.of(
            "tpm.pieces",
            expected="one or more quotes, each with its signature, in the same order",
            found=f"{len(messages)} {quote_role!r} and {len(signatures)} 'signature'",
            remedy=f"Pass {quote_role}=PATH signature=PATH for every quote.",
        )
    quotes = tuple(
        Quote(tpm.parse_attest(_message(message)), tpm.parse_signature(content.unhex(signature), rsa_bytes=ak.rsa_bytes))
        for message, signature in zip(messages, signatures, strict=True)
    )
    ek = piece.optional(pieces, "ek")
    ek_certificate = piece.optional(pieces, "ek-cert")
    return Case(
        quotes,
        _values(piece.several(pieces, "pcrs"), quotes),
        ak,
        tuple(certificate for data in piece.several(pieces, "chain") for certificate in x509.load_all(content.unhex(data))),
        tpm_public.parse(content.unhex(ek)) if ek else None,
        x509.load_all(content.unhex(ek_certificate))[0] if ek_certificate else None,
        piece.optional(pieces, "log"),
        context,
        ima=tpm_ima.read(pieces),
    )


def _open_quote(pieces: Pieces, quote_role: str) -> Pieces:
    """A quote that another tool wrote together with its signature and values (JSON, bincode), taken apart."""
    given = piece.several(pieces, quote_role)
    if len(given) != 1 or "signature" in pieces or not (given[0].lstrip()[:1] == b"{" or azure_cvm.looks_like_bincode(given[0])):
        return pieces
    others = {role: contents for role, contents in pieces.items() if role != quote_role}
    kept = frozenset(("tpm-quote", "signature", "pcrs", quote_role))
    return containers.expand({**others, containers.ROLE: given}, rename={"tpm-quote": quote_role}, keep=kept)


def key_of(raw: bytes) -> tuple[Key, Public | None]:
    """An attestation key as TPM2B_PUBLIC, TPMT_PUBLIC, PEM or SubjectPublicKeyInfo."""
    data = content.unhex(raw)
    if pem.is_pem(data):
        data = pem.decode(data, ("PUBLIC KEY",), "tpm.ak")[0]
    if data[:1] != b"\x30":
        public = tpm_public.parse(data)
        return public.public_key(), public
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed.of(
            "tpm.ak", expected="a public key", found=str(error)[:80], remedy="Pass the AK as TPM2B_PUBLIC (tpm2_createak -u) or PEM."
        ) from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise Unsupported.of("tpm.ak", expected="an RSA or ECC key", found=type(key).__name__, remedy="Pass the key that signed the quote.")
    return key, None


def _attestation_key(pieces: Pieces, vouched: Mapping[str, Key], cache: ChainCache | None) -> AttestationKey:
    given, certified = piece.optional(pieces, "ak"), piece.optional(pieces, "ak-cert")
    keys: list[tuple[str, Key]] = []
    public = None
    if given:
        key, public = remembered(cache, ("AK", given), lambda: key_of(given))
        keys.append(("the given AK", key))
    keys += vouched.items()
    certificate = (
        remembered(cache, ("AK certificate", certified), lambda: x509.load_all(content.unhex(certified))[0]) if certified else None
    )
    if certificate:
        keys.append(("the AK certificate", certificate.public_key))
    if not keys:
        raise UsageError.of(
            "tpm.pieces", expected="the attestation key", found="nothing", remedy="Pass ak=PATH (TPM2B_PUBLIC or PEM) or ak-cert=PATH."
        )
    return AttestationKey(keys[0][1], public, certificate, tuple(keys[1:]))


def _message(raw: bytes) -> bytes:
    """A TPMS_ATTEST, out of a TPM2B_ATTEST or hex text where need be."""
    data = content.unhex(raw)
    return data[2:] if len(data) > 6 and int.from_bytes(data[:2], "big") == len(data) - 2 else data


def _values(given: Iterable[bytes], quotes: tuple[Quote, ...]) -> PcrValues:
    selections = quotes[0].info.selections if quotes[0].attest.type == tpm.ST_ATTEST_QUOTE else ()
    values: dict[str, dict[int, bytes]] = {}
    for raw in given:
        for bank, registers in pcr_values.parse(raw, selections).items():
            known = values.setdefault(bank, {})
            for index, value in registers.items():
                if known.setdefault(index, value) != value:
                    raise Malformed.of(
                        "tpm.pcrs.twice",
                        expected=f"one value of PCR {index} of {bank}",
                        found="two",
                        remedy="Pass the values of one quote.",
                    )
    return values


def certificate_path(case: Case, certificate: Certificate, step: str) -> KeyPath:
    """The path of a key's certificate; every certificate valid now and allowed to issue what it issued.

    Raises `NotAuthentic` (``x509...``; ``<step>.simulated`` for a TEST root that nobody asked for), `Malformed` and `Unsupported`.
    """
    cache, anchors = case.context.chain_cache, case.context.anchors
    question = ("path of a TPM key", anchors, certificate.der, tuple(issuer.der for issuer in case.chain))
    path = in_layer("vtpm", lambda: remembered(cache, question, lambda: tpm_ca.find_path(certificate, case.chain, anchors)))
    in_layer("vtpm", lambda: x509.check_path(path.chain, case.context.at, understood=tpm_ca.UNDERSTOOD))
    if path.anchor is not None and path.anchor.simulated and "simulated-root" not in case.context.unsafe:
        raise NotAuthentic.of(
            f"{step}.simulated",
            expected="a root of a real TPM",
            found=f"the TEST root {path.anchor.name}",
            remedy="A simulator made this key.",
            layer="vtpm",
        )
    return path
