"""A machine on this host, before anything is made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from evident.errors import UsageError
from evident.platforms.order import Order
from evident.platforms.outline import Item, Outline, Setting
from evident.platforms.qemu import host
from evident.platforms.qemu.profile import BY_UKI


def _items(order: Order) -> tuple[Item, ...]:
    firmware = order.where.get("firmware")
    if firmware is not None and not Path(firmware).is_file():
        raise UsageError.of(
            "qemu.no-firmware", expected=f"an OVMF image at {firmware}", found="none", remedy="Correct where.qemu.firmware."
        )
    served = ", ".join(f"127.0.0.1 to port {port}" for port in order.published) or "none"
    return (
        Item("machine", f"QEMU with {order.vcpus} vCPU{'' if order.vcpus == 1 else 's'} and {order.memory_mib} MiB, on this host"),
        Item("disk", "a disk of its own from the image, in the deployment's directory"),
        Item("tpm", "swtpm, beside it"),
        Item("forwarding", served),
    )


def _profile(where: Mapping[str, str]) -> str | None:
    return BY_UKI if where.get("boot") == "uki" else None


def _missing() -> tuple[str, ...]:
    programs = tuple(name for name in (host.PROGRAM, host.SWTPM) if shutil.which(name) is None)
    firmware = () if any(Path(path).is_file() for path in host.FIRMWARE) else ("an OVMF image: apt install ovmf",)
    return (*(f"the program {name}: apt install {host.PACKAGES[name]}" for name in programs), *firmware)


OUTLINE = Outline(
    settings={
        "boot": Setting(
            "what starts the image: `direct` (default), its kernel, handed over and measured by the hardware; `uki`, its own disk, as in a "
            "cloud, measured by a TPM of the host's",
            choices=("direct", "uki"),
        ),
        "firmware": Setting("OVMF image, in the place of the distribution's; with SEV-SNP and a direct boot its AmdSev build", path=True),
    },
    technologies=("snp",),
    items=_items,
    missing=_missing,
    profile=_profile,
    simulated=lambda: not os.access(host.SEV, os.R_OK | os.W_OK),
    cloud=False,
    identities=frozenset({"chip_id", "hwid", "endorsement_key"}),
    firmware=lambda _: "platform",
)
