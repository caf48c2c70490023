"""Reference values: what should have been measured, how strongly that is known, and by whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Literal

from evident.errors import Malformed

LAYERS = ("root_of_trust", "firmware", "boot_chain", "root_filesystem")
"""The layers that carry attestation levels AL1..AL4, in the order of the boot."""


class Strength(IntEnum):
    """How a reference value is known; the upper three degrees of verifiability."""

    ENDORSED = 2
    """Somebody vouches for it (a signature, or your own pin)."""
    RECOMPUTED = 3
    """Recomputed here from the binary."""
    REBUILT = 4
    """Recomputed from a binary that was rebuilt from source."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a reference value comes from."""

    origin: str
    """Who or what produced it: a file, a URL, a build."""
    how: str
    """In words: "signed launch endorsement", "launch digest over OVMF.fd, 2 vCPUs"."""
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    """Name to SHA-256 of every input that was hashed."""
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """One acceptable value of one register."""

    layers: tuple[Literal["firmware", "boot_chain", "root_filesystem", "userspace"], ...]
    """The layers that this value settles when it matches."""
    register: str
    """``launch``, ``rtmr1``, ``pcr11``, a stage of the boot chain as ``stage.kernel``, or ``ima`` (`programs`)."""
    value: bytes
    strength: Strength
    endorser: str
    """The party whose word it is; ``you`` for a value recomputed or rebuilt by the verifier."""
    description: str
    provenance: Provenance
    components: Mapping[str, bytes] = field(default_factory=dict)
    """Digest of every component that went into it by stage name, so that a mismatch can name the one that differs."""
    command_line: str | None = None
    algorithm: str = "sha384"
    agents: tuple[str, ...] | None = None
    """Provisioning agents in the image that this value measures (`agents.find`); None where nobody has looked at all of it."""
    template: bytes = b""
    """Opaque to appraisal: state from which the predictor recomputes the value for other components (see `snp_launch`)."""

    def __post_init__(self) -> None:
        if not self.layers or not self.value:
            raise Malformed.of(
                "reference.empty",
                expected="at least one layer and a value",
                found=f"{self.register}: {self.layers}, {self.value.hex()!r}",
                remedy="Complete the reference value.",
            )


def by_tpm(values: Iterable[ReferenceValue]) -> bool:
    """Whether some of these are compared with the boot that a TPM quotes."""
    return any(value.register.startswith("pcr") for value in values)


def level(values: Iterable[ReferenceValue]) -> int:
    """The highest level that these settle when they match; 0 for none."""
    return max((LAYERS.index(layer) + 1 for value in values for layer in value.layers if layer in LAYERS), default=0)


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """A file of reference values: alternatives per register are a set, any one of which may match."""

    version: Literal[1]
    values: tuple[ReferenceValue, ...] = ()
    name: str = ""
