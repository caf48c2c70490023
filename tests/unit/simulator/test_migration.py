"""A guest that is set up at home and moves to the cloud under a migration agent (ST-14), as far as a simulation can say anything of it.

No hypervisor moves SEV-SNP guests today. Two simulated processors stand for the two hosts; what moves is a disk that the guest opens by a
key of its launch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.image.test_seal import opens, sealed

from evident.appraisal.appraise import appraise
from evident.errors import UsageError
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.simulator.secure_processor import Chip, FieldSelect, Guest, KeyRequest, SecureProcessor
from evident.simulator.vmm import DEFAULT_POLICY
from evident.verification import snp

AGENT, ROOT, NONCE = bytes(range(32)), b"\x4d" * 32, bytes(32)
MAY_MIGRATE = DEFAULT_POLICY | 1 << 18
HOME, CLOUD = Chip(chip_id=b"\x01" * 64), Chip(chip_id=b"\x02" * 64)


def started(pki: SimulatorPki, chip: Chip, policy: int = MAY_MIGRATE, root: bytes = ROOT) -> Guest:
    """A guest under the agent, which gives it the same root key (VMRK) wherever it runs."""
    return SecureProcessor(pki, chip).launch_start(policy, migration_agent=AGENT, migration_root=root).finish()


def key(guest: Guest, *, of_the_agent: bool) -> bytes:
    return guest.derive_key(KeyRequest(FieldSelect.MEASUREMENT | FieldSelect.POLICY, migration_root=of_the_agent))


def test_what_was_sealed_at_home_opens_in_the_cloud_under_the_same_agent_alone(simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    home, cloud = started(simulator_pki, HOME), started(simulator_pki, CLOUD)
    volume = tmp_path / "volume"
    volume.write_bytes(sealed(key=key(home, of_the_agent=True)))
    assert opens(volume, key(cloud, of_the_agent=True))
    another = started(simulator_pki, CLOUD, root=b"\x4e" * 32)
    for other in (key(another, of_the_agent=True), key(cloud, of_the_agent=False), key(home, of_the_agent=False)):
        assert not opens(volume, other)


def test_no_agent_takes_a_guest_whose_policy_does_not_let_it(simulator_pki: SimulatorPki) -> None:
    with pytest.raises(UsageError, match="migration agent"):
        started(simulator_pki, HOME, policy=DEFAULT_POLICY)


@pytest.mark.parametrize(("agents", "decision"), [((), "refused"), (("ff" * 32,), "refused"), ((AGENT.hex(),), "accepted")])
def test_the_owner_names_the_agent_or_refuses(simulator_pki: SimulatorPki, agents: tuple[str, ...], decision: str) -> None:
    good = scenario.good(simulator_pki)
    moved: Scenario = scenario.ATTACKS["migration-agent"].on(good)
    statement = appraise(
        snp.verify(moved.collect(NONCE), moved.context(NONCE)),
        policy=replace(good.policy, migration_agents=agents),
        references=good.reference.values,
    )
    assert statement.decision == decision, statement.findings
    assert statement.simulated
    assert decision == "accepted" or statement.code == "policy.migration"
