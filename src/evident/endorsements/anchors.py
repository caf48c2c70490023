"""Trust anchors: which roots Evident believes, where each came from, and how it was cross-checked.

An anchor without provenance cannot be built (EV-11). Production anchors are data in ``endorsements/data``, and every root
among them is pinned by fingerprint below as well, so that a changed data file alone changes nothing. A simulator's TEST
root can only be added by the caller, and stays marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from importlib import resources
from types import MappingProxyType
from typing import Literal

from evident import codec
from evident.endorsements import x509
from evident.endorsements.x509 import Certificate
from evident.errors import NotAuthentic, UsageError
from evident.evidence.snp_report import Product, SigningKey

Role = Literal["root", "intermediate"]

PINNED_ROOTS: Mapping[str, str] = MappingProxyType(
    {
        "ARK-Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
        "ARK-Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
        "ARK-Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
        "Intel SGX Root CA": "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
        "EK/AK CA Root": "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2",
        "tpm_ek_v1_cloud_host_root": "9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf",
        "Azure Virtual TPM Root Certificate Authority 2023": "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95",
        "aws.nitro-enclaves": "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
    }
)
"""Name of every production root to the SHA-256 of its DER."""


@dataclass(frozen=True)
class Anchor:
    """One root (or pinned intermediate) certificate."""

    name: str
    """``ARK-Milan``, ``Intel SGX Root CA``."""
    vendor: str
    purpose: str
    """What it may vouch for: ``snp:Milan``, ``tdx``, ``gce-tcb``, ``nitro``; an intermediate adds the kind of key that it
    signs (``snp:Milan:vcek``) and so never answers for a root."""
    der: bytes
    origin: str
    """Where the bytes came from, e.g. "crate sev 8.0.0, src/certs/..."."""
    cross_checked: str
    """How, e.g. "equal to the ARK in three independent vector sets"."""
    simulated: bool = False
    role: Role = "root"
    retrieved: date | None = None
    """The day on which the bytes were taken from `origin`; None for an anchor that the caller adds."""

    def __post_init__(self) -> None:
        if not (self.origin.strip() and self.cross_checked.strip()):
            raise UsageError.of(
                "anchor.provenance",
                expected="an origin and a cross-check for every anchor",
                found=f"{self.name} without",
                remedy="Record where the root came from and how it was checked.",
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, hex."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def certificate(self) -> Certificate:
        """Raises `Malformed` when the bytes are no certificate."""
        return x509.parse(self.der)


class AnchorSet:
    """An immutable set of anchors, looked up by purpose."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._anchors = tuple(anchors)

    def __iter__(self) -> Iterator[Anchor]:
        return iter(self._anchors)

    def for_purpose(self, purpose: str) -> tuple[Anchor, ...]:
        return tuple(anchor for anchor in self._anchors if anchor.purpose == purpose)

    def plus(self, *anchors: Anchor) -> AnchorSet:
        """This set and `anchors`, for a simulator's TEST roots or a relying party's own CA."""
        return AnchorSet((*self._anchors, *anchors))


def amd_root_purpose(product: Product) -> str:
    """Purpose of the product's ARK."""
    return f"snp:{product.name}"


def amd_intermediate_purpose(product: Product, kind: SigningKey) -> str:
    """Purpose of the ASK (`SigningKey.VCEK`) or ASVK (`SigningKey.VLEK`) of the product."""
    return f"snp:{product.name}:{kind.name.lower()}"


def amd_roots(anchors: AnchorSet, product: Product) -> tuple[Anchor, ...]:
    """The ARKs that may vouch for the product: AMD's own, and whatever the caller added."""
    return anchors.for_purpose(amd_root_purpose(product))


def amd_intermediates(anchors: AnchorSet, product: Product, kind: SigningKey) -> tuple[Anchor, ...]:
    """The ASKs (or ASVKs, for `SigningKey.VLEK`) that ship with Evident; each still has to chain to a root."""
    return anchors.for_purpose(amd_intermediate_purpose(product, kind))


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    vendor: str
    purpose: str
    role: Role
    file: str
    sha256: str
    origin: str
    retrieved: date
    cross_checked: str


@dataclass(frozen=True, slots=True)
class _Table:
    anchors: tuple[_Row, ...]


def production() -> AnchorSet:
    """The anchors that ship with Evident.

    `NotAuthentic` ``anchor.fingerprint`` when a certificate is not the one that its row, or for a root this module, names.
    """
    data = resources.files("evident.endorsements") / "data"
    table = codec.decode(_Table, codec.loads((data / "anchors.json").read_bytes(), "anchors"), "anchors")
    return AnchorSet(_anchor(row, (data / row.file).read_bytes()) for row in table.anchors)


def _anchor(row: _Row, text: bytes) -> Anchor:
    certificate = x509.load(text)
    allowed = {row.sha256} if row.role == "intermediate" else {row.sha256} & {PINNED_ROOTS.get(row.name, "")}
    if certificate.fingerprint not in allowed:
        raise NotAuthentic.of(
            "anchor.fingerprint",
            expected=f"{row.name} as pinned: {PINNED_ROOTS.get(row.name, row.sha256)}",
            found=certificate.fingerprint,
            remedy="This installation was altered; install Evident again from a source that you trust.",
            layer="root_of_trust",
        )
    return Anchor(row.name, row.vendor, row.purpose, certificate.der, row.origin, row.cross_checked, role=row.role, retrieved=row.retrieved)
