"""The layers that are spoken of, how far each can be verified, and the levels that follow: in statements and in profiles the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

LEVEL_LAYERS = ("root_of_trust", "firmware", "boot_chain", "root_filesystem")
"""The layers that carry AL1..AL4."""
BESIDE_LAYERS = ("vtpm", "userspace", "provisioning", "storage", "identity", "devices")
"""Shown beside the levels; never raise them."""


class Verifiability(IntEnum):
    """The five degrees (the poster's legend); monotone: a degree holds only if all below it hold."""

    NONE = 0
    LINK = 1
    REFERENCE = 2
    BINARY = 3
    SOURCE = 4

    @property
    def words(self) -> str:
        return _DEGREE_WORDS[self]


_DEGREE_WORDS = {
    Verifiability.NONE: "not verifiable",
    Verifiability.LINK: "authentic, nothing to compare with",
    Verifiability.REFERENCE: "matches a value somebody vouches for",
    Verifiability.BINARY: "recomputed from the binary",
    Verifiability.SOURCE: "rebuilt from source",
}


YOU = "you"
"""The endorser of what the verifier recomputed itself."""


@dataclass(frozen=True, slots=True)
class Levels:
    nominal: int
    """The highest level whose layers up to it all have verifiability >= 1."""
    trustworthy: int
    """The highest level whose layers up to it all hold without the provider."""
