"""Steps 7 and 9: find partitions by their PARTUUID, open LUKS with the released key, and dm-verity with the measured root hash.

Both tools run without shell or configuration. What the host may change between a check and its use is taken out of its hands first:
the LUKS header that was checked is copied into memory, and cryptsetup reads that copy; the root hash is the measured one.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from evident.errors import EvidentError, Indeterminate, Malformed, NotAuthentic
from evident.evidence import disk
from evident.guest import libc, luks_header
from evident.guest.luks_header import Checked

BLOCKS = Path("/sys/class/block")
DEVICES = Path("/dev")
MAPPED = Path("/dev/mapper")
HEADER = Path("/run/evident/luks-header")
CRYPTSETUP, VERITYSETUP = "/usr/sbin/cryptsetup", "/usr/sbin/veritysetup"
TABLE_BYTES = 1024 * 1024
_SECTOR = 512
_PATIENCE = 600.0
"""Seconds for one tool: key derivation and, under emulation, much more."""


def partition(identifier: str, *, blocks: Path = BLOCKS, devices: Path = DEVICES, patience: float = 10.0) -> Path:
    """The device whose GPT entry has this PARTUUID; `Indeterminate` ``guest.disk`` when none comes, `NotAuthentic` for two of them."""
    deadline = time.monotonic() + patience
    while True:
        found = [device for block in sorted(blocks.iterdir()) for device in _matching(block, identifier, devices)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotAuthentic.of(
                "guest.disk.twice",
                expected=f"one partition {identifier}",
                found=", ".join(map(str, found)),
                remedy="Attach the disk once; a copy of it is a trap.",
                layer="storage",
            )
        if time.monotonic() >= deadline:
            raise Indeterminate.of(
                "guest.disk", expected=f"a partition {identifier}", found="none", remedy="Attach the disk of this image.", layer="storage"
            )
        time.sleep(0.05)


def _matching(block: Path, identifier: str, devices: Path) -> list[Path]:
    """Partitions of the whole disk `block` with this PARTUUID. The kernel's view of where they begin must agree with the table's."""
    if (block / "partition").exists() or not any(block.glob("*/partition")):
        return []
    try:
        with (devices / block.name).open("rb") as stream:
            table, sector = disk.read_partition_table(stream.read(TABLE_BYTES))
    except (OSError, Malformed):
        return []
    starts = {item.first * sector // _SECTOR for item in table.partitions if item.guid == identifier}
    parts = (entry.parent for entry in block.glob("*/partition"))
    return sorted(devices / part.name for part in parts if int((part / "start").read_text()) in starts)


def check_header(device: Path, *, mend: bool = False) -> Checked:
    """Check the LUKS header of `device` and keep it in memory (`HEADER`), for the tools to read that very copy.

    `mend`: this machine writes it, and may have been stopped at that (`luks_header.mended`).
    """
    with device.open("rb") as stream:
        copies = stream.read(luks_header.COPIES_BYTES)
        copies = luks_header.mended(copies) if mend else copies
        checked = luks_header.check(copies)
        slots = stream.read(max(0, checked.used - len(copies)))
    HEADER.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # what others may read there is for each file to say
    HEADER.touch(mode=0o600)
    with HEADER.open("wb") as kept:
        kept.write((copies + slots)[: checked.used])
        kept.truncate(checked.data_offset)
    return checked


def open_luks(device: Path, name: str, key: bytes, *, mend: bool = False) -> Path:
    """Open `device` with `key`, handed over by a pipe; the key is wiped. `mend` as for `check_header`. Raises `NotAuthentic`
    ``guest.luks.key``.
    """
    check_header(device, mend=mend)
    command = (CRYPTSETUP, "open", "--type", "luks2", "--batch-mode", "--key-file", "-", "--header", str(HEADER), str(device), name)
    try:
        run_tool(command, "guest.luks.key", "a LUKS volume that this key opens", secret=key)
    finally:
        libc.wipe(key)
        HEADER.unlink(missing_ok=True)
    return MAPPED / name


def open_verity(data: Path, tree: Path, root_hash: bytes, name: str, *, offset: int = 0) -> Path:
    """Map `data` as `root_hash` says it is; `tree` holds the hashes, at `offset` bytes. Raises `NotAuthentic` ``guest.verity``."""
    place = (f"--hash-offset={offset}",) if offset else ()
    command = (VERITYSETUP, "open", *place, "--panic-on-corruption", str(data), name, str(tree), root_hash.hex())
    run_tool(command, "guest.verity", f"a hash tree whose root is {root_hash.hex()}")
    return MAPPED / name


def run_tool(command: tuple[str, ...], code: str, expected: str, *, secret: bytes = b"", inherited: tuple[int, ...] = ()) -> None:
    """Run a tool, `secret` at its standard input, with these descriptors besides. Raises `NotAuthentic` `code` with what it says."""
    environment = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C", "DM_DISABLE_UDEV": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - fixed program, no shell
            command, input=secret, capture_output=True, env=environment, timeout=_PATIENCE, check=False, pass_fds=inherited
        )
        found, failed = done.stderr.decode("ascii", "replace").strip().replace("\n", "; ")[-300:], done.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        found, failed = f"{command[0]}: {type(error).__name__}", -1
    if failed:
        raise _refused(code, expected, found or f"exit code {failed}")


def _refused(code: str, expected: str, found: str) -> EvidentError:
    return NotAuthentic.of(
        code,
        expected=expected,
        found=found,
        remedy="The disk is another one, or somebody changed it: restore your own copy.",
        layer="storage",
    )
