"""Filling the cache for a machine that will be offline: fetch, check against the pinned roots, keep.

Nothing is kept that a later verification would refuse for its signature, and only a CRL whose signature holds raises the
remembered CRL number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from evident.endorsements import amd, anchors, crl, intel, x509
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.cache import Cache
from evident.endorsements.crl import Crl
from evident.endorsements.fetcher import Ages, Fetched, Fetcher, default_ages
from evident.endorsements.x509 import Certificate
from evident.errors import EvidentError, Indeterminate, NotAuthentic
from evident.evidence import content, tdx_quote
from evident.evidence.snp_report import PRODUCTS, Product, SigningKey, Tcb

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """One endorsement that is now in the cache."""

    what: str
    url: str
    sha256: str
    size: int
    retrieved_at: datetime
    from_cache: bool
    """True when it was there already."""


def asking_ages(url: str) -> Ages:
    """Certificates from the cache will do; a list that is re-issued is asked for anew, and an outage is an error."""
    unchanging = default_ages(url).usable is None
    return Ages(fresh=default_ages(url).fresh if unchanging else timedelta(0), usable=timedelta(0))


class Prefetch:
    """Keeps endorsements of AMD and Intel in `cache`; `fetcher` is one that stores there, `at` the time of the checks."""

    def __init__(self, cache: Cache, fetcher: Fetcher, trusted: AnchorSet, at: datetime) -> None:
        self._cache = cache
        self._fetcher = fetcher
        self._trusted = trusted
        self._at = at

    def crl(self, product: Product, kind: SigningKey) -> Kept:
        """The CRL for keys of this kind; `NotAuthentic` when forged, `Indeterminate` when stale or replayed."""
        url = amd.crl_url(product, kind)
        fetched = self._fetcher.fetch(url, limit=amd.CRL_LIMIT)
        root = self._root(product)
        parsed = self._keep_if(url, lambda: self._check_crl(fetched.body, root, kind))
        if parsed.number is not None:
            self._cache.raise_crl_floor(amd.crl_scope(root, kind), parsed.number)
        number = "without number" if parsed.number is None else f"number {parsed.number}"
        until = "" if parsed.next_update is None else f", good until {parsed.next_update:%Y-%m-%d}"
        return _kept(f"CRL of {root.name} for {kind.name}s, {number}, {len(parsed.revoked)} revoked{until}", fetched, url)

    def vcek(self, product: Product, chip_id: bytes, reported_tcb: Tcb) -> Kept:
        """The VCEK of a chip at a TCB; `NotAuthentic` when it does not chain to AMD's root."""
        url = amd.vcek_url(product, chip_id, reported_tcb)
        fetched = self._fetcher.fetch(url, limit=amd.CERTIFICATE_LIMIT)
        certificate = self._keep_if(url, lambda: self._check_vcek(fetched.body, product))
        return _kept(f"VCEK of a {product.name} chip, good until {certificate.not_after:%Y-%m-%d}", fetched, url)

    def chain(self, product: Product, kind: SigningKey) -> Kept:
        """AMD's chain for keys of this kind, as its service gives it today; `NotAuthentic` unless the root is the pinned one."""
        url = amd.chain_url(product, kind)
        fetched = self._fetcher.fetch(url, limit=amd.CHAIN_LIMIT)
        signer = self._keep_if(url, lambda: self._check_chain(fetched.body, product, kind))
        shipped = {anchor.fingerprint for anchor in anchors.amd_intermediates(self._trusted, product, kind)}
        note = "as shipped" if signer.fingerprint in shipped else f"new: SHA-256 {signer.fingerprint}; pass it with chain=PATH"
        return _kept(f"chain of {product.name} for {kind.name}s, root as pinned, {signer.name} {note}", fetched, url)

    def tcb_info(self, fmspc: bytes) -> Kept:
        """Intel's TCB info of a platform; `NotAuthentic` unless a shipped TCB signing key signed it."""
        url = intel.tcb_info_url(fmspc)
        fetched = self._fetcher.fetch(url, limit=intel.DOCUMENT_LIMIT)
        body = self._keep_if(url, lambda: self._check_document(fetched.body, "tcbInfo", "intel.tcb-info"))
        info = intel.parse_tcb_info(body)
        return _kept(f"TCB info of FMSPC {fmspc.hex()}, {len(info.levels)} levels, good until {info.next_update:%Y-%m-%d}", fetched, url)

    def qe_identity(self) -> Kept:
        """The identity of Intel's TD quoting enclave, likewise."""
        url = intel.qe_identity_url()
        fetched = self._fetcher.fetch(url, limit=intel.DOCUMENT_LIMIT)
        body = self._keep_if(url, lambda: self._check_document(fetched.body, "enclaveIdentity", "intel.qe-identity"))
        until = intel.parse_qe_identity(body).next_update
        return _kept(f"identity of the TD quoting enclave, good until {until:%Y-%m-%d}", fetched, url)

    def intel_crl(self, issuer: Certificate) -> Kept:
        """The CRL of the SGX root or of a PCK CA; `NotAuthentic` when forged or of a CA that the pinned root did not sign."""
        root = self._trusted.for_purpose("tdx")[0].certificate
        if issuer.der != root.der:
            x509.verify_chain((issuer, root), self._at)
        url = intel.crl_url(issuer)
        fetched = self._fetcher.fetch(url, limit=intel.CRL_LIMIT)
        parsed = self._keep_if(url, lambda: self._check_intel_crl(fetched.body, issuer))
        self._cache.raise_crl_floor(intel.crl_scope(issuer), crl.issued(parsed))
        until = "" if parsed.next_update is None else f", good until {parsed.next_update:%Y-%m-%d}"
        return _kept(f"CRL of {issuer.name}, {len(parsed.revoked)} revoked{until}", fetched, url)

    def _check_document(self, text: bytes, member: str, what: str) -> bytes:
        document = intel.signed_document(text, member, what)
        signers = [anchor.certificate for anchor in self._trusted.for_purpose(intel.TCB_SIGNING_PURPOSE)]
        signer = next((c for c in signers if c.not_before <= self._at <= c.not_after), signers[0])
        x509.verify_chain((signer, self._trusted.for_purpose("tdx")[0].certificate), self._at)
        intel.check_document(document, signer, what)
        return document.body

    def _check_intel_crl(self, body: bytes, issuer: Certificate) -> Crl:
        parsed = crl.load(content.unhex(body))
        crl.verify_issued_by(parsed, issuer)
        crl.check_issued_since(parsed, self._cache.crl_floors().get(intel.crl_scope(issuer)))
        crl.check_window(parsed, self._at)
        return parsed

    def _root(self, product: Product) -> Certificate:
        return anchors.amd_roots(self._trusted, product)[0].certificate

    def _check_crl(self, body: bytes, root: Certificate, kind: SigningKey) -> Crl:
        parsed = crl.load(body)
        crl.verify_issued_by(parsed, root)
        crl.check_floor(parsed, self._cache.crl_floors().get(amd.crl_scope(root, kind)))
        crl.check_window(parsed, self._at)
        return parsed

    def _check_vcek(self, body: bytes, product: Product) -> Certificate:
        key = amd.load_endorsement_key(body)
        signer = anchors.amd_intermediates(self._trusted, product, SigningKey.VCEK)[0].certificate
        x509.verify_chain((key.certificate, signer, self._root(product)), self._at)
        return key.certificate

    def _check_chain(self, body: bytes, product: Product, kind: SigningKey) -> Certificate:
        certificates = x509.load_all(body)
        root = self._root(product)
        served = certificates[-1]
        if (
            len(certificates) != 2
            or amd.amd_name(certificates[0]) != amd.signer_name(product, kind)
            or served.fingerprint != root.fingerprint
        ):
            raise NotAuthentic.of(
                "amd.chain",
                expected=f"{amd.signer_name(product, kind)}, then {root.name} with SHA-256 {root.fingerprint}",
                found=", ".join(f"{certificate.name} with SHA-256 {certificate.fingerprint}" for certificate in certificates),
                remedy="Somebody answers in AMD's place, or AMD has a new root: compare with AMD's publications before you believe it.",
                layer="root_of_trust",
            )
        x509.verify_chain((certificates[0], root), self._at)
        return certificates[0]

    def _keep_if(self, url: str, check: Callable[[], T]) -> T:
        try:
            return check()
        except EvidentError as error:
            if not isinstance(error, Indeterminate):
                self._cache.forget(url)
            raise


