"""Trust anchors: which roots Evident believes, where each came from, and how it was cross-checked.

An anchor without provenance cannot be built (EV-11). Production anchors are data in ``endorsements/data``; a simulator's
TEST root can only be added by the caller, and stays marked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from evident.errors import UsageError


@dataclass(frozen=True, slots=True)
class Anchor:
    """One root (or pinned intermediate) certificate."""

    name: str
    """``ARK-Milan``, ``Intel SGX Root CA``."""
    vendor: str
    purpose: str
    """What it may vouch for: ``snp:Milan``, ``tdx``, ``gce-tcb``, ``nitro``..."""
    der: bytes
    origin: str
    """Where the bytes came from, e.g. "crate sev 7.1.0, src/certs/..."."""
    cross_checked: str
    """How, e.g. "equal to the ARK in three independent vector sets"."""
    simulated: bool = False

    def __post_init__(self) -> None:
        if not (self.origin and self.cross_checked):
            raise UsageError.of(
                "anchor.provenance",
                expected="an origin and a cross-check for every anchor",
                found=f"{self.name} without",
                remedy="Record where the root came from and how it was checked.",
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, hex."""
        return hashlib.sha256(self.der).hexdigest()


class AnchorSet:
    """An immutable set of anchors, looked up by purpose."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self._anchors = tuple(anchors)

    def __iter__(self) -> object:
        return iter(self._anchors)

    def for_purpose(self, purpose: str) -> tuple[Anchor, ...]:
        return tuple(anchor for anchor in self._anchors if anchor.purpose == purpose)

    def plus(self, *anchors: Anchor) -> AnchorSet:
        """This set and `anchors`, for a simulator's TEST roots or a relying party's own CA."""
        return AnchorSet((*self._anchors, *anchors))
