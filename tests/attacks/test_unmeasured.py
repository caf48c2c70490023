"""Machines whose launch measurement ends before the initrd, or before the disk: who gets a key there, and on whose word (BW-26, BW-27)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.test_release import DISK, KEY, Desk, attack, expected, service_module
from tests.spire.stand_in import StandIn

from evident.appraisal.policy import Policy, RequiredLevels, RevocationRule
from evident.guest.agent import Agent
from evident.guest.source import Evidence
from evident.keys import release
from evident.keys.store import RootVolume
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.simulator import clouds, scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.pki import SimulatorPki
from evident.simulator.vtpm import SimulatedTpm

NONE: Mapping[str, bytes] = MappingProxyType({})
INITRD = ReferenceValue(
    layers=("boot_chain",),
    register="pcr9",
    value=bytes(32),
    strength=Strength.RECOMPUTED,
    endorser="you",
    description="PCR 9, the initrd",
    provenance=Provenance("test", "extended"),
    algorithm="sha256",
)


@pytest.fixture
def desk(tmp_path: Path, simulator_pki: SimulatorPki) -> Desk:
    """Of a machine whose firmware is measured at launch, and nothing that it starts."""
    good = scenario.good(simulator_pki)
    launch = replace(good.owner, kernel_hashes=False)
    machine = replace(good, owner=launch, launched=launch)
    return Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))


def booted(initrd: bytes) -> SimulatedTpm:
    """A TPM that measured this initrd."""
    chip = SimulatedTpm()
    chip.extend(9, {"sha256": hashlib.sha256(initrd).digest()})
    return chip


def demand(
    desk: Desk, chip: SimulatedTpm | None, *, nominal: int, trust: tuple[str, ...] = (), artifacts: Mapping[str, bytes] = NONE
) -> None:
    """The disk opens at this level for the launch, and for the boot that `chip` measured; `trust` are the parties that its owner accepts.

    `artifacts` are what the launch is known to be of.
    """
    (launch,) = desk.machine.reference.values
    values: tuple[ReferenceValue, ...] = (replace(launch, provenance=replace(launch.provenance, artifacts=artifacts)),)
    if chip is not None:
        values = (*values, replace(INITRD, value=chip.pcrs["sha256"][9]))
    desk.volumes.put_references("image", replace(desk.machine.reference, values=values))
    desk.store(RootVolume(1, DISK, "image", nominal=nominal), KEY)
    policy = replace(desk.machine.policy, levels=RequiredLevels(nominal=nominal), accepted_trust=trust)
    desk.service._surety = replace(desk.service._surety, policy=policy)


def asked(desk: Desk, answer: Callable[[Agent], Evidence], activate: Callable[[bytes, bytes], bytes] | None = None) -> bytes:
    """The key that the machine's answer gets."""
    with desk.serving() as server:
        agent = Agent(server, pinned=desk.pin, disk=DISK, **({"activate": activate} if activate else {}))
        agent.challenge()
        return agent.release(answer(agent)).key


@pytest.fixture
def in_google(desk: Desk) -> Callable[[Agent], Evidence]:
    """What the machine answers in Google's cloud, whose hypervisor runs its TPM."""
    at: datetime = desk.machine.at
    pki, running, chip = CloudPki(at - timedelta(days=1)), desk.machine.start(), booted(b"the owner's initrd")
    surety = desk.service._surety
    desk.service._surety = replace(surety, anchors=surety.anchors.plus(*pki.anchors()))

    def answer(agent: Agent) -> Evidence:
        pieces = clouds.gcp_snp(running.guest, chip, agent.question.report_data, pki, at)
        return Evidence("gcp-snp", {**pieces, "auxblob": (running._table,)}, "test")

    return answer


