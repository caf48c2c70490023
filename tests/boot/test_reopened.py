"""A machine that was released once opens its disk again without its key server (BW-25): by its launch (RV-09), and by a TPM (FS-05).

Each is started again by its owner, with a key server that cannot start because its wrapping key is elsewhere; then by its host, who changed
what it boots. That falls back to the key server, which denies. And what a host keeps after a revocation is shown, not hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.boot.owner import Owner, digest
from tests.boot.test_uki import on_the_disk, with_another_command_line

from evident import processes
from evident.errors import EvidentError, PolicyRefused
from evident.evidence import disk as partitions
from evident.guest import luks_header
from evident.lifecycle import disks, keyserver
from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import console, launch
from evident.platforms.qemu.order import read_launch, write_launch
from evident.verification.snp_tpm import OPERATOR

pytestmark = pytest.mark.life
Desk = Any  # of conftest.py
MARKER = b"marker of the desk"
FIRST = ["devices", "network", "key", "challenge", "evidence", "release", "luks", "verity", "root"]
AGAIN = ["devices", "network", "luks", "verity", "root"]
RELEASED = ["challenged", "released", "confirmed"]


def steps(shop: Deployment) -> list[str]:
    return [step.name for step in console.steps(shop.machine) if step.event == "done"]


def says(desk: Desk, shop: Deployment, text: str) -> bool:
    return any(text in line for line in desk.console(shop))


def slots(shop: Deployment) -> set[str]:
    """Key slots in the header on the host's disk, which is whole."""
    path = disks.made(shop.directory)[0]
    return set(luks_header.check(path.read_bytes()[header_of(path) :][: luks_header.COPIES_BYTES]).slots)


def header_of(path: Path) -> int:
    """Where it begins on this disk."""
    with path.open("rb") as stream:
        table, sector = partitions.read_partition_table(stream.read(1 << 20))
    return next(each.first for each in table.partitions if each.name == "data") * sector


def loses_power(shop: Deployment) -> None:
    """While it wrote the first copy of the header: half of it is zeros."""
    path = disks.made(shop.directory)[0]
    begin = header_of(path)
    with path.open("r+b") as stream:
        stream.seek(begin + 4096)
        stream.write(bytes(4096))
    with pytest.raises(EvidentError, match=r"luks\.checksum"):
        slots(shop)


def comes_up(desk: Desk, owner: Owner, way: str) -> None:
    owner.types("up", str(owner.path))
    assert steps(owner.shop) == FIRST
    assert says(desk, owner.shop, "not reopened by " + way + ", so the key server is asked: guest.reopen.nothing")
    assert says(desk, owner.shop, f"enrolled: later boots of this launch reopen by {way}")
    assert desk.events == RELEASED
    assert slots(owner.shop) == {"0", "1"}


def comes_up_again_without_its_key_server(
    desk: Desk, owner: Owner, way: str, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    """What its owner types is the same; the wrapping key is not on this host any more."""
    shop = owner.shop
    keyserver.end(shop)
    shop.driver().halt(shop.machine)
    with monkeypatch.context() as patch:
        patch.setenv("EVIDENT_WRAPPING_KEY", str(desk.home / "elsewhere"))
        _, said = owner.types("up", str(owner.path))
    assert f"without its key server, which does not start; the disk has to open by its {way}" in said
    assert not any(process.alive for process in processes.recorded(shop.directory))
    assert steps(shop) == AGAIN
    assert says(desk, shop, f"reopened by {way}, without the key server")
    assert desk.events == RELEASED, "nobody was asked"
    eventually(lambda: MARKER in owner.page(), "a page served again")
    statement = owner.asks("attest", "shop")
    assert (statement["decision"], statement["simulated"]) == ("accepted", True)


def is_started_by_its_host(shop: Deployment) -> None:
    """With its key server there to ask."""
    shop.driver().halt(shop.machine)
    keyserver.begin(shop, shop.surroundings.state / "cache")
    shop.driver().start(shop.machine)
    shop.driver().settle(shop.machine)


def falls_back_and_is_denied(desk: Desk, shop: Deployment, way: str, code: str) -> None:
    with pytest.raises(PolicyRefused, match=rf"guest\.denied.*{code}"):
        is_started_by_its_host(shop)
    assert says(desk, shop, f"not reopened by {way}, so the key server is asked: guest.")
    assert not says(desk, shop, launch.READY)
    assert desk.events == [*RELEASED, "challenged", "denied"]
    assert code in desk.log[-1].codes


@pytest.mark.attack("RV-09", "Another command line asks the chip for the key of the disk.", "guest.luks.key, launch.cmdline", "refused")
@pytest.mark.attack("BW-21", "The host of a revoked machine starts it again; its disk opens by its launch.", "not covered", "succeeds")
def test_a_disk_opens_by_its_launch_alone(
    desk: Desk, owner: Owner, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    owner.write({"path": str(desk.image), "sha256": digest(desk.image)}, disks={"root_key": "key-server", "reopened_by": "launch"})
    comes_up(desk, owner, "launch")
    loses_power(owner.shop)
    comes_up_again_without_its_key_server(desk, owner, "launch", monkeypatch, eventually)
    assert says(desk, owner.shop, "(simulated: the host has this key)")

    ordered = read_launch(owner.shop.machine)
    write_launch(owner.shop.machine, replace(ordered, command_line=f"{ordered.command_line} quiet"))
    falls_back_and_is_denied(desk, owner.shop, "launch", r"launch.cmdline")
    write_launch(owner.shop.machine, ordered)

    _, said = owner.types("revoke", "shop", "--reason", "a test")
    assert "its disk opens by its launch wherever its host starts it again" in said
    is_started_by_its_host(owner.shop)
    assert says(desk, owner.shop, "reopened by launch, without the key server"), "docs/guest.md says so"


@pytest.mark.attack("FS-05", "Another UKI asks the TPM for the passphrase of the disk.", "guest.tpm.unavailable, boot.cmdline", "refused")
def test_a_disk_opens_by_the_tpm_of_the_same_boot_alone(
    desk: Desk, owner: Owner, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    trusting = {"version": 1, "levels": {"nominal": 4, "trustworthy": 2}, "accepted_trust": [OPERATOR], "allow_simulated": True}
    named = {"path": str(desk.image), "sha256": digest(desk.image)}
    disk = {"root_key": "key-server", "reopened_by": "tpm"}
    owner.write(named, disks=disk, where={"qemu": {"boot": "uki"}}, policy=trusting)
    comes_up(desk, owner, "tpm")
    comes_up_again_without_its_key_server(desk, owner, "tpm", monkeypatch, eventually)
    assert says(desk, owner.shop, "(whoever runs the TPM has this key)")
    owner.shop.driver().halt(owner.shop.machine)
    on_the_disk(with_another_command_line)(owner.shop, read_launch(owner.shop.machine))
    falls_back_and_is_denied(desk, owner.shop, "tpm", r"boot.cmdline")
