"""The encrypted profile from power-on to a served page, its end by revocation, and two machines of one image."""

from __future__ import annotations

import http.client
import json
import mmap
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.boot import memory

from evident.cli.main import main
from evident.endorsements import x509
from evident.errors import PolicyRefused
from evident.evidence import disk as partitions
from evident.image import seal
from evident.lifecycle import disks, keyserver
from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import console, launch, qmp
from evident.platforms.qemu.order import read_launch

pytestmark = pytest.mark.slow
Desk = Any  # of conftest.py
MARKER = b"marker of the desk"
JOURNAL_BYTES = 3 << 20
"""What dm-integrity writes is in the first of it."""
NEVER_READ = b"evident " * (1 << 17)
"""What ``/never-read-before`` holds, from conftest.py."""
STEPS = ["devices", "network", "key", "challenge", "evidence", "release", "luks", "verity", "root"]


def fetch(shop: Deployment, path: str = "/", *, seconds: float = 20.0) -> bytes:
    """What the workload serves; nothing while it is starting, and nothing that breaks off."""
    with qmp.monitor(shop.machine) as talk:
        port = talk.forwarded()[8080]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as answer:  # an address of ours
            content: bytes = answer.read()
            return content
    except (OSError, http.client.HTTPException):
        return b""


@pytest.mark.attack("AT-15", "The host reads the disk of a machine.", "encryption in the guest")
@pytest.mark.attack("AT-16", "What a running machine has not read yet is changed.", "an error of dm-crypt's", "refused")
@pytest.mark.attack("AT-36", "The disk of a running machine is edited.", "an error of dm-crypt's", "refused")
def test_from_power_on_to_a_served_page(
    desk: Desk, capsys: pytest.CaptureFixture[str], registered: list[bytes], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    """BW-10 to BW-18, BW-31: the order of the steps, one release, the statement of a running machine; then it is revoked (BW-21)."""
    shop = desk.shop("shop")
    assert desk.up("shop") == 0
    assert [step.name for step in console.steps(shop.machine) if step.event == "done"] == STEPS
    assert desk.events == ["challenged", "released", "confirmed"]
    eventually(lambda: MARKER in fetch(shop), "a served page")
    capsys.readouterr()
    assert main(["attest", "shop", "-o", "json", "--certificate", str(desk.home / "shop.pem")]) == 0
    statement = json.loads(capsys.readouterr().out)
    assert (statement["decision"], statement["simulated"]) == ("accepted", True)
    assert statement["levels"] == {"nominal": 4, "trustworthy": 4}
    assert {"firmware", "boot_chain", "root_filesystem"} <= {layer["name"] for layer in statement["layers"]}
    # AT-15: the host finds the marker in the plain image, and not on the disk that the machine runs from.
    assert MARKER in (desk.image / "root.erofs").read_bytes()
    assert MARKER not in disks.made(shop.directory)[0].read_bytes()
    no_copy_of(registered[0], shop.surroundings.state)
    no_copy_in_memory(shop, registered[0], tmp_path)
    an_edit_of_the_running_disk(desk, shop, eventually)
    denied_from_now_on(desk, shop)
    another_machine_of_the_image(desk, eventually)


def no_copy_of(key: bytes, state: Path) -> None:
    """AT-48: the disk's key is in no file of its owner's host, the console's log among them."""
    forms = memory.forms(key).values()
    files = [path for path in state.rglob("*") if path.is_file() and path.stat().st_size]
    assert {"console.log", "release.jsonl"} <= {path.name for path in files}
    assert any(path.match("disk-*.raw") for path in files)
    for path in files:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            assert not any(raw.find(form) >= 0 for form in forms), path


def no_copy_in_memory(shop: Deployment, key: bytes, scratch: Path) -> None:
    """BW-16: nor, in whole or in part, in the memory of the machine, whose disk is open. What is known to be there is found."""
    known = {"a page of it": MARKER, "a word of its command line": b"roothash="}
    assert memory.copies(shop, {**memory.forms(key), **known}, scratch).keys() == known.keys()


def an_edit_of_the_running_disk(desk: Desk, shop: Deployment, eventually: Callable[..., None]) -> None:
    """AT-16, AT-36: what was not read before the host changed it is not served as if nothing had happened, and the console says why."""
    (path,) = disks.made(shop.directory)
    with path.open("rb") as stream:
        table, sector = partitions.read_partition_table(stream.read(1 << 20))
    volume = next(each.first for each in table.partitions if each.name == "data") * sector + seal.DATA_OFFSET
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as raw:
        for at in range(volume + JOURNAL_BYTES, len(raw) - (1 << 20), seal.BLOCK):
            raw[at] ^= 1
    assert NEVER_READ not in fetch(shop, "/never-read-before")
    eventually(lambda: any("INTEGRITY AEAD ERROR" in text for text in desk.console(shop)), "an error of dm-crypt's")


def denied_from_now_on(desk: Desk, shop: Deployment) -> None:
    assert main(["revoke", "shop", "--reason", "a test"]) == 0
    assert not any(shop.driver().parts(shop.machine).values())
    platform, ordered = shop.driver(), read_launch(shop.machine)
    for left in (*shop.machine.glob("*.sock"), shop.machine / console.HEAD):
        left.unlink()
    keyserver.begin(shop, shop.surroundings.state / "cache")
    platform._start(shop.machine, ordered)  # the host starts it again, with all that it had
    with pytest.raises(PolicyRefused, match=r"guest\.denied.*keys\.revoked"):
        platform.settle(shop.machine)
    assert desk.log[-1].codes == ("keys.revoked",)
    assert desk.events.count("released") == 1


def another_machine_of_the_image(desk: Desk, eventually: Callable[..., None]) -> None:
    """BW-21: the revocation of one machine is not that of its image."""
    other = desk.shop("other")
    assert desk.up("other") == 0
    assert desk.events.count("released") == 2
    assert any(launch.READY in text for text in desk.console(other))
    eventually(lambda: bool(fetch(other)), "an agent, and a page")
    assert main(["attest", "other", "--certificate", str(desk.home / "other.pem")]) == 0
    keys = {x509.load((desk.home / f"{name}.pem").read_bytes()).spki for name in ("shop", "other")}
    assert len(keys) == 2, "EI-04: a key of its own for every boot"
