"""Step 1: the kernel's file systems, and the kernel modules of the measured list in its order."""

from __future__ import annotations

import os
from pathlib import Path

from evident.errors import Malformed
from evident.guest import libc

MODULE_LIST = Path("/usr/lib/evident/modules.list")
_QUIET = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
MOUNTS = (
    ("proc", "/proc", "proc", _QUIET, ""),
    ("sysfs", "/sys", "sysfs", _QUIET, ""),
    ("devtmpfs", "/dev", "devtmpfs", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=0755"),
    ("tmpfs", "/run", "tmpfs", _QUIET, "mode=0755,size=64m"),
)
LATER_MOUNTS = (
    ("configfs", "/sys/kernel/config", "configfs", _QUIET, ""),
    ("securityfs", "/sys/kernel/security", "securityfs", _QUIET, ""),
)
"""Those whose kernel modules come with the list, or that a kernel may lack."""


def mount_kernel_file_systems() -> None:
    """What everything else needs, as far as it is not there yet; must work. Raises `OSError`."""
    for source, target, kind, flags, options in MOUNTS:
        Path(target).mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(target):  # the console needed them before step 1, or the kernel mounted /dev itself
            libc.mount(source, target, kind, flags, options)


def load_modules(listed: Path = MODULE_LIST) -> tuple[int, tuple[str, ...]]:
    """Load every module of the list in its order: how many, and the names of those that do not fit this machine.

    A module that the hardware does not want (``sev-guest`` elsewhere) refuses; the step that needs it will say so. Raises `Malformed`
    for a list that names files that are not there.
    """
    loaded, refused = 0, []
    for name in listed.read_text().splitlines() if listed.exists() else ():
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Malformed.of(
                "guest.modules", expected=f"the kernel module {name}", found=str(error.strerror), remedy="Build the image anew."
            ) from None
        try:
            libc.finit_module(descriptor)
            loaded += 1
        except FileExistsError:
            loaded += 1
        except OSError as error:
            refused.append(f"{Path(name).name.partition('.')[0]}: {error.strerror}")
        finally:
            os.close(descriptor)
    return loaded, tuple(refused)


def mount_optional() -> None:
    """configfs and securityfs where the kernel has them."""
    for source, target, kind, flags, options in LATER_MOUNTS:
        try:
            libc.mount(source, target, kind, flags, options)
        except OSError:
            continue  # a source of evidence that needs it says so by its name
