"""A real TPM (swtpm) under the guest's own agent, asked over HTTP by `evident attest`: evidence, credential, decision, bundle, replay.

Two machines are played: one whose SVSM holds that TPM (the simulated processor's report names its EK, as a real SVSM's would), and one as
on EC2, where the operator's control plane names the EK in an answer recorded in AWS's form. Skipped, saying so, without swtpm.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.integration.software_tpm import software_tpm

from evident.appraisal.policy import Policy, RequiredLevels
from evident.appraisal.statement import Layer, TrustStatement
from evident.audit import keys
from evident.audit.replay import replay
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import EvidentError
from evident.evidence.tpm_public import HANDLE_OWNER, Public, sized
from evident.evidence.tpm_templates import EK_HANDLE
from evident.files import write_private_bytes
from evident.guest.listener import Listener
from evident.guest.source import Evidence, Question
from evident.guest.sources import vtpm
from evident.guest.sources.vtpm import OwnQuote, SvsmNv, through
from evident.guest.supervise import Responder
from evident.guest.tpm_device import Tpm, Transact
from evident.lifecycle.attest import Answer, Verifier, attest
from evident.lifecycle.deployment import deployment, up
from evident.platforms import agent, registry
from evident.platforms.aws import launch as aws_launch
from evident.platforms.cloud import Patience
from evident.platforms.driver import Collected, Surroundings
from evident.platforms.order import Order
from evident.platforms.simulated import collector
from evident.platforms.simulated import launch as simulated_launch
from evident.reference_values import documents
from evident.reports.json_report import Outcome
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.verification.credential import NamedKey

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="not installed: swtpm (Debian: swtpm)")
ROOM = 2048


def absent(_command: bytes) -> bytes:
    """No TPM there: TPM_RC_FAILURE, whatever is asked."""
    return bytes.fromhex("80010000000a00000101")


@pytest.fixture(scope="module")
def transact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transact]:
    yield from software_tpm(tmp_path_factory.mktemp("activation"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transact]:
    """The TPM of another machine."""
    yield from software_tpm(tmp_path_factory.mktemp("other"))


def command(transact: Transact, code: int, handles: tuple[int, ...], parameters: bytes) -> None:
    """A command with the empty password, for what a manufacturer does and a guest does not."""
    password = bytes.fromhex("00000009400000090000000000")
    body = b"".join(handle.to_bytes(4, "big") for handle in handles) + password + parameters
    response = transact(b"\x80\x02" + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body)
    assert response[6:10] == bytes(4), response.hex()


def endorsement_key(transact: Transact) -> Public:
    with Tpm(transact).endorsement_key() as (_, public):
        return public


def der(transact: Transact) -> bytes:
    return endorsement_key(transact).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def store(transact: Transact, content: bytes) -> None:
    """NV_DefineSpace (once, with room to spare) and NV_Write, at the index of an SVSM's report and of an EK's certificate alike."""
    try:
        Tpm(transact).nv_read(vtpm.SVSM_REPORT)
    except EvidentError:
        attributes = 0x02060006.to_bytes(4, "big")  # ownerwrite, authwrite, ownerread, authread, no_da
        public = vtpm.SVSM_REPORT.to_bytes(4, "big") + b"\x00\x0b" + attributes + sized(b"") + ROOM.to_bytes(2, "big")
        command(transact, 0x12A, (HANDLE_OWNER,), sized(b"") + sized(public))
    padded = content.ljust(ROOM, b"\xff")
    for start in range(0, ROOM, 512):
        command(transact, 0x137, (HANDLE_OWNER, vtpm.SVSM_REPORT), sized(padded[start : start + 512]) + start.to_bytes(2, "big"))


class Machine:
    """A guest's agent on a port of this host, whose credentials the TPM `answering` gets."""

    def __init__(self, collect: Callable[[Question], tuple[Evidence, ...]], answering: Transact) -> None:
        opener = through(answering)
        self._responder = Responder(collect, lambda blob, secret: vtpm.activate(blob, secret, opener))
        stream = socket.create_server(("127.0.0.1", 0))
        self.port: int = stream.getsockname()[1]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(stream,), daemon=True)
        self._thread.start()

    def _serve(self, stream: socket.socket) -> None:
        with stream:
            listener = Listener(stream, self._responder.answer)
            while not self._closed.is_set():
                listener.turn(0.05)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


