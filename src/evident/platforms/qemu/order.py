"""What was ordered and launched, kept in the machine's directory: ``machine.json`` and the images beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from evident import codec
from evident.errors import Malformed
from evident.files import read_private, write_private
from evident.platforms.order import Disk
from evident.platforms.qemu.vm import CPU_TYPE, Snp
from evident.simulator.vmm import LaunchDescription

FILE: Final = "machine.json"
FIRMWARE: Final = "firmware.fd"
KERNEL: Final = "kernel"
INITRD: Final = "initrd"


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch."""

    version: Literal[1]
    images: dict[str, bytes]
    """File beside this one to SHA-256; kernel and initrd are there only where they were ordered."""
    command_line: str
    vcpus: int
    memory_mib: int
    accelerator: Literal["kvm", "tcg"]
    report_id: bytes
    """32 random bytes of the simulated chip."""
    disks: tuple[Disk, ...] = ()
    published: tuple[int, ...] = ()
    snp: Snp | None = None
    tpm: bool = True

    def description(self, machine: Path) -> LaunchDescription:
        """What is measured, from the files as they are now: they are what QEMU reads, ordered or not."""
        files = {name: (machine / name).read_bytes() for name in self.images}
        kernel = files.get(KERNEL, b"")
        return LaunchDescription(
            firmware=files[FIRMWARE],
            kernel=kernel,
            initrd=files.get(INITRD, b""),
            command_line=self.command_line,
            kernel_hashes=bool(kernel),
            vcpus=self.vcpus,
            vcpu_type=CPU_TYPE,
        )


def write_launch(machine: Path, launch: Launch) -> None:
    write_private(machine / FILE, codec.encode(launch))


def read_launch(machine: Path) -> Launch:
    """The launch as it was written. Raises `UsageError` and `Malformed`."""
    return codec.decode(Launch, codec.loads(read_private(machine / FILE), "machine"), "machine")


def check_images(machine: Path, launch: Launch) -> None:
    """Hold the files against what was ordered. Raises `Malformed` ``qemu.image``."""
    for name, digest in launch.images.items():
        if hashlib.sha256(read_private(machine / name)).digest() != digest:
            raise Malformed.of(
                "qemu.image",
                expected=f"{name} as it was ordered",
                found="another file",
                remedy="Destroy this deployment (evident down) and create it anew.",
            )
