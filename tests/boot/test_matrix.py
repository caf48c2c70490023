"""Any single change of the host's ends the boot without a served page (BW-19, BW-20), and with its check off it does not.

What is measured (firmware, variables, kernel, initrd, agent, its configuration, command line) is refused by the key server, and no release
is in its log. With just that check taken out of the server the same evidence gets its key.

What is on the disk is not measured: the right machine asks, gets its key, and finds that the disk is another. That cannot be had with the
check off on a real boot: the checks are in the measured guest and in the kernel. `tests/attacks/test_luks_header.py` takes out the guest's
own.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import evident
from evident.evidence import disk as partitions
from evident.guest import luks_header
from evident.image import build, disk, seal
from evident.image.initrd import CONFIGURATION, PYTHON
from evident.keys import release
from evident.lifecycle import disks, keyserver
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.keystore import DiskKey
from evident.platforms.qemu import firmware, launch, probe
from evident.platforms.qemu.order import FIRMWARE, INITRD, KERNEL, Launch

pytestmark = pytest.mark.slow

Desk = Any  # of conftest.py
Overlay = Callable[[Mapping[str, bytes]], bytes]
Change = Callable[[Deployment, Launch], Launch]
STOLEN = "evident: stolen "
FOREIGN_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS.ms.fd")
HEADER_BYTES = 16 << 20  # LUKS2's header and key slots
BLOCK_BYTES = 4096
BACKUP_TABLE_BYTES = 1 << 20  # the second partition table, at the end of the disk


def changed_file(name: str, how: Callable[[bytes], bytes]) -> Change:
    def change(shop: Deployment, ordered: Launch) -> Launch:
        path = shop.machine / name
        path.write_bytes(how(path.read_bytes()))
        return ordered

    return change


def flipped(raw: bytes) -> bytes:
    at = 0x8000
    return raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]


def lengthened(raw: bytes) -> bytes:
    return raw + bytes(512)


def with_foreign_variables(_: bytes) -> bytes:
    """The distribution's firmware, with keys that somebody else enrolled for Secure Boot in the variables that come with it (AT-47)."""
    raw, foreign = probe.firmware(), FOREIGN_VARIABLES.read_bytes()
    variables = bytes(new if new != 0xFF else old for new, old in zip(foreign, raw, strict=False))
    return firmware.with_hash_page(variables + raw[len(foreign) :])


def source(module: str) -> bytes:
    return (Path(evident.__file__).parent / module).read_bytes()


def disloyal_agent() -> bytes:
    """The guest's agent, but that it tells the console the key."""
    honest, telling = (
        b"        libc.wipe(secret)\n",
        b"        open('/dev/console', 'w').write(f'" + STOLEN.encode() + b"{volume.key.hex()}\\n')\n",
    )
    assert honest in source("guest/agent.py")
    return source("guest/agent.py").replace(honest, telling + honest)


def appended(files: Callable[[], Mapping[str, bytes]]) -> Callable[[Overlay], Change]:
    return lambda overlay: changed_file(INITRD, lambda raw: raw + bytes(-len(raw) % 512) + overlay(files()))


OTHER_WORKLOAD = json.dumps(
    {"units": [{"name": "desk", "command": ["/usr/bin/python3", "-c", "print('another workload')"], "owner": 1000}]}
).encode()


@dataclass(frozen=True)
class Measured:
    """One change, and the finding that names it."""

    what: str
    identifier: str
    change: Callable[[Overlay], Change]
    code: str


