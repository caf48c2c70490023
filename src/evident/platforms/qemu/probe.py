"""What this host can do, found out by doing it: a device node and a module's word prove nothing.

* KVM: a ROM of 64 KiB that ends QEMU with a status of its own is run, then the very firmware until it says that it found nothing to
  boot: nested hosts exist that run the one and break down in the other, now and then.
* SEV-SNP: QEMU knows the object, and the kernel's answer to `query-sev-capabilities` says how it encrypts.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evident import processes
from evident.errors import EvidentError, UsageError
from evident.evidence.snp_report import DEFAULT_POLICY
from evident.platforms.qemu import qmp, vm
from evident.platforms.qemu.host import FIRMWARE, PACKAGES, PROGRAM, SEV
from evident.processes import Process

ROLE: Final = "probe"
_EXIT_PORT: Final = 0xF4
_SAYS: Final = b"*"
_ROM_BYTES: Final = 64 * 1024
_KVM: Final = Path("/dev/kvm")
_BARE: Final = ("-nodefaults", "-display", "none", "-machine", "q35")
_BOOT_MANAGER: Final = b"BdsDxe"
_MONITOR: Final = ("-chardev", f"socket,id=qmp,path={vm.QMP_SOCKET},server=on,wait=off", "-mon", "chardev=qmp,mode=control")


@dataclass(frozen=True, slots=True)
class Probed:
    works: bool
    why: str
    """What was seen, for people."""


def program(name: str) -> str:
    """Path of a program that has to be installed. Raises `UsageError` ``qemu.missing``."""
    found = shutil.which(name)
    if found is None:
        raise UsageError.of(
            "qemu.missing",
            expected=f"the program {name}",
            found="none in PATH",
            remedy=f"Install it, on Debian: apt install {PACKAGES.get(name, name)}",
        )
    return found


def firmware() -> bytes:
    """The distribution's OVMF. Raises `UsageError` ``qemu.missing``."""
    for path in FIRMWARE:
        with suppress(OSError):
            return Path(path).read_bytes()
    raise UsageError.of(
        "qemu.missing",
        expected="an OVMF image at one of " + ", ".join(FIRMWARE),
        found="none",
        remedy="Install it, on Debian: apt install ovmf; or pass --firmware.",
    )


def exit_rom() -> bytes:
    """A ROM whose reset vector says `_SAYS` on the debug port and leaves by QEMU's exit device."""
    # fninit; mov al, BYTE; out 0xe9, al; out EXIT, al; hlt; jmp back to hlt
    code = bytes.fromhex("dbe3") + bytes((0xB0, _SAYS[0], 0xE6, 0xE9, 0xE6, _EXIT_PORT)) + bytes.fromhex("f4ebfd")
    return code.rjust(_ROM_BYTES - 16 + len(code), b"\x90").ljust(_ROM_BYTES, b"\x90")


def runs(directory: Path, accelerator: str, *, seconds: float = 10.0) -> Probed:
    """Run `exit_rom` under `accelerator`, with `directory` for its files and its process's record."""
    (directory / "probe.rom").write_bytes(exit_rom())
    (directory / "probe.out").unlink(missing_ok=True)
    words = (program(PROGRAM), *_BARE, "-accel", accelerator, "-m", "64M", "-bios", "probe.rom", "-debugcon", "file:probe.out")
    with _running(directory, (*words, "-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1")) as process:
        if process.wait(seconds) and _read(directory / "probe.out") == _SAYS:
            return Probed(True, "ran a ROM of 64 KiB")
        return Probed(False, processes.output(directory, ROLE) or "a ROM of 64 KiB did not run")


def kvm(directory: Path, image: bytes, *, seconds: float = 5.0) -> Probed:
    """Whether KVM runs the firmware `image` on this host, up to its boot manager, within `seconds`; `directory` as in `runs`."""
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return Probed(False, "/dev/kvm is not there or not yours")
    tiny = runs(directory, "kvm")
    if not tiny.works:
        return tiny
    (directory / "probe.rom").write_bytes(image)
    (directory / "probe.out").unlink(missing_ok=True)
    words = (program(PROGRAM), *_BARE, "-accel", "kvm", "-cpu", "host", "-m", "256M", "-bios", "probe.rom", "-serial", "file:probe.out")
    with _running(directory, (*words, *_MONITOR)) as process:
        return _watch(directory, process, time.monotonic() + seconds)


def _watch(directory: Path, process: Process, deadline: float) -> Probed:
    while time.monotonic() < deadline and not process.wait(0.1):
        if _BOOT_MANAGER in _read(directory / "probe.out"):
            return Probed(True, "ran the firmware up to its boot manager")
        with suppress(EvidentError), qmp.monitor(directory, timeout=1.0) as talk:
            status = str(talk.command("query-status")["status"])
            if status != "running":
                return Probed(False, f"it breaks down in the firmware ({status})")
    return Probed(False, "the firmware did not get to its boot manager")


@contextmanager
def _running(directory: Path, words: Sequence[str]) -> Iterator[Process]:
    """A process on record like every other, for as long as the block."""
    process = processes.start(directory, ROLE, words)
    try:
        yield process
    finally:
        process.stop(grace=0.0)
        processes.forget(directory, ROLE)
        for name in ("probe.rom", "probe.out", vm.QMP_SOCKET):
            (directory / name).unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def snp(directory: Path, *, policy: int = DEFAULT_POLICY) -> vm.Snp | None:
    """How this host runs SEV-SNP guests; None where it does not. `directory` as in `runs`."""
    if not os.access(SEV, os.R_OK | os.W_OK) or not os.access(_KVM, os.R_OK | os.W_OK):
        return None
    words = (program(PROGRAM), "-nodefaults", "-display", "none", "-machine", "none", "-accel", "kvm", *_MONITOR)
    with _running(directory, words) as process:
        for _ in range(50):
            if process.wait(0.1):
                return None
            with suppress(EvidentError), qmp.monitor(directory, timeout=1.0) as talk:
                types = {entry["name"] for entry in talk.command("qom-list-types")}
                answer: Mapping[str, int] = talk.command("query-sev-capabilities")
                return vm.Snp(answer["cbitpos"], answer["reduced-phys-bits"], policy) if "sev-snp-guest" in types else None
    return None
