"""Agent and key server over loopback: a key for the attested machine, and none after any single change (BW-19).

Every row of the matrix gets its key with just the check it names switched off, and none with it on: its own code, no release logged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.spire.stand_in import StandIn

from evident import codec
from evident.appraisal import rules
from evident.appraisal.policy import RequiredLevels
from evident.endorsements.anchors import AnchorSet
from evident.errors import EvidentError, NotAuthentic
from evident.evidence import binding, cmw, sp_channel
from evident.guest import collectors
from evident.guest.agent import Agent
from evident.guest.http import Server
from evident.guest.source import Evidence, Question
from evident.guest.sources.simulated import SimulatedProcessor
from evident.keys import release
from evident.keys.exchange import spki
from evident.keys.log import ReleaseLog
from evident.keys.messages import CredentialRequest, EvidenceRequest, Volume
from evident.keys.release import ReleaseService, Surety
from evident.keys.server import KeyServer
from evident.keys.store import Held, RootVolume, VolumeStore, WrappedSecrets
from evident.lifecycle.challenges import Challenges
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.simulator import clouds, scenario
from evident.simulator.channel import SecureProcessorChannel
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.guest import stated_launch
from evident.simulator.kds import KdsFetcher, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import challenge, credential, environment, snp, tpm, tpm_activation
from evident.verification.composite import without_steps
from evident.verification.context import Context
from evident.verification.facts import Freshness

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
        self.secrets.put(volume, Held(key))

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


def boot(desk: Desk, server: Server, *, disk: str = DISK, machine: Scenario | None = None, pin: bytes | None = None) -> Volume:
    """Everything the guest does from challenge to key."""
    agent = Agent(server, pinned=pin or desk.pin, disk=disk)
    agent.challenge()
    return agent.release(StandIn(machine or desk.machine).collect(agent.question))


def test_the_attested_machine_gets_its_key(desk: Desk) -> None:
    with desk.serving() as server, secure_processor(desk.machine) as device:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        evidence = collectors.collect((SimulatedProcessor(device, patience=10),), agent.challenge())
        volume = agent.release(evidence)
    assert volume.key == KEY
    assert [entry.event for entry in desk.log.entries()] == ["challenged", "released", "confirmed"]


def test_two_processes_meet_over_the_network_alone(desk: Desk) -> None:
    """The guest as its own interpreter: address, pin, disk and device are all that it is given."""
    program = (
        "import sys; from pathlib import Path; from evident.guest.agent import Agent; from evident.guest.http import Server;"
        "from evident.guest import collectors; from evident.guest.sources.simulated import SimulatedProcessor;"
        "port, pin, disk, device = sys.argv[1:]; agent = Agent(Server('127.0.0.1', int(port), 30), pinned=bytes.fromhex(pin), disk=disk);"
        "agent.challenge(); evidence = collectors.collect((SimulatedProcessor(Path(device), patience=20),), agent.question);"
        "print(__import__('hashlib').sha256(agent.release(evidence).key).hexdigest())"
    )
    with desk.serving() as server, secure_processor(desk.machine) as device:
        words = (sys.executable, "-c", program, str(server.port), desk.pin.hex(), DISK, str(device))
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == hashlib.sha256(KEY).hexdigest(), done.stderr
    assert [entry.event for entry in desk.log.entries()] == ["challenged", "released", "confirmed"]


def attack(identifier: str, what: str, code: str) -> Callable[[Any], Any]:
    """Run the test with the check off and on, and put it into the index of attacks."""

    def mark(function: Any) -> Any:
        marked = pytest.mark.attack(identifier, what, code)(function)
        return pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])(marked)

    return mark


@contextmanager
def expected(desk: Desk, code: str, *, checked: bool, before: int = 0) -> Iterator[None]:
    """The attack gets through, or it is denied with its code and nothing more is released than `before`."""
    if not checked:
        yield
        assert desk.released() == before + 1, "with the check off the key is released"
        return
    with pytest.raises(EvidentError) as caught:
        yield
    told = [finding.code for finding in caught.value.findings] + [finding.found for finding in caught.value.findings]
    logged = desk.log.entries()[-1]
    assert any(code in text for text in told), caught.value
    assert desk.released() == before, "no release in the log"
    assert logged.event == "challenged" or code in logged.codes


SWAPS = {
    "swap-firmware": "launch.firmware",
    "swap-kernel": "launch.kernel",
    "swap-initrd": "launch.initrd",
    "swap-command-line": "launch.cmdline",
    "no-kernel-hashes": "launch.kernel-hashes-absent",
    "extra-vcpu": "launch.vcpus",
    "debug": "policy.debug",
    "low-privilege": "policy.privilege-level",
    "old-reported-tcb": "policy.tcb-minimum",
}


@attack("BW-19", "Anything that is measured at launch is another.", "launch.* and policy.*")
@pytest.mark.parametrize("name", SWAPS)
def test_any_other_launch(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, checked: bool) -> None:
    """Firmware, kernel, initrd (with agent and configuration in it), command line: each alone ends without a key."""
    cheating = scenario.ATTACKS[name].on(desk.machine)
    if not checked:
        monkeypatch.setattr(release, "check_accepted", lambda _statement, **_: None)
    with expected(desk, SWAPS[name], checked=checked), desk.serving() as server:
        assert launched(desk, server, cheating).key == KEY


def launched(desk: Desk, server: Server, machine: Scenario) -> Volume:
    """As `boot`, with what the host says of its launch, by which the finding can name what differs."""
    agent = Agent(server, pinned=desk.pin, disk=DISK)
    agent.challenge()
    evidence = StandIn(machine).collect(agent.question)
    stated = json.dumps(codec.encode(stated_launch(machine.launched))).encode()
    return agent.release(replace(evidence, pieces={**evidence.pieces, "launch": (stated,)}))


@attack("BW-19", "The host alters the report on its way.", "snp.signature")
def test_altered_report(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    altered = replace(desk.machine, alter=lambda report: report[:0xC0] + b"host data of the host's choosing" + report[0xE0:])
    if not checked:
        without = without_steps(snp.PROCEDURE, "snp.signature")
        monkeypatch.setattr(environment.kinds, "verify", lambda _kind, pieces, context: snp.verify(pieces, context, without))
    with expected(desk, "snp.signature", checked=checked), desk.serving() as server:
        assert boot(desk, server, machine=altered).key == KEY


def believing(context: Context, found: bytes, key: bytes | None, prefix: str) -> challenge.Answer:
    """The comparison of the challenge, switched off."""
    return challenge.Answer(Freshness("challenge", "whatever it says"), binding.key_digest(key or b""))


@attack("BW-19", "Evidence that answers another challenge is sent.", "snp.challenge.key")
def test_wrong_challenge(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(challenge, "compare", believing)
    with expected(desk, "snp.challenge.key", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        agent.challenge()
        old = replace(agent.question, nonce=bytes(32))
        assert agent.release(StandIn(desk.machine).collect(old)).key == KEY


@attack("BW-19", "The host sends the machine's evidence with a key of its own.", "snp.challenge.key")
def test_wrong_key(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(challenge, "compare", believing)
    with expected(desk, "snp.challenge.key", checked=checked), desk.serving() as server:
        host, guest = (Agent(server, pinned=desk.pin, disk=DISK) for _ in range(2))
        host.challenge()
        of_the_guest = StandIn(desk.machine).collect(replace(host.question, spki=guest.spki))
        assert host.release(of_the_guest).key == KEY, "the host holds the disk key"


@attack("BW-19", "The messages of a whole session are sent once more.", "challenge.reused")
def test_replayed_session(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(Challenges, "redeem", lambda *_: None)
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        agent.challenge()
        evidence = StandIn(desk.machine).collect(agent.question)
        agent.release(evidence)
        with expected(desk, "challenge.reused", checked=checked, before=1):
            assert agent.release(evidence).key == KEY


@attack("BW-19", "An answer comes after its challenge has expired.", "challenge.expired")
def test_late_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr("evident.lifecycle.challenges.LIFETIME", timedelta(days=1))
    with expected(desk, "challenge.expired", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        agent.challenge()
        desk.clock += timedelta(minutes=6)
        assert agent.release(StandIn(desk.machine).collect(agent.question)).key == KEY


@pytest.mark.attack("AT-53", "A genuine machine, attested and accepted, asks for the key of another one.", "policy.identity")
@attack("BW-21", "A machine asks for another machine's disk.", "policy.identity")
def test_other_disks_key(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Same image, same measurement, two disks: key A never opens disk B."""
    if not checked:
        monkeypatch.setattr(rules, "_identity", lambda *_: ())
    with expected(desk, "policy.identity", checked=checked), desk.serving() as server:
        assert boot(desk, server, disk=OTHER_DISK).key == OTHER_KEY