MEASURED = {
    "firmware": Measured("One byte of the firmware.", "AT-06", lambda _: changed_file(FIRMWARE, flipped), "launch.firmware"),
    "variables": Measured(
        "Foreign keys in the firmware's variables.", "AT-47", lambda _: changed_file(FIRMWARE, with_foreign_variables), "launch.firmware"
    ),
    "kernel": Measured("Bytes behind the kernel.", "AT-07", lambda _: changed_file(KERNEL, lengthened), "launch.kernel"),
    "initrd": Measured("Bytes behind the initrd.", "AT-08", lambda _: changed_file(INITRD, lengthened), "launch.initrd"),
    "command line": Measured(
        "A parameter more.",
        "AT-09",
        lambda _: lambda _, ordered: replace(ordered, command_line=ordered.command_line + " quiet"),
        "launch.cmdline",
    ),
    "agent": Measured(
        "The agent tells the console the key.",
        "AT-41",
        appended(lambda: {f"{PYTHON}/evident/guest/agent.py": disloyal_agent()}),
        "launch.initrd",
    ),
    "collector": Measured(
        "Another source of evidence.",
        "AT-42",
        appended(lambda: {f"{PYTHON}/evident/guest/sources/simulated.py": source("guest/sources/simulated.py") + b"\n# changed\n"}),
        "launch.initrd",
    ),
    "agent's configuration": Measured("Another workload.", "AT-43", appended(lambda: {CONFIGURATION: OTHER_WORKLOAD}), "launch.initrd"),
}


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=pytest.mark.attack(row.identifier, row.what, row.code), id=name) for name, row in MEASURED.items()]
)
def test_what_is_measured(
    desk: Desk, cheat: Callable[[Change], None], overlay: Overlay, server_here: Any, row: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key server denies for this alone; and on the very same evidence it releases, once it takes whatever the statement says."""
    cheat(row.change(overlay))
    assert desk.up("shop") != 0
    assert desk.events == ["challenged", "denied"]
    assert desk.log[-1].codes == (row.code,), "one check stops it, and no other is switched off below"
    shop = desk.shop("shop")
    assert any("guest.denied" in text for text in desk.failures(shop))
    assert not any(launch.READY in text or STOLEN in text for text in desk.console(shop))
    monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    server_here.decide_again()
    assert desk.events == ["challenged", "denied", "released"]


@pytest.mark.attack("AT-41", "The agent tells the console the key.", "launch.initrd", "succeeds")
@pytest.mark.usefixtures("server_here", "until_decided")
def test_a_disloyal_agent_that_nobody_measures_gives_the_key_away(
    desk: Desk, cheat: Callable[[Change], None], overlay: Overlay, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    keys = kept_keys(monkeypatch)
    monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    cheat(MEASURED["agent"].change(overlay))
    assert desk.up("shop") == 12, "asked before it answers"
    eventually(lambda: any(STOLEN + keys[0].hex() in text for text in desk.console(desk.shop("shop"))), "the stolen key on the console")


def kept_keys(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The disk keys that are made from now on."""
    keys: list[bytes] = []
    register = keyserver.register

    def keeping(target: Deployment, made: DiskKey) -> None:
        keys.append(made.key)
        register(target, made)

    monkeypatch.setattr(keyserver, "register", keeping)
    return keys


def raw_disk(shop: Deployment) -> Path:
    (only,) = disks.made(shop.directory)
    return only


def data_partition(path: Path) -> int:
    """Where the encrypted partition begins."""
    with path.open("rb") as stream:
        table, sector = partitions.read_partition_table(stream.read(1 << 20))
    return next(each.first for each in table.partitions if each.name == "data") * sector


def changed_disk(how: Callable[[mmap.mmap, int], None]) -> Change:
    """`how` gets the disk, and where its encrypted partition begins."""

    def change(shop: Deployment, ordered: Launch) -> Launch:
        first = data_partition(raw_disk(shop))
        with raw_disk(shop).open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as raw:
            how(raw, first)
        return ordered

    return change


def flipped_header(raw: mmap.mmap, first: int) -> None:
    raw[first] ^= 1


def with_null_cipher(raw: mmap.mmap, first: int) -> None:
    """Both header copies say that the volume is not encrypted, and their checksums agree (CVE-2025-59054)."""
    size = seal.HEADER_BYTES
    for at in (first, first + size):
        metadata = luks_header.parse(raw[at : at + size], 0 if at == first else 1).metadata
        metadata["segments"]["0"]["encryption"] = "cipher_null-ecb"
        text = json.dumps(metadata, separators=(",", ":")).encode().ljust(size - BLOCK_BYTES, b"\0")
        before, rest = raw[at : at + 448], bytes(BLOCK_BYTES - 512) + text
        raw[at : at + size] = before + hashlib.sha256(before + bytes(64) + rest).digest().ljust(64, b"\0") + rest


def flipped_data(raw: mmap.mmap, first: int) -> None:
    """One byte in every block of the volume but for its beginning, where dm-integrity keeps its journal: some of them are surely read."""
    beginning = first + HEADER_BYTES + (len(raw) - first - HEADER_BYTES) // 8
    for at in range(beginning, len(raw) - BACKUP_TABLE_BYTES, BLOCK_BYTES):
        raw[at] ^= 1


def another_disk(shop: Deployment, ordered: Launch) -> Launch:
    """A disk of this image that is not this machine's: another deployment's, or the one before an update (AT-14)."""
    size = raw_disk(shop).stat().st_size - 2 * disk.ALIGNMENT
    partition = disk.Partition("data", disk.LINUX_DATA, uuid.UUID(int=7, version=4), b"", size)
    disk.write(raw_disk(shop), uuid.UUID(int=8, version=4), [partition])
    return ordered


ON_DISK: dict[str, tuple[str, Change, str]] = {
    "disk header": ("One byte of the disk's header.", changed_disk(flipped_header), "luks."),
    "null cipher": ("A header that says the disk is not encrypted.", changed_disk(with_null_cipher), "luks."),
    "data": ("Encrypted data.", changed_disk(flipped_data), "guest."),
    "another disk": ("Another disk of the same image.", another_disk, "guest.disk"),
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(change, code, marks=pytest.mark.attack("BW-20", what, code, "refused"), id=name)
        for name, (what, change, code) in ON_DISK.items()
    ],
)
def test_what_is_on_the_disk(desk: Desk, cheat: Callable[[Change], None], change: Change, code: str) -> None:
    cheat(change)
    assert desk.up("shop") != 0
    ended(desk, code)


