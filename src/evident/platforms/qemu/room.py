"""Whether a second machine can run beside one that runs: both need their memory, and two cannot write to one disk.

Source: proc_meminfo(5), MemAvailable: what can be had without swapping. Where memory runs out the kernel ends a process of its choice,
which could be the machine that is to go on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from evident.platforms.order import Order
from evident.platforms.qemu.order import Launch

OVERHEAD_MIB: Final = 256
"""Of QEMU, swtpm and attendant, beside the guest's memory."""
_AVAILABLE: Final = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


def beside(running: Launch, order: Order, memory: Path = Path("/proc/meminfo")) -> bool:
    """Whether what is ordered has room beside what is `running`."""
    written = {disk.path for disk in running.disks if not disk.read_only}
    shared = written & {disk.path for disk in order.disks if not disk.read_only}
    return not shared and available_mib(memory) >= order.memory_mib + OVERHEAD_MIB


def available_mib(memory: Path) -> int:
    """0 where the kernel does not say."""
    try:
        found = _AVAILABLE.search(memory.read_text())
    except OSError:
        found = None
    return int(found[1]) // 1024 if found else 0
