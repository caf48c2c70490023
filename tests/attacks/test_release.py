"""Agent and key server over loopback: a key for the attested machine, and none after any single change (BW-19).

Every row of the matrix gets its key with just the check it names switched off, and none with it on: its own code, no release logged.
"""

from __future__ import annotations

import hashlib
import os
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.endorsements.anchors import AnchorSet
from evident.evidence import sp_channel
from evident.guest import collectors
from evident.guest.agent import Agent
from evident.guest.http import Server
from evident.guest.source import Evidence, Question
from evident.guest.sources.simulated import SimulatedProcessor
from evident.keys.exchange import spki
from evident.keys.log import ReleaseLog
from evident.keys.messages import Volume
from evident.keys.release import ReleaseService, Surety
from evident.keys.server import KeyServer
from evident.keys.store import RootVolume, VolumeStore, WrappedSecrets
from evident.lifecycle.challenges import Challenges
from evident.simulator import scenario
from evident.simulator.channel import SecureProcessorChannel
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario

DISK, OTHER_DISK = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
KEY, OTHER_KEY = bytes(range(64)), bytes(reversed(range(64)))


@contextmanager
def secure_processor(machine: Scenario) -> Iterator[Path]:
    """The machine's secure processor behind a terminal in raw mode, which is a device file as the guest's port is one."""
    host, guest = os.openpty()
    tty.setraw(guest)
    running = machine.start()
    channel = SecureProcessorChannel(running.guest, running._table, machine.launched)

    def read(count: int) -> bytes:
        received = b""
        while len(received) < count:
            chunk = os.read(host, count - len(received))
            if not chunk:
                raise OSError(0, "closed")
            received += chunk
        return received

    def serve() -> None:
        try:
            while True:
                answer = channel.answer(sp_channel.read_frame(read))
                while answer:
                    answer = answer[os.write(host, answer[:1024]) :]
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Path(os.ttyname(guest))
    finally:
        os.close(guest)
        thread.join(5)
        os.close(host)


@dataclass
class Desk:
    """A key server with two disks, and a machine that may open the first."""

    root: Path
    machine: Scenario
    clock: datetime
    signer: ec.EllipticCurvePrivateKey
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.volumes = VolumeStore(self.root / "keys")
        self.secrets = WrappedSecrets(self.root / "keys", b"w" * 32)
        self.log = ReleaseLog(self.root / "log" / "release.jsonl", clock=self.now)
        self.challenges = Challenges(self.root / "challenges", clock=self.now, randomness=os.urandom)
        self.volumes.put_references("image", self.machine.reference)
        chip = self.machine.chip.chip_id.hex()
        self.store(RootVolume(1, DISK, "image", nominal=4, trustworthy=4, identities={"chip_id": (chip,)}), KEY)
        self.store(RootVolume(1, OTHER_DISK, "image", nominal=4, trustworthy=4, identities={"chip_id": ("00" * 64,)}), OTHER_KEY)
        kds = SimulatedKds(self.machine.pki, clock=self.now)
        surety = Surety(
            AnchorSet(self.machine.pki.anchors()),
            KdsFetcher(kds, clock=self.now),
            self.machine.policy,
            unsafe=frozenset({"simulated-root"}),
        )
        self.service = ReleaseService(
            self.volumes, self.secrets, surety=surety, challenges=self.challenges, log=self.log, signer=self.signer, clock=self.now
        )

    def now(self) -> datetime:
        return self.clock

    def store(self, volume: RootVolume, key: bytes) -> None:
        self.volumes.put(volume)
        self.secrets.put(volume, key)

    @contextmanager
    def serving(self) -> Iterator[Server]:
        with KeyServer(("127.0.0.1", 0), self.service, on_event=self.events.append) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield Server("127.0.0.1", server.server_address[1], 30)
            finally:
                server.shutdown()
                thread.join(5)

    @property
    def pin(self) -> bytes:
        return hashlib.sha256(spki(self.signer.public_key())).digest()

    def released(self) -> int:
        return sum(entry.event == "released" for entry in self.log.entries())


@pytest.fixture
def desk(tmp_path: Path, simulator_pki: SimulatorPki) -> Desk:
    machine = scenario.good(simulator_pki)
    return Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))


class Direct:
    """The same evidence without the channel between: what the matrix needs of the machine, quickly."""

    name = "direct"

    def __init__(self, machine: Scenario) -> None:
        self._machine = machine
        self._running = machine.start()

    def collect(self, question: Question) -> Evidence:
        report = self._running.guest.report(question.report_data, vmpl=self._machine.vmpl, current_vmpl=self._machine.vmpl)
        return Evidence("snp", {"report": (self._machine.alter(report),), "auxblob": (self._running._table,)}, self.name)


def boot(desk: Desk, server: Server, *, disk: str = DISK, machine: Scenario | None = None, pin: bytes | None = None) -> Volume:
    """Everything the guest does from challenge to key."""
    agent = Agent(server, pinned=pin or desk.pin, disk=disk)
    agent.challenge()
    return agent.release(Direct(machine or desk.machine).collect(agent.question))


def test_the_attested_machine_gets_its_key(desk: Desk) -> None:
    with desk.serving() as server, secure_processor(desk.machine) as device:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        evidence = collectors.collect((SimulatedProcessor(device, patience=10),), agent.challenge())
        volume = agent.release(evidence)
    assert volume.key == KEY
    assert [entry.event for entry in desk.log.entries()] == ["challenged", "released", "confirmed"]
