"""System calls that Python's standard library has no function for, through the C library.

Source: Linux manual pages mount(2), umount2(2), finit_module(2), reboot(2), mlockall(2), prctl(2), unshare(2),
setns(2); numbers for x86-64.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_MOVE = 1, 2, 4, 8, 32, 8192
_SYS_FINIT_MODULE: Final = 313
_POWER_OFF: Final = 0x4321FEDC
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNS: Final = 0x20000
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2); raises `OSError`."""
    texts = (source, target, kind, options)
    words = [ctypes.c_char_p(text.encode()) for text in texts]
    _checked(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), target)


def leave_mounts() -> int:
    """Mount from now on for this process and its children alone: a descriptor of the mounts that it leaves behind; raises `OSError`."""
    left = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _checked(_libc.unshare(ctypes.c_int(_CLONE_NEWNS)), "mounts")
    return left


def enter_mounts(left: int) -> None:
    """Go back among the mounts `left`, with their root for this process's; raises `OSError`."""
    _checked(_libc.setns(ctypes.c_int(left), ctypes.c_int(_CLONE_NEWNS)), "mounts")


def finit_module(descriptor: int) -> None:
    """Load the kernel module open at `descriptor`; raises `OSError` (`FileExistsError` when it is there already)."""
    _checked(_libc.syscall(ctypes.c_long(_SYS_FINIT_MODULE), ctypes.c_int(descriptor), ctypes.c_char_p(b""), ctypes.c_int(0)), "module")


def power_off() -> None:
    """Switch the machine off at once; raises `OSError` where this process may not."""
    os.sync()
    _checked(_libc.reboot(ctypes.c_int(_POWER_OFF)), "power off")


def no_new_privileges() -> None:
    """Neither this process nor what it starts gets more rights by running another program, whatever that file says; raises `OSError`."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(_PR_SET_NO_NEW_PRIVS), ctypes.c_ulong(1), zero, zero, zero), "privileges")


def lock_memory() -> None:
    """Keep this process out of swap, of which the measured boot has none anyway; raises `OSError`."""
    _checked(_libc.mlockall(ctypes.c_int(_MCL_CURRENT | _MCL_FUTURE)), "memory")


def wipe(secret: bytes) -> None:
    """Overwrite the bytes of `secret` in place.

    CPython's bytes keep their content behind a header of known size; nobody else may hold this object, and what was copied from it
    before (by the interpreter, OpenSSL or a pipe's buffers) is not reached. The kernel's own copy in dm-crypt stays as long as the
    volume is open, as it must.
    """
    if len(secret) > 1:  # shorter ones are shared by the whole interpreter
        ctypes.memset(id(secret) + bytes.__basicsize__ - 1, 0, len(secret))
