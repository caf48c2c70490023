"""What a real boot needs: QEMU, OVMF, swtpm and a kernel of Debian's; without them these tests are skipped, and say so.

Debian: qemu-system-x86 ovmf swtpm linux-image-cloud-amd64 (its kernel is only read; set EVIDENT_KERNEL to use another).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.boot.owner import Owner

from evident.audit import keys
from evident.cli.deployments import surroundings as own_surroundings
from evident.cli.documents import read_document
from evident.cli.main import main
from evident.files import locked, write_private_bytes
from evident.image import names
from evident.keys.exchange import Offer
from evident.keys.log import Entry
from evident.keys.messages import EvidenceRequest
from evident.keys.release import ReleaseService
from evident.keys.server import KeyServer
from evident.lifecycle import keyserver, keystore, quarantine
from evident.lifecycle.challenges import Challenges
from evident.lifecycle.deployment import Deployment, deployment, deployments
from evident.lifecycle.farewell import down
from evident.platforms import agent
from evident.platforms.driver import PORT_FILE, Collected, Surroundings
from evident.platforms.qemu import console, host, launch
from evident.platforms.qemu.order import Launch, write_launch
from evident.simulator.pki import SimulatorPki

BOOT_SECONDS = launch.BOOT_SECONDS
SPECIFICATION = Path(__file__).parent / "desk.yaml"
PROGRAMS = (host.PROGRAM, host.SWTPM)


def kernel_path() -> Path | None:
    named = os.environ.get("EVIDENT_KERNEL")
    found = [Path(named)] if named else sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64")) or sorted(Path("/boot").glob("vmlinuz-*-amd64"))
    return found[-1] if found and os.access(found[-1], os.R_OK) else None


def missing() -> list[str]:
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    absent += [] if any(Path(path).is_file() for path in host.FIRMWARE) else ["OVMF.fd"]
    return absent + ([] if kernel_path() else ["a kernel in /boot"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.boot)
            if absent:
                item.add_marker(pytest.mark.skip(reason=f"no real boot: {', '.join(absent)} not installed"))


@pytest.fixture(scope="session")
def kernel() -> bytes:
    path = kernel_path()
    assert path is not None
    return path.read_bytes()


@pytest.fixture
def around(tmp_path: Path, simulator_pki: SimulatorPki) -> Iterator[Surroundings]:
    """A state directory with TEST keys; whatever was launched in it is gone afterwards."""
    simulator_pki.save(tmp_path / "state" / "simulator")
    surroundings = Surroundings(tmp_path / "state", lambda: datetime.now(UTC), os.urandom, print)
    yield surroundings
    for each in deployments(surroundings):
        down(each)


@pytest.fixture
def named(around: Surroundings) -> Callable[[str], Deployment]:
    return lambda name: deployment(name, around)


@dataclass(frozen=True)
class Desk:
    """An owner's home, and an image to bring machines up from."""

    image: Path
    home: Path

    def specify(self, name: str, **changes: Any) -> Path:
        """Another specification, of the packages that the image has; its lock lies beside it."""
        made = self.home / f"{name}.json"
        made.write_text(json.dumps({**read_document(SPECIFICATION, "image"), "name": name, **changes}))
        shutil.copy(names.lock_of(self.image.parent / SPECIFICATION.name), names.lock_of(made))
        return made

    def build(self, name: str, **changes: Any) -> Path:
        """Another image; its folder."""
        folder = self.home / f"{name}.image"
        assert main(["image", "build", str(self.specify(name, **changes)), "--out", str(folder)]) == 0
        return folder

    def up(self, name: str, *more: str) -> int:
        return main(["up", name, "--platform", "qemu", "--image", str(self.image), "--publish", "8080", *more])

    def shop(self, name: str) -> Deployment:
        return deployment(name, own_surroundings())

    @property
    def log(self) -> tuple[Entry, ...]:
        return keystore.open_store(own_surroundings()).log.entries()

    @property
    def events(self) -> list[str]:
        return [entry.event for entry in self.log]

    @staticmethod
    def console(shop: Deployment) -> list[str]:
        return [text for _, text in console.lines(shop.machine)]

    def failures(self, shop: Deployment) -> list[str]:
        return [text for text in self.console(shop) if "evident: failed" in text]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, simulator_pki: SimulatorPki, worker_id: str) -> Path:
    """A home with the image of ``desk.yaml``, built once (set EVIDENT_IMAGE_STORE to a folder that keeps its packages between runs)."""
    own = tmp_path_factory.getbasetemp()
    home = (own if worker_id == "master" else own.parent) / "built"
    with locked(home / "lock"), pytest.MonkeyPatch.context() as patch:
        if (home / "image" / "manifest.json").exists():
            return home  # another worker's
        patch.setenv("EVIDENT_HOME", str(home))
        simulator_pki.save(home / "state" / "simulator")
        large = base64.b64encode(b"evident " * (1 << 17)).decode()  # read by nobody until a test asks for it
        spec = SPECIFICATION.read_text() + f"  - path: /srv/never-read-before\n    base64: {large}\n"
        (home / SPECIFICATION.name).write_text(spec)
        assert main(["image", "build", str(home / SPECIFICATION.name), "--out", str(home / "image"), "--store", str(packages(home))]) == 0
    return home


def packages(home: Path) -> Path:
    """Where the packages are that images are built from."""
    return Path(os.environ.get("EVIDENT_IMAGE_STORE", home / "packages"))