class World:
    """A deployment on the simulated platform whose guest is the real agent over a real TPM."""

    def __init__(self, state: Path, pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch) -> None:
        pki.save(state / "simulator")
        self.pki = pki
        self.anchors = AnchorSet(())
        self.named: NamedKey | None = None
        self.evidence: Callable[[Scenario], Machine]
        self.machines: list[Machine] = []
        now = pki.made_at + timedelta(days=2)
        self.surroundings = Surroundings(state, lambda: now, os.urandom, lambda _: None)
        self.key = keys.generate(os.urandom)
        monkeypatch.setattr(collector, "collect", self._collect)
        monkeypatch.setattr(registry, "profile", lambda *_: None)  # the simulator's cloud is no provider's
        monkeypatch.setattr(simulated_launch.SimulatedPlatform, "endorsement_key", lambda _self, _machine: self.named)
        self.target = deployment("shop", self.surroundings)
        up(self.target, "simulated", Order())

    def _collect(self, running: Scenario, nonce: bytes) -> Collected:
        self.machines.append(self.evidence(running))
        return agent.ask("127.0.0.1", self.machines[-1].port, nonce)

    def expect(self, **artifacts: bytes) -> None:
        """The owner's reference value is of a launch with these artifacts too."""
        path = self.target.directory / "references.json"
        (value,) = self.target.references.values
        provenance = replace(value.provenance, artifacts={**value.provenance.artifacts, **artifacts})
        write_private_bytes(path, documents.dump(replace(self.target.references, values=(replace(value, provenance=provenance),))))

    def attest(self) -> Answer:
        policy = Policy(version=1, allow_simulated=True, levels=RequiredLevels(nominal=2), accepted_trust=("AWS", "SVSM"))
        return attest(self.target, Verifier(self.anchors, StaticFetcher({}), self.key), policy=policy)

    def replayed(self, answer: Answer) -> Outcome:
        """What a stranger finds, who has the bundle, this verifier's key and the TEST roots."""
        return replay(answer.bundle, trusted=[self.key.public], anchors=self.anchors.plus(*self.pki.anchors())).outcome


@pytest.fixture
def world(tmp_path: Path, simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, simulator_pki, monkeypatch)
    yield made
    for machine in made.machines:
        machine.close()


def remarks(found: TrustStatement) -> set[str]:
    return {caveat.code for layer in found.layers for caveat in layer.caveats}


def vtpm_layer(found: Outcome) -> Layer:
    assert isinstance(found, TrustStatement)
    return next(layer for layer in found.layers if layer.name == "vtpm")


def service_module(running: Scenario, quoting: Transact, answering: Transact) -> Machine:
    """The SVSM: it keeps its EK in the TPM, and the report that names it."""
    with Tpm(quoting).endorsement_key() as (handle, ek):
        if handle != EK_HANDLE:
            command(quoting, 0x120, (HANDLE_OWNER, handle), EK_HANDLE.to_bytes(4, "big"))  # EvictControl
    store(quoting, running.start().guest.report(hashlib.sha512(ek.tpm2b).digest()))
    return Machine(lambda question: (SvsmNv(through(quoting)).collect(question),), answering)


def beside_the_report(running: Scenario, quoting: Transact, answering: Transact) -> Machine:
    """A machine on EC2: AMD's report for the challenge, and the quote of a TPM that the report does not know."""

    def collect(question: Question) -> tuple[Evidence, ...]:
        vm = running.start()
        pieces = {**vm.collect(question.nonce), "report": (vm.guest.report(question.report_data),)}
        del pieces["key"]
        return Evidence("snp", pieces, "device"), OwnQuote(through(quoting)).collect(question)

    return Machine(collect, answering)