def remember_crls(
    cache: Cache, recorded: Mapping[str, Fetched], trusted: AnchorSet, pieces: Mapping[str, tuple[bytes, ...]] = MappingProxyType({})
) -> None:
    """Remember how new the revocation lists among the `recorded` bodies are, as far as their authorities signed them: AMD's by number,
    Intel's by date. Intel's PCK CAs are known from the TDX quotes among the `pieces` that were verified (role to contents).

    Simulators' roots are left out: they come and go, and so would their numbers.
    """
    for product in PRODUCTS:
        for kind in (SigningKey.VCEK, SigningKey.VLEK):
            for anchor in anchors.amd_roots(trusted, product):
                found = None if anchor.simulated else _authentic(recorded.get(amd.crl_url(product, kind)), anchor.certificate)
                if found is not None and found.number is not None:
                    cache.raise_crl_floor(amd.crl_scope(anchor.certificate, kind), found.number)
    for anchor in trusted.for_purpose("tdx"):
        for issuer in () if anchor.simulated else (anchor.certificate, *_pck_authorities(pieces, anchor.certificate)):
            found = _authentic(recorded.get(intel.crl_url(issuer)), issuer)
            if found is not None:
                cache.raise_crl_floor(intel.crl_scope(issuer), crl.issued(found))


def _authentic(fetched: Fetched | None, issuer: Certificate) -> Crl | None:
    """The list in a body, None unless `issuer` signed it; whoever verified with such a body has refused it, or will."""
    with suppress(EvidentError):
        if fetched is not None:
            parsed = crl.load(content.unhex(fetched.body))
            crl.verify_issued_by(parsed, issuer)
            return parsed
    return None


def _pck_authorities(pieces: Mapping[str, tuple[bytes, ...]], root: Certificate) -> Iterator[Certificate]:
    """The CAs in the chains of TDX quotes that `root` issued; what is no such quote names none."""
    for quote in (*pieces.get("quote", ()), *pieces.get("evidence", ())):
        with suppress(EvidentError):
            chain = tdx_quote.parse(content.tdx_quote(quote)).pck_chain.removesuffix(b"\0")
            for certificate in x509.load_all(chain)[1:]:
                if certificate.der != root.der:
                    x509.verify_issued_by(certificate, root)
                    yield certificate


def _kept(what: str, fetched: Fetched, url: str) -> Kept:
    return Kept(what, url, hashlib.sha256(fetched.body).hexdigest(), len(fetched.body), fetched.retrieved_at, fetched.from_cache)
