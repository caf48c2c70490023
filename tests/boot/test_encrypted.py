"""The encrypted profile from power-on to a served page, and every single change of BW-19 and BW-20 ending without one.

The image is that of ``desk.yaml``, built once (set EVIDENT_IMAGE_STORE to a folder that keeps its packages between runs).
"""

from __future__ import annotations

import json
import mmap
import os
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evident.cli.deployments import surroundings
from evident.cli.main import main
from evident.evidence import disk as partitions
from evident.keys.log import ReleaseLog
from evident.lifecycle import keyserver, keystore
from evident.lifecycle.deployment import Deployment, deployment, deployments
from evident.lifecycle.farewell import down
from evident.lifecycle.keystore import DiskKey
from evident.platforms.qemu import console, launch, qmp
from evident.platforms.qemu.order import FIRMWARE, INITRD, KERNEL, Launch, write_launch
from evident.simulator.pki import SimulatorPki

pytestmark = pytest.mark.slow
MARKER = b"marker of the desk"
STEPS = ["devices", "network", "key", "challenge", "evidence", "release", "luks", "verity", "root"]


@dataclass(frozen=True)
class Desk:
    """A home with an image in it."""

    image: Path

    def up(self, name: str) -> int:
        return main(["up", name, "--platform", "qemu", "--image", str(self.image), "--publish", "8080"])

    def shop(self, name: str) -> Deployment:
        return deployment(name, surroundings())

    @property
    def log(self) -> ReleaseLog:
        return keystore.open_store(surroundings()).log


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, simulator_pki: SimulatorPki) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVIDENT_HOME", str(home))
        simulator_pki.save(home / "state" / "simulator")
        spec = home / "desk.yaml"
        spec.write_bytes((Path(__file__).parent / "desk.yaml").read_bytes())
        store = os.environ.get("EVIDENT_IMAGE_STORE", str(home / "packages"))
        assert main(["image", "build", str(spec), "--out", str(home / "image"), "--store", store]) == 0
        yield Desk(home / "image")
        for each in deployments(surroundings()):
            down(each)


def failures(shop: Deployment) -> list[str]:
    return [text for _, text in console.lines(shop.machine) if "evident: failed" in text]