@attack("BW-26", "The initrd, which asks for the key, is measured by the provider's TPM alone.", "policy.party")
def test_an_initrd_that_only_the_provider_measures(desk: Desk, in_google: Callable[[Agent], Evidence], checked: bool) -> None:
    """No key, unless the owner takes the provider's word."""
    demand(desk, booted(b"the owner's initrd"), nominal=3, trust=() if checked else ("Google",))
    with expected(desk, "policy.party", checked=checked):
        assert asked(desk, in_google) == KEY


@attack("BW-26", "The initrd, which asks for the key, is measured by nobody.", "layer.not-covered")
def test_an_initrd_that_nobody_measures(desk: Desk, checked: bool) -> None:
    """Whoever is trusted: there is no word to take. With the demand for it dropped, any initrd gets the key."""
    demand(desk, None, nominal=3 if checked else 2, trust=("Google",))
    cheating = scenario.ATTACKS["swap-initrd"].on(desk.machine)
    with expected(desk, "layer.not-covered", checked=checked):
        assert asked(desk, lambda agent: StandIn(cheating).collect(agent.question)) == KEY


@attack("BW-27", "Another initrd is started under the same service module.", "reference.mismatch")
def test_two_initrds_under_one_service_module(desk: Desk, checked: bool) -> None:
    """The launch is the same for both; PCR 9 of the module's TPM, held against the owner's, tells them apart (HY-14)."""
    other = scenario.ATTACKS["swap-initrd"].on(desk.machine)
    assert other.start().guest.measurement == desk.machine.start().guest.measurement
    right, wrong = booted(b"the owner's initrd"), booted(b"the host's initrd")
    demand(desk, right if checked else None, nominal=3 if checked else 2, trust=("SVSM",), artifacts={"svsm": bytes(32)})
    assert asked(desk, lambda agent: service_module(desk, right, agent.question), right.activate) == KEY
    with expected(desk, "reference.mismatch", checked=checked, before=1):
        assert asked(desk, lambda agent: service_module(desk, wrong, agent.question), wrong.activate) == KEY


@attack("BW-26", "A machine without a TEE, whose memory is its host's, brings its TPM's word alone.", "keys.no-tee")
def test_a_tpm_without_a_tee(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Under a policy that demands nothing, so that only this check is between the host and the key."""
    pki, chip = CloudPki(desk.machine.at - timedelta(days=1)), booted(b"the owner's initrd")
    trusting = Policy(1, levels=RequiredLevels(0, 0, {}), revocation=RevocationRule("accept-unsafe"), allow_simulated=True)
    desk.service._surety = replace(desk.service._surety, policy=trusting, anchors=desk.service._surety.anchors.plus(*pki.anchors()))
    desk.store(RootVolume(1, DISK, "image", nominal=0), KEY)
    if not checked:
        monkeypatch.setattr(release, "check_tee", lambda _: None)

    def answer(agent: Agent) -> Evidence:
        question = agent.question
        document = pki.nitro_document(chip.pcrs["sha384"], question.nonce, desk.machine.at, public_key=question.spki)
        return Evidence("nitrotpm", {"document": (document,)}, "test")

    with expected(desk, "keys.no-tee", checked=checked):
        assert asked(desk, answer) == KEY


@attack("AT-17", "The provider holds the key of the root disk: it reads what is there, and writes what it likes.", "layer.not-covered")
def test_a_root_disk_whose_key_the_provider_holds(tmp_path: Path, simulator_pki: SimulatorPki, checked: bool) -> None:
    """A disk that the platform encrypts and opens is in no evidence, so level 4 is denied; at level 3 its contents are anybody's."""
    good = scenario.good(simulator_pki)
    launch = replace(good.owner, command_line="console=ttyS0 ro root=/dev/vda1")
    machine = replace(good, owner=launch, launched=launch)
    desk = Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))
    demand(desk, None, nominal=4 if checked else 3)
    with expected(desk, "layer.not-covered", checked=checked):
        assert asked(desk, lambda agent: StandIn(machine).collect(agent.question)) == KEY
