"""Breaking any layer of a good simulated deployment lowers the level exactly to below that layer, on every chip and in every company."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evident.appraisal.appraise import appraise
from evident.appraisal.degrees import LEVEL_LAYERS
from evident.appraisal.statement import TrustStatement
from evident.evidence.snp_report import PRODUCTS
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import ATTACKS, TEST_ROOT_HASH, Scenario, good, masked_chip, vlek
from evident.simulator.secure_processor import Chip
from evident.verification import snp

NONCE = bytes(range(32))


def swap_root_filesystem(scenario: Scenario) -> Scenario:
    line = scenario.launched.command_line.replace(TEST_ROOT_HASH, "0" * 63 + "1")
    return replace(scenario, launched=replace(scenario.launched, command_line=line))


BREAKS: Mapping[str, Mapping[str, Callable[[Scenario], Scenario]]] = MappingProxyType(
    {
        "root_of_trust": {
            name: ATTACKS[name].on
            for name in ("debug", "migration-agent", "old-current-tcb", "old-reported-tcb", "old-committed-tcb", "old-launch-tcb")
        },
        "firmware": {name: ATTACKS[name].on for name in ("swap-firmware", "extra-vcpu")},
        "boot_chain": {name: ATTACKS[name].on for name in ("swap-kernel", "swap-initrd", "swap-command-line", "no-kernel-hashes")},
        "root_filesystem": {"swap-root-filesystem": swap_root_filesystem},
    }
)
WAYS = [(layer, name) for layer, ways in BREAKS.items() for name in ways]
HOSTS: Mapping[str, Callable[[Scenario], Scenario]] = MappingProxyType({"plain": lambda s: s, "masked chip": masked_chip, "VLEK": vlek})


def judge(scenario: Scenario) -> TrustStatement:
    verified = snp.verify(scenario.collect(NONCE), scenario.context(NONCE))
    return appraise(verified, policy=scenario.policy, references=scenario.reference.values)


def check(statement: TrustStatement, broken: set[str]) -> None:
    lowest = min(LEVEL_LAYERS.index(layer) for layer in broken)
    assert statement.decision == "refused"
    assert (statement.levels.nominal, statement.levels.trustworthy) == (lowest, lowest)
    degrees = [layer.verifiability for layer in statement.layers if layer.name in LEVEL_LAYERS]
    assert all(degrees[:lowest]), "what lies below still holds"
    assert not any(degrees[lowest:]), "nothing above counts"
    assert LEVEL_LAYERS[lowest] in {finding.layer for finding in statement.findings}


@pytest.mark.parametrize(("layer", "name"), WAYS, ids=[name for _, name in WAYS])
@pytest.mark.parametrize("host", HOSTS)
def test_each_way_alone(simulator_pki: SimulatorPki, layer: str, name: str, host: str) -> None:
    scenario = HOSTS[host](good(simulator_pki))
    intact = judge(scenario)
    assert (intact.decision, intact.levels.nominal, intact.levels.trustworthy) == ("accepted", 4, 4)
    check(judge(BREAKS[layer][name](scenario)), {layer})


@settings(max_examples=40)
@given(
    product=st.sampled_from(PRODUCTS),
    version=st.sampled_from([3, 4, 5]),
    host=st.sampled_from(sorted(HOSTS)),
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=4, unique_by=lambda way: way[0]),
)
def test_any_ways_together(simulator_pki: SimulatorPki, product: object, version: int, host: str, ways: list[tuple[str, str]]) -> None:
    scenario = HOSTS[host](good(simulator_pki, chip=Chip(product, report_version=version)))  # type: ignore[arg-type]  # a Product
    for layer, name in ways:
        scenario = BREAKS[layer][name](scenario)
    check(judge(scenario), {layer for layer, _ in ways})
