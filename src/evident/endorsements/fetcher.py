"""The one seam through which bodies from vendors reach Evident."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body, unverified: whoever asked for it checks its signature."""

    url: str
    body: bytes
    retrieved_at: datetime
    from_cache: bool = False


class Fetcher(Protocol):
    def fetch(self, url: str, *, limit: int) -> Fetched:
        """The body behind `url`, at most `limit` bytes, or `CollateralUnavailable`."""
        ...