@pytest.fixture
def desk(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A home of this test's own, of the one who built the image; whatever was launched in it is gone afterwards."""
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    shutil.copytree(built / "state", tmp_path / "home" / "state")
    (tmp_path / "home" / "cache").mkdir()
    (tmp_path / "home" / "cache" / "packages").symlink_to(packages(built))
    yield Desk(built / "image", tmp_path / "home")
    for each in deployments(own_surroundings()):
        down(each)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys of the disks that are made from now on, which nobody but the key store has."""
    keys: list[bytes] = []
    register = keyserver.register

    def keeping(target: Deployment, made: keystore.DiskKey) -> None:
        keys.append(made.key)
        register(target, made)

    monkeypatch.setattr(keyserver, "register", keeping)
    return keys


Change = Callable[[Deployment, Launch], Launch]


@pytest.fixture
def cheat(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Has the host change, behind the owner's back, what was ordered."""
    start = launch.QemuPlatform._start

    def set_up(change: Change) -> None:
        def cheating(platform: launch.QemuPlatform, machine: Path, ordered: Launch) -> None:
            other = change(desk.shop(machine.parent.name), ordered)
            write_launch(machine, other)
            start(platform, machine, other)

        monkeypatch.setattr(launch.QemuPlatform, "_start", cheating)

    return set_up


@pytest.fixture
def owner(desk: Desk, capsys: pytest.CaptureFixture[str], eventually: Callable[..., None]) -> Owner:
    return Owner(desk, capsys, eventually)


@pytest.fixture
def life(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The owner of ``tests/contract/lifecycle``, on this host."""
    from tests.boot.here import STAGE, Here, Host  # with the clouds' SDKs behind it, which no other test here needs

    key = keys.load_or_create(desk.home / "state", os.urandom)
    here = Here("qemu", STAGE, desk.home, Host(desk), None, key)
    ask = agent.ask

    def counting(*words: Any) -> Collected:
        here.answering.asked += 1
        return ask(*words)

    monkeypatch.setattr(agent, "ask", counting)
    return here


@dataclass
class ServersHere:
    """Key servers in this process, so that a check can be taken out of them; and what they were asked."""

    asked: list[tuple[ReleaseService, EvidenceRequest]] = field(default_factory=list)

    def decide_again(self, number: int = -1) -> None:
        """Decide on the very evidence of an earlier request once more, though its challenge is used up and its deployment quarantined."""
        service, request = self.asked[number]
        with pytest.MonkeyPatch.context() as off:
            off.setattr(Challenges, "redeem", lambda *_: None)
            off.setattr(quarantine, "check", lambda _: None)
            ReleaseService.release(service, request)


@pytest.fixture
def server_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServersHere]:
    running: list[KeyServer] = []
    here = ServersHere()

    class Listening(ReleaseService):
        def release(self, request: EvidenceRequest) -> Offer:
            here.asked.append((self, request))
            return super().release(request)

    monkeypatch.setattr(keyserver, "ReleaseService", Listening)

    def begin(target: Deployment, cache: Path, listen: int | None = None) -> None:
        server = KeyServer(("127.0.0.1", 0), keyserver.service(target, cache))
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        write_private_bytes(target.machine / PORT_FILE, str(server.server_address[1]).encode())

    monkeypatch.setattr(keyserver, "begin", begin)
    yield here
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def until_decided(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are watched no longer than until the key server has decided."""

    def settle(platform: launch.QemuPlatform, machine: Path) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not {"released", "denied"} & set(desk.events):
            assert time.monotonic() < deadline, "no decision"
            assert any(platform.parts(machine).values()), "the machine ended before"
            time.sleep(0.1)

    monkeypatch.setattr(launch.QemuPlatform, "settle", settle)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    def wait(condition: Callable[[], bool], what: str, *, seconds: float = BOOT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="session")
def speaking_initrd() -> Callable[[bytes], bytes]:
    """An initrd that writes a text to the console and turns the machine off."""
    return lambda text: initrd_of(speaking_init(text))


def speaking_init(text: bytes) -> bytes:
    """An ELF program that writes `text` and turns the machine off: the smallest thing a kernel can run."""
    code = b""
    for number, arguments in ((1, (1, None, len(text))), (169, (0xFEE1DEAD, 0x28121969, 0x4321FEDC))):
        registers = (0xB8, number), *zip((0xBF, 0xBE, 0xBA), arguments, strict=True)  # eax, edi, esi, edx
        for opcode, value in registers:
            code += bytes((opcode,)) + struct.pack("<I", 0x400000 + 120 + 46 if value is None else value)
        code += b"\x0f\x05"
    code += b"\xeb\xfe"
    assert len(code) == 46
    size = 120 + len(code) + len(text)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096) + code + text


def initrd_of(init: bytes) -> bytes:
    return archive_of({"init": init})


@pytest.fixture(scope="session")
def overlay() -> Callable[[Mapping[str, bytes]], bytes]:
    """What a host appends to an initrd: the kernel unpacks one archive after the other, and the last file of a name stays."""
    return archive_of


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """A cpio archive (newc) of executable files."""
    archive = b""
    for number, (name, data) in enumerate((*files.items(), ("TRAILER!!!", b"")), start=1):
        fields = (number, 0o100755 if name != "TRAILER!!!" else 0, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return archive
