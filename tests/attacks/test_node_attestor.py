"""Both halves of the node attestor for SPIRE, talking to each other as SPIRE lets them: each check off, and on.

`tests/spire` has the same with a real spire-server and real agents between them.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.endorsements.anchors import AnchorSet
from evident.errors import EvidentError
from evident.evidence import binding, cmw, protobuf
from evident.guest.node_attestor import Machine
from evident.guest.source import Evidence, Question, Source
from evident.identity import attestation, node_attestor, selectors
from evident.identity.attestation import Answer, Challenge, Hello
from evident.identity.node_attestor import NodeAttestor, Surety
from evident.simulator import clouds, scenario
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import challenge, environment, snp, tpm_activation
from evident.verification.composite import without_steps
from evident.verification.context import Context
from evident.verification.facts import Freshness

TRUST_DOMAIN = "example.org"
Conversation = Callable[[Iterator[bytes], str], Iterator[bytes]]


@dataclass(frozen=True)
class StandIn:
    """The simulator's machine as a source; `change` is the host's last word."""

    machine: Scenario
    change: Callable[[Evidence], Evidence] = lambda evidence: evidence
    name: str = "stand-in"

    def collect(self, question: Question) -> Evidence:
        running = self.machine.start()
        report = running.guest.report(question.report_data, vmpl=self.machine.vmpl, current_vmpl=self.machine.vmpl)
        return self.change(Evidence("snp", {"report": (self.machine.alter(report),), "auxblob": (running._table,)}, self.name))


@dataclass
class Desk:
    """spire-server's plug-in, and a machine that the simulator launched."""

    machine: Scenario
    said: list[dict[str, Any]] = field(default_factory=list)

    def attestor(self, random: Callable[[int], bytes] = os.urandom) -> NodeAttestor:
        at = self.machine.at
        fetcher = KdsFetcher(SimulatedKds(self.machine.pki, clock=lambda: at), clock=lambda: at)
        policy = replace(node_attestor.POLICY, allow_simulated=True)
        surety = Surety(AnchorSet(self.machine.pki.anchors()), fetcher, policy, unsafe=frozenset({"simulated-root"}))
        return NodeAttestor(surety, clock=lambda: at, on_decision=lambda line: self.said.append(json.loads(line)), random=random)


@pytest.fixture
def desk(simulator_pki: SimulatorPki) -> Desk:
    return Desk(scenario.good(simulator_pki))


def machine(*sources: Source, activate: Callable[[bytes, bytes], bytes] = lambda _blob, _secret: bytes(32)) -> Conversation:
    return Machine(sources, activate).converse


def attested(attestor: NodeAttestor, converse: Conversation) -> tuple[str, set[str]]:
    """The agent's SPIFFE ID and its selectors, or the error that denies them. The fields of SPIRE's messages on both sides are alike."""
    to_server: deque[bytes] = deque()
    to_machine: deque[bytes] = deque()
    agent = converse(iter(to_machine.popleft, None), TRUST_DOMAIN)
    server = attestor.converse(iter(to_server.popleft, None), TRUST_DOMAIN)
    while True:
        to_server.append(next(agent))
        response = next(server)
        attributes = protobuf.parse(response, "test").one_bytes(2)
        if attributes:
            found = protobuf.parse(attributes, "test").only(1, 2, 3)
            assert found.one_int(3) == 1, "it may attest again"
            return found.one_bytes(1).decode(), {value.decode() for value in found.all_bytes(2)}
        to_machine.append(response)


def attack(identifier: str, what: str, code: str) -> Callable[[Any], Any]:
    """Run the test with the check off and on, and put it into the index of attacks."""

    def mark(function: Any) -> Any:
        marked = pytest.mark.attack(identifier, what, code)(function)
        return pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])(marked)

    return mark


@contextmanager
def expected(desk: Desk, code: str, *, checked: bool) -> Iterator[None]:
    """The attack gets an agent's SVID, or it is denied with its code, which the log has too, and nothing else."""
    if not checked:
        yield
        assert desk.said[-1]["@message"] == "attested"
        return
    with pytest.raises(EvidentError) as caught:
        yield
    assert code in {finding.code for finding in caught.value.findings}
    assert (desk.said[-1]["@message"], desk.said[-1]["@level"]) == ("denied", "warn")
    assert code in desk.said[-1]["codes"].split(", ")


def owners(desk: Desk) -> set[str]:
    return set(selectors.expected(desk.machine.reference))


