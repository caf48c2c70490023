"""AT-26: a provisioning agent in the measured image takes the host's orders, and the launch measurement says nothing of it.

The guest here is as simple as can be: it unpacks its measured initial RAM disk, and where an agent is in it, the agent listens to the
host's channel. Everything is measured and matches; only the policy's question for agents makes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.statement import TrustStatement
from evident.evidence import cpio
from evident.reference_values.agents import find_in_initrd
from evident.reference_values.model import ReferenceSet
from evident.reference_values.snp_reference import snp_reference
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario, good, sample_launch
from evident.verification import snp

Initrd = Callable[[Mapping[str, bytes]], bytes]
NONCE = bytes(range(32))
PLAIN = {"init": b"#!/bin/sh", "usr/bin/app": b"the owner's program"}
WITH_AGENT = {**PLAIN, "usr/sbin/waagent": b"#!/usr/bin/python3"}


@dataclass
class Guest:
    """What runs in the VM: its users, and an agent if one was in its initial RAM disk."""

    initrd: bytes
    passwords: dict[str, str] = field(default_factory=lambda: {"owner": "chosen by the owner"})

    def message_from_the_host(self, order: Mapping[str, str]) -> None:
        """The channel that an agent listens to; without an agent nobody reads it."""
        if "usr/sbin/waagent" in cpio.names(self.initrd):
            self.passwords.update(order)


def deployment(pki: SimulatorPki, initrd: bytes) -> Scenario:
    return good(pki, owner=replace(sample_launch(), initrd=initrd))


def judge(scenario: Scenario, *, checked: bool, looked: bool = True) -> TrustStatement:
    verified = snp.verify(scenario.collect(NONCE), scenario.context(NONCE))
    agents = find_in_initrd(scenario.owner.initrd) if looked else None
    value = snp_reference(scenario.owner.snp_launch(), command_line=scenario.owner.command_line, agents=agents)
    policy = replace(scenario.policy, allowed_agents=() if checked else None)
    return appraise(verified, policy=policy, references=ReferenceSet(1, (value,)).values)


@pytest.mark.attack("AT-26", "An agent in the measured image takes the host's password reset.", "policy.agent")
def test_an_agent_obeys_the_host(simulator_pki: SimulatorPki, initrd: Initrd) -> None:
    scenario = deployment(simulator_pki, initrd(WITH_AGENT))
    guest = Guest(scenario.launched.initrd)
    believed = judge(scenario, checked=False)
    assert (believed.decision, believed.levels.nominal, believed.levels.trustworthy) == ("accepted", 4, 4)
    guest.message_from_the_host({"owner": "chosen by the host"})
    assert guest.passwords["owner"] == "chosen by the host", "the host is in, and every measurement matches"
    refused = judge(scenario, checked=True)
    assert refused.decision == "refused"
    assert [(finding.code, finding.layer, finding.found) for finding in refused.findings] == [("policy.agent", "provisioning", "waagent")]


def test_an_image_without_agents_does_not_listen(simulator_pki: SimulatorPki, initrd: Initrd) -> None:
    scenario = deployment(simulator_pki, initrd(PLAIN))
    guest = Guest(scenario.launched.initrd)
    guest.message_from_the_host({"owner": "chosen by the host"})
    assert guest.passwords["owner"] == "chosen by the owner"
    assert judge(scenario, checked=True).decision == "accepted"


def test_the_statement_lists_the_agents(simulator_pki: SimulatorPki, initrd: Initrd) -> None:
    for files, looked, code, word in (
        (WITH_AGENT, True, "provisioning.agents-in-image", "waagent"),
        (PLAIN, True, "provisioning.no-known-agent", "No known"),
        (WITH_AGENT, False, "provisioning.agents", "not measured"),
    ):
        statement = judge(deployment(simulator_pki, initrd(files)), checked=False, looked=looked)
        caveats = {caveat.code: caveat.text for layer in statement.layers if layer.name == "provisioning" for caveat in layer.caveats}
        assert word in caveats[code]


def test_nobody_has_looked_is_not_a_pass(simulator_pki: SimulatorPki, initrd: Initrd) -> None:
    statement = judge(deployment(simulator_pki, initrd(PLAIN)), checked=True, looked=False)
    assert (statement.decision, statement.code) == ("indeterminate", "provisioning.agents-unknown")


def test_an_agent_that_the_owner_trusts_may_stay(simulator_pki: SimulatorPki, initrd: Initrd) -> None:
    scenario = deployment(simulator_pki, initrd(WITH_AGENT))
    verified = snp.verify(scenario.collect(NONCE), scenario.context(NONCE))
    value = snp_reference(scenario.owner.snp_launch(), command_line=scenario.owner.command_line, agents=("waagent",))
    assert appraise(verified, policy=replace(scenario.policy, allowed_agents=("waagent",)), references=(value,)).decision == "accepted"
