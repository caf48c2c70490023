"""What is stated of an image, and signed with its manifest: its lock and its inventory. Whoever reads it needs none of what made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Group = Literal["root", "initrd", "tools", "kernel"]


@dataclass(frozen=True, slots=True)
class LockedPackage:
    name: str
    version: str
    path: str
    """Path in the archive, without host."""
    size: int
    sha256: bytes
    groups: tuple[Group, ...]
    """What it is used for."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Lock:
    version: Literal[1]
    suite: str
    architecture: str
    packages: tuple[LockedPackage, ...] = field(default=())

    def group(self, group: Group) -> tuple[LockedPackage, ...]:
        return tuple(package for package in self.packages if group in package.groups)


@dataclass(frozen=True, slots=True)
class HostInput:
    """An input under the control of whoever runs the machine."""

    name: str
    usual: bool
    """Whether a usual cloud image acts on it."""
    here: bool
    """Whether this image does."""
    why: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Part of the signed manifest."""

    initrd_bytes: Mapping[str, int]
    """Bytes by part, uncompressed."""
    initrd_files: int
    root_files: int
    kernel_modules_offered: int
    """In the kernel's package, any of which a host could have loaded by showing a device."""
    kernel_modules: tuple[str, ...]
    """In the image: nothing else can be loaded, for there is no module loader."""
    programs: tuple[str, ...]
    """Executable files of the root file system (or of the one blob of a microCVM)."""
    ssh_authorized_keys: tuple[str, ...]
    writable: tuple[str, ...]
    agents: tuple[str, ...]
    """Provisioning agents, by name; the build refuses any."""
    host_inputs: tuple[HostInput, ...]
    python_modules: int
    spire: Mapping[str, bytes] = field(default_factory=dict)
    """Where the image attests by SPIRE: path and SHA-256 of the agent, its configuration, the trust bundle, FetchKey, and the interpreter
    that runs FetchKey, by which the agent knows it (selectors ``unix:path`` and ``unix:sha256``). All in the initrd."""