def test_the_owners_machine_is_known_by_its_selectors(desk: Desk) -> None:
    agent, found = attested(desk.attestor(), machine(StandIn(desk.machine)))
    assert agent.startswith("spiffe://example.org/spire/agent/evident/")
    assert owners(desk) <= found
    assert {"kind:snp", "simulated:true", "revocation:good", "setting:policy.debug:false", "level:nominal:1"} <= found
    assert desk.said[-1]["agent"] == agent
    assert desk.said[-1]["simulated"] == "true"


def test_two_boots_are_two_agents_with_the_same_selectors(desk: Desk) -> None:
    """Node entries go by selectors, so that a machine that boots again keeps what it may (NA-27)."""
    (first, found), (second, again) = (attested(desk.attestor(), machine(StandIn(desk.machine))) for _ in range(2))
    assert first != second
    assert all(value.startswith("endorsement_key:") for value in found ^ again), "the simulator certifies its chip with every start"


def relay(desk: Desk) -> Conversation:
    """Somebody in between: what the running machine answers to anybody who asks, and a signature of their own."""
    running, own = desk.machine.start(), ec.generate_private_key(ec.SECP384R1())

    def converse(requests: Iterator[bytes], trust_domain: str) -> Iterator[bytes]:
        yield protobuf.encode(((1, attestation.dumps(Hello(1, running.spki))),))
        nonce = attestation.loads(Challenge, protobuf.parse(next(requests), "test").one_bytes(1)).nonce
        evidence = cmw.encode(cmw.of_pieces("snp", running.collect(nonce)))
        yield protobuf.encode(((2, attestation.dumps(Answer(1, evidence, attestation.sign(own, nonce, trust_domain)))),))

    return converse


