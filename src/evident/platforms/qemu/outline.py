"""A machine on this host, before anything is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from evident.platforms.driver import Order
from evident.platforms.outline import Item, Outline
from evident.platforms.qemu import probe


def _items(order: Order) -> tuple[Item, ...]:
    served = ", ".join(f"127.0.0.1 to port {port}" for port in order.published) or "none"
    return (
        Item("machine", f"QEMU with {order.vcpus} vCPUs and {order.memory_mib} MiB, on this host"),
        Item("disk", "a disk of its own from the image, in the deployment's directory"),
        Item("tpm", "swtpm, beside it"),
        Item("forwarding", served),
    )


def _missing() -> tuple[str, ...]:
    programs = tuple(name for name in (probe.PROGRAM, probe.SWTPM) if shutil.which(name) is None)
    firmware = () if any(Path(path).is_file() for path in probe.FIRMWARE) else ("an OVMF image: apt install ovmf",)
    return (*(f"the program {name}: apt install {probe.PACKAGES[name]}" for name in programs), *firmware)


OUTLINE = Outline(
    settings={},
    technologies=("snp",),
    items=_items,
    missing=_missing,
    simulated=lambda: not os.access(probe.SEV, os.R_OK | os.W_OK),
    cloud=False,
    firmware="platform",
)
