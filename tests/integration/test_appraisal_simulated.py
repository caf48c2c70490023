"""Production code from bytes to statement on simulated deployments: a good one, and every named attack on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.degrees import LEVEL_LAYERS
from evident.appraisal.policy import Policy
from evident.appraisal.statement import TrustStatement
from evident.errors import EvidentError, NotAuthentic
from evident.platforms.registry import profile
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.verification import snp

NONCE = bytes(range(32))


def statement_of(deployment: scenario.Scenario, owner: scenario.Scenario, policy: Policy | None = None) -> TrustStatement:
    verified = snp.verify(deployment.collect(NONCE), deployment.context(NONCE))
    return appraise(
        verified,
        policy=policy or owner.policy,
        references=owner.reference.values,
        profile=profile("simulated", deployment.at.date().replace(year=2026)),
    )


@pytest.fixture(scope="module")
def good(simulator_pki: SimulatorPki) -> scenario.Scenario:
    return scenario.good(simulator_pki)


def test_a_good_deployment_is_accepted_at_level_four_and_says_simulated(good: scenario.Scenario) -> None:
    statement = statement_of(good, good)
    assert statement.decision == "accepted", statement.findings
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 4)
    assert statement.simulated
    assert "SIMULATED" in statement.headline["use"]
    assert "simulator" in " ".join(statement.layers[0].residual_trust)
    assert [answer.answer for answer in statement.questions] == ["no", "yes", "yes", "yes", "unknown"]


@pytest.mark.parametrize("name", scenario.ATTACKS)
def test_every_attack_is_named(good: scenario.Scenario, name: str) -> None:
    attack = scenario.ATTACKS[name]
    outcome: TrustStatement | EvidentError
    try:
        outcome = statement_of(attack.on(good), good)
    except EvidentError as error:
        outcome = error
    assert outcome.decision != "accepted"
    assert any(finding.code.startswith(attack.caught_by) for finding in outcome.findings), outcome.findings


@pytest.mark.parametrize(
    ("name", "level", "layer"),
    [
        ("swap-firmware", 1, "firmware"),
        ("extra-vcpu", 1, "firmware"),
        ("swap-kernel", 2, "boot_chain"),
        ("swap-initrd", 2, "boot_chain"),
        ("swap-command-line", 2, "boot_chain"),
        ("no-kernel-hashes", 2, "boot_chain"),
        ("debug", 0, "root_of_trust"),
        ("old-launch-tcb", 0, "root_of_trust"),
    ],
)
def test_the_level_falls_exactly_below_the_broken_layer(good: scenario.Scenario, name: str, level: int, layer: str) -> None:
    statement = statement_of(scenario.ATTACKS[name].on(good), good)
    assert statement.decision == "refused"
    assert (statement.levels.nominal, statement.levels.trustworthy) == (level, level)
    assert LEVEL_LAYERS[level] == layer
    assert layer in {finding.layer for finding in statement.findings}


def test_a_swapped_root_filesystem_costs_that_level_alone(good: scenario.Scenario) -> None:
    other = good.owner.command_line.replace(scenario.TEST_ROOT_HASH, "00" * 31 + "01")
    statement = statement_of(replace(good, launched=replace(good.launched, command_line=other)), good)
    assert statement.decision == "refused"
    assert statement.levels.nominal == 3
    assert [(finding.code, finding.layer) for finding in statement.findings] == [("launch.root-hash", "root_filesystem")]
    assert [answer.answer for answer in statement.questions][1:4] == ["yes", "yes", "no"]


def test_the_forbidden_parameter_is_printed(good: scenario.Scenario) -> None:
    """AT-09: with the linter off the parameter is only part of a mismatch."""
    attacked = scenario.ATTACKS["swap-command-line"].on(good)
    statement = statement_of(attacked, good)
    assert any(finding.code == "policy.command-line" and finding.found == "init=/bin/sh" for finding in statement.findings)
    own = replace(attacked, owner=attacked.launched)
    allowed = statement_of(attacked, own, replace(own.policy, forbidden_command_line=()))
    assert allowed.decision == "accepted", "without the linter, a measured init=/bin/sh passes"
    assert statement_of(attacked, own).decision == "refused"


def test_an_emulation_is_refused_by_default(good: scenario.Scenario) -> None:
    """AT-39: accepted only where the policy allows a simulator."""
    assert statement_of(good, good).decision == "accepted"
    statement = statement_of(good, good, replace(good.policy, allow_simulated=False))
    assert statement.decision == "refused"
    assert statement.levels.nominal == 0
    assert "policy.simulated" in {finding.code for finding in statement.findings}


def test_masked_chips_and_clouds_keys_are_accepted_with_a_caveat(good: scenario.Scenario) -> None:
    masked = statement_of(scenario.masked_chip(good), good)
    assert "snp.chip-id.masked" in {caveat.code for caveat in masked.layers[0].caveats}
    cloud = statement_of(scenario.vlek(good), good)
    assert "vlek.cloud-not-chip" in {caveat.code for caveat in cloud.layers[0].caveats}


def test_a_step_that_did_not_run_is_refused(good: scenario.Scenario) -> None:
    """AT-68."""
    verified = snp.verify(good.collect(NONCE), good.context(NONCE))
    for step in verified.steps:
        without = replace(verified, steps=tuple(other for other in verified.steps if other.id != step.id))
        with pytest.raises(NotAuthentic, match=step.id):
            appraise(without, policy=good.policy, references=good.reference.values)
