"""Everything a verification depends on besides the evidence: clock, anchors, endorsements, challenge, options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetcher

UNSAFE_OPTIONS = ("revocation-unknown", "simulated-root", "no-challenge")


@dataclass(frozen=True, slots=True)
class Context:
    at: datetime
    """The clock: validity, CRL and collateral windows are judged at this time."""
    anchors: AnchorSet
    fetcher: Fetcher
    nonce: bytes | None = None
    """The verifier's challenge, as it was sent."""
    report_data: bytes | None = None
    """The exact 64 bytes expected in the report, where the caller computed them."""
    crl_floor: Mapping[str, int] = field(default_factory=dict)
    """Issuer to the highest CRL number seen before; a lower one is a replay (AT-28)."""
    unsafe: frozenset[str] = frozenset()
