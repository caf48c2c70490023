"""Step 7 without a key server, where the measured command line says so: a machine that was released once opens its disk again by itself.

After a release the machine enrols: it adds a second key slot to the disk's header, for a passphrase that this launch alone gets again
(`evident.guest.sealing`). A later boot tries that first. Where it does not open (nothing enrolled, another chip, another image, a TPM that
was changed) the key server is asked as ever, and the slot is made anew. Which way it went is on the console.

The header stays the host's to change. It is read, checked and copied into memory as for every other boot; cryptsetup adds the slot to
that copy, which is checked again and written back: first the slot's own area, then the second copy of the header, then the first, each on
disk before the next. The slot of the released key is never written. Power that fails in between leaves one intact copy, which
`luks_header.mended` takes; before the next write both are made whole again. So all that a host gains by changing any of it is that the
key server is asked, or that the boot ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evident.errors import EvidentError, NotAuthentic
from evident.guest import libc, luks_header, sealing
from evident.guest.config import CommandLine
from evident.guest.console import Console, reason
from evident.guest.sources import vtpm
from evident.guest.sources.sev_guest import SevGuest
from evident.guest.sources.simulated import SimulatedProcessor
from evident.guest.sources.vtpm import Opener
from evident.guest.steps import disk
from evident.guest.tpm_device import Tpm

SLOT = "1"
"""The released key's is 0."""
ITERATIONS = 1000
"""LUKS2's least: nobody guesses the passphrase, and stretching it would only delay the boot."""
LABEL = "disk"


@dataclass(frozen=True, slots=True)
class Way:
    """How this machine comes by the passphrase of its own slot. Both raise `EvidentError` where there is no such way here."""

    recall: Callable[[], bytes]
    """The one of an earlier boot."""
    enrol: Callable[[], bytes]
    """One that later boots of this launch can recall."""
    known_to: str
    """Who has it too, where somebody has; for the console."""


def way(line: CommandLine) -> Way:
    """As the measured command line says: `launch` or `tpm`."""
    if line.reopened == "launch":
        simulated = line.tee == "simulated"
        derive = partial(sealing.launch_key, SimulatedProcessor() if simulated else SevGuest(), LABEL)
        return Way(derive, derive, " (simulated: the host has this key)" if simulated else "")
    return through_tpm(vtpm.device)


def through_tpm(opener: Opener) -> Way:
    """The TPM keeps a random passphrase for boots like this one."""

    def recall() -> bytes:
        with opener() as transact:
            return sealing.unseal(Tpm(transact))

    def enrol() -> bytes:
        passphrase = os.urandom(sealing.KEY_BYTES)
        with opener() as transact:
            sealing.seal(Tpm(transact), passphrase)
        return passphrase

    return Way(recall, enrol, " (whoever runs the TPM has this key)")


def opened(console: Console, line: CommandLine, name: str) -> bool:
    """Whether the disk opened as the device `name` by this machine's own passphrase; else why not is on the console."""
    try:
        device, own = disk.partition(line.data), way(line)
        _check_enrolled(device)
        with console.step("luks"):
            disk.open_luks(device, name, own.recall(), mend=True)
    except (EvidentError, OSError) as error:
        console.say(f"not reopened by {line.reopened}, so the key server is asked: {reason(error)}")
        return False
    console.say(f"reopened by {line.reopened}, without the key server{own.known_to}")
    return True


def _check_enrolled(device: Path) -> None:
    slots = disk.check_header(device, mend=True).slots
    if SLOT not in slots:
        raise NotAuthentic.of(
            "guest.reopen.nothing",
            expected=f"a key slot {SLOT}, enrolled after a release",
            found="slots " + ", ".join(slots),
            remedy="None at the first boot: the key server releases the key, and the slot is made.",
            layer="storage",
        )


def enrol(console: Console, line: CommandLine, device: Path, key: bytes) -> None:
    """Have later boots open `device`, which `key` opens now. Where that fails it is said, and the boot goes on: it was released."""
    try:
        own = way(line)
        write(device, key, own.enrol())
    except (EvidentError, OSError) as error:
        console.say(f"not enrolled, so the next boot asks the key server again: {reason(error)}")
    else:
        console.say(f"enrolled: later boots of this launch reopen by {line.reopened}{own.known_to}")


def write(device: Path, key: bytes, passphrase: bytes) -> None:
    """Put `passphrase` into slot `SLOT` of `device`, by its key of another slot; the passphrase is wiped. Raises `EvidentError`."""
    try:
        before = disk.check_header(device, mend=True)
        _mend(device)
        if SLOT in before.slots:
            _change("luksKillSlot", key, SLOT)
        _add(key, passphrase)
        _write_back(device, {*before.slots, SLOT})
    finally:
        libc.wipe(passphrase)
        disk.HEADER.unlink(missing_ok=True)


def _mend(device: Path) -> None:
    """Make both copies on the disk what the mended header in memory says: the one intact copy must not be the first to be written over."""
    mended = disk.HEADER.read_bytes()
    size = luks_header.parse(mended).size
    with device.open("rb") as stream:
        there = stream.read(2 * size)
    copies = ((0, size), (size, 2 * size))
    _put(device, mended, *((begin, end) for begin, end in copies if there[begin:end] != mended[begin:end]))


def _put(device: Path, content: bytes, *parts: tuple[int, int]) -> None:
    """Write these parts of `content` where they belong, each on the disk before the next."""
    with device.open("r+b") as stream:
        for begin, end in parts:
            stream.seek(begin)
            stream.write(content[begin:end])
            stream.flush()
            os.fsync(stream.fileno())


def _add(key: bytes, passphrase: bytes) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, passphrase)
        os.close(writing)
        stretched = ("--pbkdf", "pbkdf2", "--hash", "sha256", "--pbkdf-force-iterations", str(ITERATIONS))
        _change("luksAddKey", key, f"/proc/self/fd/{reading}", stretched, inherited=(reading,))
    finally:
        os.close(reading)


def _change(action: str, key: bytes, what: str, options: tuple[str, ...] = (), inherited: tuple[int, ...] = ()) -> None:
    """Have cryptsetup change the header in memory."""
    command = (disk.CRYPTSETUP, action, "--batch-mode", "--key-file", "-", *options, str(disk.HEADER), what)
    disk.run_tool(command, "guest.reopen.slot", "a header that takes a key slot", secret=key, inherited=inherited)


def _write_back(device: Path, slots: set[str]) -> None:
    """The header in memory, checked as any other, onto the disk; only what was changed, and never both copies at once."""
    changed = disk.HEADER.read_bytes()
    checked, size = luks_header.check(changed), luks_header.parse(changed).size
    if checked.slots.keys() != slots:
        raise NotAuthentic.of(
            "guest.reopen.slot",
            expected="key slots " + ", ".join(sorted(slots)),
            found=", ".join(checked.slots),
            remedy="Make the disk anew: its header is not as `evident up` makes it.",
            layer="storage",
        )
    _put(device, changed, checked.slots[SLOT], (size, 2 * size), (0, size))
