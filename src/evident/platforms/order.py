"""What the owner of a machine orders, in words that every platform understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:  # in words of other rooms: whoever only states an order loads none of them
    from evident.platforms.opening import Opening
    from evident.reference_values.model import ReferenceSet

AGENT_PORT: Final = 8442
"""Where a guest's agent answers challenges, unless its command line says otherwise."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A raw image that the machine gets as a disk; it stays its owner's and is not copied."""

    path: str
    """Absolute."""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What the owner wants launched. Images left out are the platform's own, where it has any."""

    firmware: bytes | None = None
    kernel: bytes | None = None
    initrd: bytes | None = None
    command_line: str | None = None
    vcpus: int = 1
    memory_mib: int = 1024
    disks: tuple[Disk, ...] = ()
    """In the order in which the machine sees them; a cloud boots from the first."""
    published: tuple[int, ...] = ()
    """TCP ports of the machine that are to be reachable from its host."""
    attack: str | None = None
    """Name of an attack that a simulated host is to play; every other platform refuses it."""
    where: Mapping[str, str] = field(default_factory=dict)
    """A cloud's own settings: region, type, subnet..."""
    technology: Literal["snp", "tdx"] = "snp"
    openings: tuple[Opening, ...] = ()
    """What the network of a machine in a cloud lets through."""
    said: Mapping[str, str] = field(default_factory=dict)
    """The options of a command line that describe all this, where such do; kept with the machine, to know them again."""
    references: ReferenceSet | None = None
    """Predicted from the image, for platforms that do not show what else they measure; None: the platform knows."""