@attack("BW-21", "A challenge for one disk is answered for another.", "challenge.other-session")
def test_challenge_of_another_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(Challenges, "redeem", lambda *_: None)
    with expected(desk, "challenge.other-session", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=OTHER_DISK)
        agent.challenge()
        agent._disk = DISK
        assert agent.release(StandIn(desk.machine).collect(agent.question)).key == KEY


@attack("BW-19", "A machine whose chip, key, launch or disk was revoked asks again.", "keys.revoked")
@pytest.mark.parametrize("name", ["chip_id", "launch", "report_id", "disk"])
def test_revoked_machine(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(release, "check_revoked", lambda *_: None)
    with desk.serving() as server:
        assert boot(desk, server).key == KEY, "before the revocation"
        guest = desk.machine.start().guest
        known = {"chip_id": desk.machine.chip.chip_id.hex(), "launch": guest.measurement.hex(), "report_id": guest.report_id.hex()}
        desk.service.revoke(name, {**known, "disk": DISK}[name], "stolen")
        with expected(desk, "keys.revoked", checked=checked, before=1):
            assert boot(desk, server).key == KEY


@attack("BW-26", "The machine is genuine and its root file system is not measured.", "layer.not-covered")
def test_level_too_low(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """The terms of the disk demand AL4 whatever the server's own policy is content with."""
    plain = replace(desk.machine.owner, command_line="console=ttyS0 ro")
    machine = replace(desk.machine, owner=plain, launched=plain)
    desk.volumes.put_references("image", machine.reference)
    policy = replace(desk.machine.policy, levels=RequiredLevels(nominal=1, trustworthy=0))
    desk.service._surety = replace(desk.service._surety, policy=policy)
    if not checked:
        monkeypatch.setattr(release, "raised", lambda policy, _volume: policy)
    with expected(desk, "layer.not-covered", checked=checked), desk.serving() as server:
        assert boot(desk, server, machine=machine).key == KEY


@attack("BW-14", "Somebody answers in the key server's place, with a disk of their own.", "guest.key-server")
def test_wrong_key_server(desk: Desk, checked: bool) -> None:
    """Without the pin the guest would take a key of the host's choosing, and open the host's disk with it."""
    measured = desk.pin if not checked else hashlib.sha256(b"the owner's key server").digest()
    with expected(desk, "guest.key-server", checked=checked), desk.serving() as server:
        assert boot(desk, server, pin=measured).key == KEY


@attack("BW-19", "The terms of a disk are changed in the store.", "keys.store.altered")
def test_changed_terms(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Whoever can write the store and cannot unwrap gets no key released under other terms."""
    if not checked:
        monkeypatch.setattr("evident.keys.store.terms_digest", lambda volume: volume.disk.encode())
        desk.store(desk.volumes.get(OTHER_DISK), OTHER_KEY)
    desk.volumes.put(replace(desk.volumes.get(OTHER_DISK), identities={}))
    with expected(desk, "keys.store.altered", checked=checked), desk.serving() as server:
        assert boot(desk, server, disk=OTHER_DISK).key == OTHER_KEY


def test_what_is_not_registered_is_denied(desk: Desk) -> None:
    with expected(desk, "keys.disk-unknown", checked=True), desk.serving() as server:
        boot(desk, server, disk="00000000-0000-0000-0000-000000000000")


def test_terms_without_reference_values_release_nothing(desk: Desk) -> None:
    desk.store(replace(desk.volumes.get(DISK), reference_set="none"), KEY)
    with expected(desk, "keys.references", checked=True), desk.serving() as server:
        boot(desk, server)


def test_demanded_evidence_beside_the_tee_must_come(desk: Desk) -> None:
    desk.store(replace(desk.volumes.get(DISK), beside=("tpm",)), KEY)
    with expected(desk, "keys.beside", checked=True), desk.serving() as server:
        boot(desk, server)


def test_a_tpm_beside_the_tee_answers_the_same_challenge_and_key(desk: Desk) -> None:
    """Demanded, it must be there and answer; not demanded, it is not looked at."""
    desk.store(replace(desk.volumes.get(DISK), beside=("tpm",)), KEY)
    chip = SimulatedTpm()
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        question = agent.challenge()
        assert agent.release(StandIn(desk.machine).collect(question), (quoted(chip, question.extra_data),)).key == KEY
        for extra in (bytes(32), replace(question, spki=b"another").extra_data):
            with expected(desk, "tpm.challenge", checked=True, before=1):
                question = agent.challenge()
                agent.release(StandIn(desk.machine).collect(question), (quoted(chip, extra),))
        desk.store(replace(desk.volumes.get(DISK), beside=()), KEY)
        question = agent.challenge()
        assert agent.release(StandIn(desk.machine).collect(question), (quoted(chip, bytes(32)),)).key == KEY


@pytest.mark.parametrize("place", ["google", "aws"])
def test_a_tpm_that_a_cloud_speaks_for_needs_none_beside_it(desk: Desk, place: str) -> None:
    """A quote is demanded beside the TEE's evidence, and this brings a TPM's word along: one of the same machine and challenge."""
    at = desk.machine.at
    pki, running, chip = CloudPki(at - timedelta(days=1)), desk.machine.start(), SimulatedTpm()
    desk.store(replace(desk.volumes.get(DISK), beside=("tpm",)), KEY)
    surety = desk.service._surety
    desk.service._surety = replace(surety, anchors=surety.anchors.plus(*pki.anchors()))
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        for honest in (True, False):
            question = agent.challenge()
            if place == "google":
                pieces = clouds.gcp_snp(running.guest, chip, question.report_data if honest else bytes(32), pki, at)
            else:
                pieces = clouds.aws_snp(running.guest, chip, question.nonce if honest else bytes(32), pki, at, key=question.spki)
            evidence = Evidence("snp", {**pieces, "auxblob": (running._table,)}, "test")
            if honest:
                assert agent.release(evidence).key == KEY
                continue
            with expected(desk, "gcp.binding" if place == "google" else "aws.binding", checked=True, before=1):
                agent.release(evidence)


def quoted(chip: SimulatedTpm, extra: bytes) -> Evidence:
    return Evidence("tpm", clouds.quoted(chip, extra, "quote"), "test")


def test_no_release_that_cannot_be_logged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    append = ReleaseLog.append

    def full(log: ReleaseLog, event: str, disk: str, **words: Any) -> None:
        if event == "released":
            raise OSError(28, "No space left on device")
        append(log, event, disk, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(ReleaseLog, "append", full)
    with desk.serving() as server, pytest.raises(EvidentError):
        boot(desk, server)
    assert desk.released() == 0


def test_a_release_is_confirmed_once_and_by_its_guest_alone(desk: Desk) -> None:
    nonce = desk.service.challenge(DISK)
    own = ec.generate_private_key(ec.SECP384R1())
    question = Question(nonce, spki(own.public_key()))
    evidence = StandIn(desk.machine).collect(question)
    form = cmw.encode(cmw.of_pieces(evidence.kind, evidence.pieces))
    desk.service.release(EvidenceRequest(1, DISK, nonce, question.spki, form))
    with pytest.raises(NotAuthentic, match=re.escape("exchange.unconfirmed")):
        desk.service.confirm(nonce, bytes(48))
    with pytest.raises(NotAuthentic, match=re.escape("keys.confirmation.unknown")):
        desk.service.confirm(nonce, bytes(48))
    assert "confirmed" not in {entry.event for entry in desk.log.entries()}


def test_the_key_is_in_no_file_and_no_log(desk: Desk) -> None:
    with desk.serving() as server:
        assert boot(desk, server).key == KEY
    forms = (KEY, KEY.hex().encode(), base64.b64encode(KEY), base64.urlsafe_b64encode(KEY), repr(KEY).encode())
    files = [path for path in desk.root.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        data = path.read_bytes()
        assert not any(form in data for form in forms), path
        assert path.stat().st_mode & 0o077 == 0 or path.suffix == ".lock", path
    assert not any(form.decode("latin-1") in line for form in forms for line in desk.events)


PCR_11 = ReferenceValue(
    layers=("boot_chain",),
    register="pcr11",
    value=bytes(32),
    strength=Strength.RECOMPUTED,
    endorser="you",
    description="PCR 11 of the owner's image",
    provenance=Provenance("test", "extended"),
    algorithm="sha256",
)


@attack("BW-27", "The TPM beside the TEE measured another boot than the reference values have.", "reference.mismatch")
def test_a_tpm_that_measured_another_boot(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    chip = SimulatedTpm()
    chip.extend(11, {"sha256": hashlib.sha256(b"the owner's kernel").digest()})
    wanted = replace(PCR_11, value=chip.pcrs["sha256"][11])
    references = desk.machine.reference
    desk.volumes.put_references("image", replace(references, values=(*references.values, wanted)))
    desk.store(replace(desk.volumes.get(DISK), beside=("tpm",)), KEY)
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        question = agent.challenge()
        assert agent.release(StandIn(desk.machine).collect(question), (quoted(chip, question.extra_data),)).key == KEY
        chip.extend(11, {"sha256": hashlib.sha256(b"another kernel").digest()})
        if not checked:
            desk.store(replace(desk.volumes.get(DISK), beside=()), KEY)
        with expected(desk, "reference.mismatch", checked=checked, before=1):
            question = agent.challenge()
            assert agent.release(StandIn(desk.machine).collect(question), (quoted(chip, question.extra_data),)).key == KEY


@attack("BW-19", "The TPM's quote answers another challenge, or was made for another guest's key.", "tpm.challenge")
def test_a_quote_for_another_challenge_or_key(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    desk.store(replace(desk.volumes.get(DISK), beside=("tpm",)), KEY)
    if not checked:
        steps = (replace(step, run=lambda _case: None) if step.id == "tpm.challenge" else step for step in tpm.QUOTE_STEPS)
        monkeypatch.setattr(tpm, "QUOTE_STEPS", tuple(steps))
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        for number, changed in enumerate(({"nonce": bytes(32)}, {"spki": b"another"})):
            with expected(desk, "tpm.challenge", checked=checked, before=0 if checked else number):
                question = agent.challenge()
                quote = quoted(SimulatedTpm(), replace(question, **changed).extra_data)
                assert agent.release(StandIn(desk.machine).collect(question), (quote,)).key == KEY


@attack("BW-27", "The quote leaves out a PCR that tells of the boot.", "reference.unquoted")
def test_a_quote_that_leaves_out_a_pcr(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Another boot's own agent quotes what it likes."""
    chip, other = SimulatedTpm(), {"sha256": hashlib.sha256(b"another kernel").digest()}
    wanted = replace(PCR_11, value=chip.pcrs["sha256"][11])
    references = desk.machine.reference
    desk.volumes.put_references("image", replace(references, values=(*references.values, wanted)))
    desk.store(replace(desk.volumes.get(DISK), beside=("tpm",)), KEY)
    chip.extend(11, other)
    if not checked:
        monkeypatch.setattr(rules, "unquoted", lambda *_: ())
    with expected(desk, "reference.unquoted", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        question = agent.challenge()
        raw, signature = chip.quote(question.extra_data, indices=(0, 4, 7))
        pieces = {**clouds.quoted(chip, question.extra_data, "quote"), "quote": (raw,), "signature": (signature,)}
        quote = Evidence("tpm", pieces, "test")
        assert agent.release(StandIn(desk.machine).collect(question), (quote,)).key == KEY


@attack("AT-28", "The guest brings the revocation list along that it is to be judged by.", "crl.revoked")
def test_a_list_of_the_guest_s_own(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """AMD has revoked the intermediate since; the list of yesterday is still in its window."""
    old = desk.machine.pki.crl(desk.machine.chip.product, at=desk.clock, number=1)
    today = SimulatedKds(desk.machine.pki, clock=desk.now, mode=Mode(crl_number=2, revoked=("ask",)))
    monkeypatch.setattr(desk.service, "_surety", replace(desk.service._surety, fetcher=KdsFetcher(today, clock=desk.now)))
    if not checked:
        monkeypatch.setattr(release, "of_machine", lambda pieces: pieces)
    with expected(desk, "crl.revoked", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        agent.challenge()
        evidence = StandIn(desk.machine).collect(agent.question)
        assert agent.release(replace(evidence, pieces={**evidence.pieces, "crl": (old,)})).key == KEY


def service_module(desk: Desk, chip: SimulatedTpm, question: Question) -> Evidence:
    """The evidence of a machine whose SVSM has this TPM: its report names the challenge and the TPM's endorsement key."""
    running = desk.machine.start()
    pieces = clouds.svsm_vtpm(running.guest, chip, question.report_data)
    return Evidence("svsm", {**pieces, "auxblob": (running._table,), "ek": (chip.ek.tpm2b,)}, "test")


@pytest.fixture
def module(desk: Desk) -> SimulatedTpm:
    """The desk's machine is known to have an SVSM; this is the TPM in it."""
    (value,) = desk.machine.reference.values
    known = replace(value, provenance=replace(value.provenance, artifacts={"svsm": bytes(32)}))
    desk.volumes.put_references("image", replace(desk.machine.reference, values=(known,)))
    return SimulatedTpm()


def test_a_machine_with_an_svsm_gets_its_key_once_its_tpm_has_shown_the_quoting_key(desk: Desk, module: SimulatedTpm) -> None:
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK, activate=module.activate)
        assert agent.release(service_module(desk, module, agent.challenge())).key == KEY
        for silent in (SimulatedTpm().activate, SimulatedTpm(ek_key=module.ek_key).activate):  # neither opens what is for another's keys
            agent = Agent(server, pinned=desk.pin, disk=DISK, activate=silent)
            with expected(desk, "svsm.activation.missing", checked=True, before=1):
                agent.release(service_module(desk, module, agent.challenge()))


@attack(
    "AT-22", "A key outside the SVSM's TPM signs the quotes, and the server's credential is answered with a guess.", "tpm.activation.answer"
)
def test_a_guess_at_the_credential(desk: Desk, module: SimulatedTpm, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        steps = (step for step in tpm_activation.STEPS if step.id != "tpm.activation-answer")
        monkeypatch.setattr(tpm_activation, "STEPS", tuple(steps))
    forger = SimulatedTpm(ek_key=module.ek_key)
    with expected(desk, "tpm.activation.answer", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK, activate=lambda _blob, _secret: bytes(32))
        assert agent.release(service_module(desk, forger, agent.challenge())).key == KEY


@attack("AT-22", "The TPM of the attacker's own opens a credential, and its answer is sent for the SVSM's.", "tpm.activation.answer")
def test_an_answer_for_other_keys(desk: Desk, module: SimulatedTpm, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """The same challenge, and a credential that the server made for other keys: it must not have the same secret."""
    own, forger = SimulatedTpm(), SimulatedTpm(ek_key=module.ek_key)
    if not checked:
        same = credential.challenge
        monkeypatch.setattr(credential, "challenge", lambda ek, name, _random: same(ek, name, bytes))
    with expected(desk, "tpm.activation.answer", checked=checked), desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK)
        question = agent.challenge()
        made = desk.service.credential(CredentialRequest(1, question.nonce, own.ek.tpm2b, own.ak.tpm2b))
        secret = own.activate(made.credential_blob, made.encrypted_secret)
        monkeypatch.setattr(agent, "_activate", lambda _blob, _secret: secret)
        assert agent.release(service_module(desk, forger, question)).key == KEY