def ended(desk: Desk, code: str) -> None:
    """The right machine got its key, and stopped where the disk was not the right one."""
    shop = desk.shop("shop")
    assert desk.events == ["challenged", "released", "confirmed"]
    assert any(f"evident: failed {code}" in text for text in desk.failures(shop)), desk.console(shop)[-20:]
    assert not any(launch.READY in text for text in desk.console(shop))


@pytest.mark.attack("AT-11", "Root file system or hash tree are changed under the machine's own encryption.", "guest.verity", "refused")
@pytest.mark.attack("BW-17", "A root file system that is not the measured one, sealed under the right key.", "guest.verity", "refused")
@pytest.mark.parametrize("part", ["hash tree", "root file system"])
def test_what_is_under_the_measured_root_hash(desk: Desk, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Whoever has the disk's key can seal anything: dm-verity stops what the measured root hash does not cover."""
    sealed, read = seal.seal, (desk.image / build.ROOT).stat().st_size

    def other(content: bytes, *given: Any, **named: Any) -> seal.Sealed:
        changed = bytearray(content)
        for at in range(read if part == "hash tree" else 1024, len(changed) if part == "hash tree" else read, BLOCK_BYTES):
            changed[at] ^= 1
        return sealed(bytes(changed), *given, **named)

    monkeypatch.setattr(seal, "seal", other)
    assert desk.up("shop") != 0
    shop = desk.shop("shop")
    assert desk.events == ["challenged", "released", "confirmed"]
    text = "\n".join(desk.console(shop))
    assert "evident: failed guest.verity" in text if part == "hash tree" else "dm-verity device corrupted" in text
    assert launch.READY not in text


def test_a_wrong_key_opens_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    register = keyserver.register
    monkeypatch.setattr(keyserver, "register", lambda target, made: register(target, DiskKey(made.disk, os.urandom(64))))
    assert desk.up("shop") != 0
    ended(desk, "guest.luks.key")