def page(port: int) -> bytes:
    """What the workload serves; nothing while it is starting."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:  # an address of ours
            content: bytes = answer.read()
            return content
    except OSError:
        return b""


def test_from_power_on_to_a_served_page(desk: Desk, capsys: pytest.CaptureFixture[str], eventually: Callable[..., None]) -> None:
    """BW-10 to BW-18, BW-31: the order of the steps, one release, and the statement of a running machine."""
    shop = desk.shop("shop")
    assert desk.up("shop") == 0
    said = [(step.number, step.name) for step in console.steps(shop.machine) if step.event == "done"]
    assert said == list(enumerate(STEPS, start=1))
    assert [entry.event for entry in desk.log.entries()] == ["challenged", "released", "confirmed"]
    with qmp.monitor(shop.machine) as talk:
        port = talk.forwarded()[8080]
    eventually(lambda: MARKER in page(port), "a served page", seconds=60)
    capsys.readouterr()
    assert main(["attest", "shop", "-o", "json"]) == 0
    statement = json.loads(capsys.readouterr().out)
    assert (statement["decision"], statement["simulated"]) == ("accepted", True)
    assert statement["levels"] == {"nominal": 4, "trustworthy": 4}
    stages = {layer["name"]: layer for layer in statement["layers"]}
    assert {"firmware", "boot_chain", "root_filesystem"} <= stages.keys()
    # AT-41: the host finds the marker in the plain image, and not on the disk that the machine runs from.
    assert MARKER in (desk.image / "root.erofs").read_bytes()
    assert MARKER not in (shop.directory / "disk.raw").read_bytes()
    assert main(["revoke", "shop", "--reason", "a test"]) == 0
    assert not any(shop.driver().parts(shop.machine).values())
    down(shop)


def test_a_revoked_machine_gets_no_key_again(desk: Desk) -> None:
    """Runs after the test above: its disk is the one that was revoked there."""
    released = sum(entry.event == "released" for entry in desk.log.entries())
    assert desk.up("again") != 0
    assert failures(desk.shop("again"))
    assert desk.log.entries()[-1].codes == ("keys.revoked",)
    assert sum(entry.event == "released" for entry in desk.log.entries()) == released
    down(desk.shop("again"))


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes((byte[0] ^ 1,)))


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(512))


def data_partition(shop: Deployment) -> int:
    with (shop.directory / "disk.raw").open("rb") as stream:
        table, sector = partitions.read_partition_table(stream.read(1 << 20))
    return next(each.first for each in table.partitions if each.name == "data") * sector


Change = Callable[[Deployment, Launch], Launch]
HEADER_BYTES = 16 << 20  # LUKS2's header and key slots
BLOCK_BYTES = 4096
BACKUP_TABLE_BYTES = 1 << 20  # the second partition table, at the end of the disk


def changed_file(name: str, how: Callable[[Path], None]) -> Change:
    def change(shop: Deployment, ordered: Launch) -> Launch:
        how(shop.machine / name)
        return ordered

    return change


def changed_header(shop: Deployment, ordered: Launch) -> Launch:
    flip(shop.directory / "disk.raw", data_partition(shop))
    return ordered


def changed_data(shop: Deployment, ordered: Launch) -> Launch:
    """One byte in every block of the volume but for its beginning, where dm-integrity keeps its journal: some of them are surely read."""
    path = shop.directory / "disk.raw"
    first = data_partition(shop) + HEADER_BYTES
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as raw:
        beginning = first + (len(raw) - first) // 8
        for at in range(beginning, len(raw) - BACKUP_TABLE_BYTES, BLOCK_BYTES):
            raw[at] ^= 1
    return ordered


MATRIX: dict[str, tuple[Change, str, str]] = {
    # what the host changes: how, the guest's last word, the release log's (empty: the key was released, and opens nothing)
    "firmware": (changed_file(FIRMWARE, lambda path: flip(path, 0x8000)), "guest.denied", "launch.firmware"),
    "kernel": (changed_file(KERNEL, lengthen), "guest.denied", "launch.kernel"),
    "initrd": (changed_file(INITRD, lengthen), "guest.denied", "launch.initrd"),
    "command line": (lambda _, ordered: replace(ordered, command_line=ordered.command_line + " quiet"), "guest.denied", "launch.cmdline"),
    "disk header": (changed_header, "luks", ""),
    "data": (changed_data, "guest.", ""),
}


@pytest.mark.parametrize("what", MATRIX)
def test_a_single_change_of_the_hosts_ends_the_boot(desk: Desk, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, last_word, logged = MATRIX[what]
    shop, start = desk.shop(what.replace(" ", "-")), launch.QemuPlatform._start

    def cheat(platform: launch.QemuPlatform, machine: Path, ordered: Launch) -> None:
        other = change(shop, ordered)
        write_launch(machine, other)
        start(platform, machine, other)

    monkeypatch.setattr(launch.QemuPlatform, "_start", cheat)
    keystore.open_store(surroundings())
    unrevoked(monkeypatch)
    before = len(desk.log.entries())
    assert desk.up(shop.name) != 0
    entries = desk.log.entries()[before:]
    if logged:
        assert [entry.event for entry in entries] == ["challenged", "denied"]
        assert logged in entries[-1].codes
    assert any(last_word in text for text in failures(shop)) or not last_word
    assert not any(launch.READY in text for _, text in console.lines(shop.machine))
    down(shop)


def test_a_wrong_key_opens_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    register = keyserver.register
    monkeypatch.setattr(keyserver, "register", lambda target, disk: register(target, DiskKey(disk.disk, os.urandom(64))))
    unrevoked(monkeypatch)
    assert desk.up("wrong-key") != 0
    assert any("guest.luks.key" in text for text in failures(desk.shop("wrong-key")))
    down(desk.shop("wrong-key"))


def unrevoked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back the revocation of the test above: the disk's name follows from the image, and these are other machines."""
    (keystore.directory(surroundings()) / "revoked.json").unlink(missing_ok=True)