@attack("AT-03", "Somebody passes spire-server's challenge on to a running machine and comes with its answer.", "spire.possession")
def test_relayed_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Without the machine's own signature they are an agent with every selector of the owner's machine."""
    if not checked:
        monkeypatch.setattr(attestation, "check_possession", lambda *_: None)
    with expected(desk, "spire.possession", checked=checked):
        assert owners(desk) <= attested(desk.attestor(), relay(desk))[1]


@attack("AT-05", "The messages of a whole attestation are sent once more.", "spire.possession")
def test_replayed_attestation(desk: Desk, checked: bool) -> None:
    """A server whose challenges are not new believes an old machine."""
    recorded: list[bytes] = []

    def recording(requests: Iterator[bytes], trust_domain: str) -> Iterator[bytes]:
        for message in machine(StandIn(desk.machine))(requests, trust_domain):
            recorded.append(message)
            yield message

    same: Callable[[int], bytes] = lambda count: bytes(range(count))  # noqa: E731  # one line
    attestor = desk.attestor(os.urandom if checked else same)
    assert owners(desk) <= attested(attestor, recording)[1]
    with expected(desk, "spire.possession", checked=checked):
        attested(attestor, lambda _requests, _trust_domain: iter(recorded))


@attack("AT-02", "The host asks with a key of its own and the machine's evidence.", "snp.challenge.key")
def test_anothers_evidence(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    other = attestation.spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    source = StandIn(desk.machine)

    class Borrowed:
        name = "borrowed"

        def collect(self, question: Question) -> Evidence:
            return source.collect(replace(question, spki=other))

    if not checked:
        monkeypatch.setattr(challenge, "compare", believing)
    with expected(desk, "snp.challenge.key", checked=checked):
        assert owners(desk) <= attested(desk.attestor(), machine(Borrowed()))[1]


def believing(context: Context, found: bytes, key: bytes | None, prefix: str) -> challenge.Answer:
    """The comparison of the challenge, switched off."""
    return challenge.Answer(Freshness("challenge", "whatever it says"), binding.key_digest(key or b""))


@attack("AT-02", "Evidence that answers the challenge and binds no key is sent with a key of the host's.", "spire.unbound")
def test_evidence_without_a_key(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    verify = environment.verify
    monkeypatch.setattr(environment, "verify", lambda *words: (verify(*words)[0], None))
    if not checked:
        monkeypatch.setattr(node_attestor, "check_bound", lambda *_: None)
    with expected(desk, "spire.unbound", checked=checked):
        attested(desk.attestor(), machine(StandIn(desk.machine)))


@attack("NA-29", "The host alters the report on its way, and asks for the selectors of what it says now.", "snp.signature")
def test_altered_report(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    wanted = "ab" * 48
    altered = replace(desk.machine, alter=lambda report: report[:0x90] + bytes.fromhex(wanted) + report[0xC0:])
    if not checked:
        without = without_steps(snp.PROCEDURE, "snp.signature")
        monkeypatch.setattr(environment.kinds, "verify", lambda _kind, pieces, context: snp.verify(pieces, context, without))
        monkeypatch.setattr("evident.appraisal.appraise._all_steps", lambda _verified: None)
    with expected(desk, "snp.signature", checked=checked):
        assert f"measurement:{wanted}" in attested(desk.attestor(), machine(StandIn(altered)))[1]


@attack("AT-29", "A machine whose memory the host may read asks for an identity.", "policy.debug")
def test_debugged_machine(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(node_attestor, "check_accepted", lambda _statement: None)
    with expected(desk, "policy.debug", checked=checked):
        found = attested(desk.attestor(), machine(StandIn(scenario.ATTACKS["debug"].on(desk.machine))))[1]
        assert "setting:policy.debug:true" in found


@attack("AT-42", "What answers is a TPM without a TEE: the host's own program with the host's own TPM.", "spire.no-tee")
def test_a_tpm_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    chip = SimulatedTpm()

    class Alone:
        name = "alone"

        def collect(self, question: Question) -> Evidence:
            return quoted(chip, question)

    monkeypatch.setattr(node_attestor, "check_accepted", lambda _statement: None)  # whatever the policy is content with
    if not checked:
        monkeypatch.setattr(node_attestor, "check_tee", lambda _verified: None)
    with expected(desk, "spire.no-tee", checked=checked):
        assert "kind:tpm" in attested(desk.attestor(), machine(Alone(), activate=chip.activate))[1]


def quoted(chip: SimulatedTpm, question: Question) -> Evidence:
    return Evidence("tpm", {**clouds.quoted(chip, question.extra_data, "quote"), "ek": (chip.ek.tpm2b,)}, "test")


def test_what_a_tpm_quotes_beside_the_tee_is_selectable(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = SimulatedTpm()
    monkeypatch.setattr("evident.guest.sources.vtpm.beside", lambda question: (quoted(chip, question),))
    _, found = attested(desk.attestor(), machine(StandIn(desk.machine), activate=chip.activate))
    pcr = chip.pcrs["sha256"][11].hex()
    assert {f"pcr:sha256:11:{pcr}", "kind:snp-tpm", "vtpm_anchor:none", "vtpm_location:host"} <= found
    assert owners(desk) <= found


@attack("AT-22", "A key outside the TPM signs the quotes, and the server's credential is answered with a guess.", "tpm.activation.answer")
def test_a_guess_at_the_credential(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    chip = SimulatedTpm(ek_key=SimulatedTpm().ek_key)
    monkeypatch.setattr("evident.guest.sources.vtpm.beside", lambda question: (quoted(chip, question),))
    if not checked:
        steps = (step for step in tpm_activation.STEPS if step.id != "tpm.activation-answer")
        monkeypatch.setattr(tpm_activation, "STEPS", tuple(steps))
    with expected(desk, "tpm.activation.answer", checked=checked):
        attested(desk.attestor(), machine(StandIn(desk.machine)))


def test_reference_values_admit_no_other_machine(desk: Desk) -> None:
    attestor = desk.attestor()
    attestor._surety = replace(attestor._surety, references=desk.machine.reference.values)
    assert owners(desk) <= attested(attestor, machine(StandIn(desk.machine)))[1]
    with expected(desk, "launch.firmware", checked=True):
        attested(attestor, machine(StandIn(scenario.ATTACKS["swap-kernel"].on(desk.machine))))


def test_the_policy_without_one_takes_nothing_simulated(desk: Desk) -> None:
    attestor = desk.attestor()
    attestor._surety = replace(attestor._surety, policy=node_attestor.POLICY)
    with expected(desk, "policy.simulated", checked=True):
        attested(attestor, machine(StandIn(desk.machine)))


@pytest.mark.parametrize("message", [b"", b"\x0a\x00", b"\x0a\x02{}", b"\x0a\x07garbage", b"\xff" * 40])
def test_what_is_no_message_is_malformed(desk: Desk, message: bytes) -> None:
    with pytest.raises(EvidentError) as caught:
        attested(desk.attestor(), lambda _requests, _trust_domain: iter([message]))
    assert caught.value.decision == "malformed"
