"""What QEMU's machines take from this host, by name; `evident.platforms.qemu.probe` finds out what of it works."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PROGRAM: Final = "qemu-system-x86_64"
SWTPM: Final = "swtpm"
PACKAGES: Final = {PROGRAM: "qemu-system-x86", SWTPM: "swtpm"}
"""Program to the package of Debian's that has it."""
FIRMWARE: Final = ("/usr/share/ovmf/OVMF.fd", "/usr/share/edk2/ovmf/OVMF.amdsev.fd", "/usr/share/OVMF/OVMF.fd")
"""Whole images (code and variables in one file) as distributions install them."""
SEV: Final = Path("/dev/sev")