def test_an_svsm_names_the_key_in_its_report(world: World, transact: Transact) -> None:
    """The report names the EK, the EK's TPM activates for the AK, the AK quotes."""
    world.expect(svsm=bytes(32))
    world.evidence = lambda running: service_module(running, transact, transact)
    answer = world.attest()
    found = answer.outcome
    assert isinstance(found, TrustStatement)
    assert found.decision == "accepted", found.findings
    assert "bound by the hardware's signed report" in vtpm_layer(found).summary
    assert "tpm.activation-witnessed" in remarks(found)
    assert answer.case.activation is not None
    assert world.replayed(answer) == found


@pytest.mark.parametrize("answering", ["nobody", "another"])
def test_at22_without_an_answer_the_key_stays_nobodys(world: World, transact: Transact, other: Transact, answering: str) -> None:
    """An agent of before, a host that lets no credential through, or a TPM that does not have the keys and opens nothing."""
    world.expect(svsm=bytes(32))
    world.evidence = lambda running: service_module(running, transact, {"nobody": absent, "another": other}[answering])
    answer = world.attest()
    assert answer.outcome.decision == "indeterminate"
    assert "svsm.activation.missing" in {finding.code for finding in answer.outcome.findings}
    assert answer.case.activation is None


def test_the_control_plane_names_the_key(world: World, transact: Transact, monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 without NitroTPM's document: the EK by `GetInstanceTpmEkPub`, and the quote is AWS's word for the boot."""
    world.named = by_control_plane(transact, monkeypatch)
    world.evidence = lambda running: beside_the_report(running, transact, transact)
    answer = world.attest()
    found = answer.outcome
    assert isinstance(found, TrustStatement)
    assert found.decision == "accepted", found.findings
    assert {"tpm.activation-witnessed", "tpm.ek-named-only"} <= remarks(found)
    assert (vtpm_layer(found).trusted_parties, vtpm_layer(found).needs_provider) == (("AWS",), True)
    assert world.replayed(answer) == found


@pytest.mark.attack("AT-23", "The quotes beside the report are by another machine's TPM, and it answers for them.", "tpm.ek-named")
def test_at23_another_machines_tpm(world: World, transact: Transact, other: Transact, monkeypatch: pytest.MonkeyPatch) -> None:
    world.named = by_control_plane(transact, monkeypatch)
    world.evidence = lambda running: beside_the_report(running, other, other)
    answer = world.attest()
    assert (answer.outcome.decision, answer.outcome.code) == ("not_authentic", "tpm.ek-named")
    assert world.replayed(answer).code == "tpm.ek-named"
    world.named = None
    assert world.attest().outcome.decision == "accepted"  # with nobody to say whose TPM it is


def test_a_certificate_of_the_endorsement_key_vouches_too(world: World, other: Transact) -> None:
    """The guest finds it in its TPM; the reader trusts its root, or does not."""
    now = world.surroundings.clock()
    authority = CloudPki(now - timedelta(days=1))
    store(other, authority.ak_certificate(endorsement_key(other).public_key(), now))
    world.evidence = lambda running: beside_the_report(running, other, other)
    world.anchors = AnchorSet(authority.anchors())
    answer = world.attest()
    assert answer.outcome.decision == "accepted", answer.outcome.findings
    assert "vouched for by a certificate of" in vtpm_layer(answer.outcome).summary
    assert world.replayed(answer) == answer.outcome
    world.anchors = AnchorSet(())
    assert "nothing vouches for its key" in vtpm_layer(world.attest().outcome).summary


def by_control_plane(transact: Transact, monkeypatch: pytest.MonkeyPatch) -> NamedKey:
    """What AWS answered, in the form that its API documents, read by the driver's own code."""
    pytest.importorskip("botocore")
    recorded = {"InstanceId": "i-0e", "KeyType": "rsa-2048", "KeyFormat": "der", "KeyValue": base64.b64encode(der(transact)).decode()}
    ec2 = SimpleNamespace(get_instance_tpm_ek_pub=lambda **_request: recorded)
    monkeypatch.setattr(aws_launch, "connect", lambda _region: SimpleNamespace(ec2=ec2))
    return aws_launch.named({"region": "eu-west-1"}, Patience.real(lambda _: None), "i-0e")
