"""Everything a verification depends on besides the evidence: clock, anchors, endorsements, challenge, options."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetcher
from evident.verification.credential import Activation, NamedKey

UNSAFE_OPTIONS = ("revocation-unknown", "tcb-unknown", "simulated-root", "no-challenge")


class ChainCache:
    """Results of signature checks that cannot change, kept by whoever makes many verifications.

    Keys are the exact bytes that went into a check (with the anchors it was made under), values what it yielded. Only what holds
    at any time belongs here: windows of validity are judged anew in every verification. The oldest entry leaves first.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._entries: dict[Hashable, Any] = {}

    def get(self, key: Hashable) -> Any:
        """What `put` stored under an equal key, or None."""
        return self._entries.get(key)

    def put(self, key: Hashable, value: Any) -> None:
        while len(self._entries) >= self._capacity:
            self._entries.pop(next(iter(self._entries)), None)
        self._entries[key] = value


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
    """Scope of a CRL (`amd.crl_scope`, `intel.crl_scope`) to the highest number, or latest date, seen before: less is a replay (AT-28)."""
    unsafe: frozenset[str] = frozenset()
    """Members of `UNSAFE_OPTIONS` that the caller switched on; each that was needed shows in the result."""
    activation: Activation | None = None
    """A credential that the machine's TPM was asked to activate, with its answer (AT-22)."""
    named: NamedKey | None = None
    """The endorsement key that the machine's TPM has by the word of who runs it."""
    chain_cache: ChainCache | None = None
    """Where certificate chains that were verified once are remembered; None verifies them every time."""
