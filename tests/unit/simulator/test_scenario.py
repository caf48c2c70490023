"""The good deployment is good at every layer; each attack is named, and would have worked with its one check off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.degrees import LEVEL_LAYERS
from evident.appraisal.policy import STRICT, Policy, RequiredLevels, RevocationRule, TechnologyRules
from evident.appraisal.statement import TrustStatement
from evident.endorsements import anchors
from evident.errors import EvidentError, NotAuthentic
from evident.evidence.snp_report import GENOA, PRODUCTS, TURIN, Product
from evident.reference_values.model import ReferenceSet
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import ATTACKS, Scenario, good, masked_chip, sample_launch, vlek
from evident.simulator.secure_processor import Chip
from evident.verification import snp
from evident.verification.facts import StatedLaunch
from evident.verification.procedure import Procedure

NONCE = b"\x2a" * 32


def judge(
    scenario: Scenario, *, policy: Policy | None = None, references: ReferenceSet | None = None, procedure: Procedure[Any] = snp.PROCEDURE
) -> TrustStatement:
    verified = snp.verify(scenario.collect(NONCE), scenario.context(NONCE), procedure)
    chosen = scenario.reference if references is None else references
    return appraise(verified, policy=policy or scenario.policy, references=chosen.values)


def codes(outcome: TrustStatement | EvidentError) -> tuple[str, ...]:
    return tuple(finding.code for finding in outcome.findings)


@pytest.fixture(scope="module")
def honest(simulator_pki: SimulatorPki) -> Scenario:
    return good(simulator_pki)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_the_good_deployment_is_proved_to_the_root_file_system(simulator_pki: SimulatorPki, product: Product, version: int) -> None:
    statement = judge(good(simulator_pki, chip=Chip(product, report_version=version)))
    assert (statement.decision, statement.findings) == ("accepted", ())
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 4)
    assert statement.simulated
    assert statement.authentic
    assert statement.revocation == "good"
    layers = {layer.name: layer for layer in statement.layers}
    assert [layers[name].verifiability >= 2 for name in LEVEL_LAYERS] == [True] * 4


@pytest.mark.parametrize("variation", [masked_chip, vlek])
def test_honest_hosts_that_hide_the_chip(honest: Scenario, variation: Callable[[Scenario], Scenario]) -> None:
    assert judge(variation(honest)).decision == "accepted"


def outcome_of(scenario: Scenario) -> TrustStatement | EvidentError:
    try:
        return judge(scenario)
    except EvidentError as error:
        return error


LEVEL_LEFT: Mapping[str, int] = MappingProxyType(
    {
        "swap-firmware": 1,
        "swap-kernel": 2,
        "swap-initrd": 2,
        "swap-command-line": 2,
        "no-kernel-hashes": 2,
        "extra-vcpu": 1,
        "debug": 0,
        "migration-agent": 0,
        "stale-crl": 4,
        "no-crl": 4,
    }
)


def in_index(names: Iterable[str], shows: str) -> list[Any]:
    """`names` of attacks as parameters, with their place in the index of attacks."""
    attacks = [(name, ATTACKS[name]) for name in sorted(names)]
    marks = {
        name: [pytest.mark.attack(found.requirement, found.title, found.caught_by, shows)] for name, found in attacks if found.requirement
    }
    return [pytest.param(name, marks=marks.get(name, [])) for name, _ in attacks]


@pytest.mark.parametrize("name", in_index(ATTACKS, "refused"))
def test_every_attack_is_named(honest: Scenario, name: str) -> None:
    attack = ATTACKS[name]
    outcome = outcome_of(attack.on(honest))
    undecided = name in {"stale-crl", "no-crl"}
    assert outcome.decision in ({"indeterminate"} if undecided else {"refused", "not_authentic"})
    assert any(code.startswith(attack.caught_by) for code in codes(outcome)), codes(outcome)
    if name in LEVEL_LEFT:
        assert isinstance(outcome, TrustStatement)
        assert outcome.levels.nominal == LEVEL_LEFT[name]


def attacked_reference(scenario: Scenario) -> ReferenceSet:
    """What a verifier accepts that takes the host's word for what should run."""
    return replace(scenario, owner=scenario.launched).reference


def lenient(scenario: Scenario, **changes: Any) -> Policy:
    return replace(scenario.policy, **changes)


CHECK_OFF: Mapping[str, Callable[[Scenario], dict[str, Any]]] = MappingProxyType(
    {
        **{
            name: lambda scenario: {
                "references": attacked_reference(scenario),
                "policy": lenient(scenario, levels=RequiredLevels(nominal=1, verifiability={}), forbidden_command_line=()),
            }
            for name in ("swap-firmware", "swap-kernel", "swap-initrd", "swap-command-line", "no-kernel-hashes", "extra-vcpu")
        },
        "debug": lambda scenario: {"policy": lenient(scenario, allow_debug=True, levels=RequiredLevels(0, 0, {}))},
        "migration-agent": lambda scenario: {"policy": lenient(scenario, allow_migration=True, levels=RequiredLevels(0, 0, {}))},
        **{
            f"old-{tcb}-tcb": lambda scenario: {"policy": lenient(scenario, technologies={})}
            for tcb in ("current", "reported", "committed", "launch")
        },
        "low-privilege": lambda scenario: {"policy": lenient(scenario, technologies={"snp": TechnologyRules()})},
        "stale-crl": lambda scenario: {"policy": lenient(scenario, revocation=RevocationRule("accept-unsafe"))},
        "no-crl": lambda scenario: {"policy": lenient(scenario, revocation=RevocationRule("accept-unsafe"))},
    }
)


@pytest.mark.parametrize("name", in_index(CHECK_OFF, "succeeds"))
def test_the_attack_succeeds_with_its_check_off(honest: Scenario, name: str) -> None:
    attacked = ATTACKS[name].on(honest)
    statement = judge(attacked, **CHECK_OFF[name](attacked))
    assert statement.decision == "accepted", codes(statement)


STEP_OF: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "altered-report": frozenset({"snp.signature"}),
        "other-chips-certificate": frozenset({"snp.chip-id", "snp.signature"}),
        "wrong-product": frozenset({"snp.product", "snp.signature"}),
        "wrong-key-kind": frozenset({"snp.certificate-kind", "snp.chip-id", "snp.signature"}),
        "unsigned": frozenset({"snp.signing-key", "snp.signature"}),
        "replay": frozenset({"snp.challenge"}),
        "revoked": frozenset({"snp.revocation"}),
        "forged-crl": frozenset({"snp.revocation"}),
    }
)


@pytest.mark.attack("AT-68", "A check is missing from the verifier.", "verification.step-missing")
@pytest.mark.parametrize("name", in_index(STEP_OF, "succeeds"))
def test_forgeries_pass_where_their_steps_are_left_out(honest: Scenario, name: str) -> None:
    """Verification without exactly these steps believes the forgery; appraisal still notices that they did not run (AT-68)."""
    attacked = ATTACKS[name].on(honest)
    shortened = replace(snp.PROCEDURE, steps=tuple(step for step in snp.PROCEDURE.steps if step.id not in STEP_OF[name]))
    verified = snp.verify(attacked.collect(NONCE), attacked.context(NONCE), shortened)
    with pytest.raises(NotAuthentic, match=r"verification\.step-missing"):
        appraise(verified, policy=honest.policy, references=honest.reference.values)


def test_every_attack_has_been_shown_to_succeed() -> None:
    assert CHECK_OFF.keys() | STEP_OF.keys() == ATTACKS.keys()


@pytest.mark.attack("AT-39", "An emulation passes for hardware.", "snp.root.unknown, snp.root.simulated, policy.simulated", "refused")
def test_production_trust_refuses_the_simulator(honest: Scenario) -> None:
    """AT-39: neither the shipped roots nor the TEST roots without the unsafe option believe it; with them, the policy has to."""
    pieces = honest.collect(NONCE)
    with pytest.raises(NotAuthentic) as unknown:
        snp.verify(pieces, honest.context(NONCE, anchors=anchors.production()))
    assert any(code.startswith(("snp.root", "snp.issuer")) for code in codes(unknown.value))
    with pytest.raises(NotAuthentic) as unnamed:
        snp.verify(pieces, honest.context(NONCE, unsafe=frozenset()))
    assert "snp.root.simulated" in codes(unnamed.value)
    verified = snp.verify(pieces, honest.context(NONCE))
    refused = appraise(verified, policy=STRICT, references=honest.reference.values)
    assert refused.decision == "refused"
    assert any("simulated" in code for code in codes(refused))


def test_a_lie_about_the_launch_gains_nothing(honest: Scenario) -> None:
    """The host swaps the kernel and has the guest state the owner's: the signed digest decides."""
    attacked = ATTACKS["swap-kernel"].on(honest)
    liar = replace(attacked, stated=lambda scenario: good(scenario.pki).stated(good(scenario.pki)))
    silent = replace(attacked, stated=lambda _: None)
    for scenario in (liar, silent):
        statement = judge(scenario)
        assert statement.decision == "refused"
        assert statement.levels.nominal <= 2
    # And a lie about a good launch harms nobody but the liar: the digest still matches.
    slander = replace(honest, stated=lambda _: StatedLaunch({"kernel": bytes(32)}))
    assert judge(slander).levels.nominal == 4


def test_the_owner_may_bring_other_binaries(simulator_pki: SimulatorPki) -> None:
    for changes, level in (
        ({"command_line": "quiet"}, 3),
        ({"kernel_hashes": False}, 2),
    ):
        owner = replace(sample_launch(), **changes)  # type: ignore[arg-type]  # two fields of two types
        scenario = good(simulator_pki, owner=owner)
        statement = judge(scenario, policy=lenient(scenario, levels=RequiredLevels(level, level)))
        assert (statement.decision, statement.levels.nominal, statement.levels.trustworthy) == ("accepted", level, level)


def test_turin_and_genoa_fall_to_the_same_attacks(simulator_pki: SimulatorPki) -> None:
    for product in (GENOA, TURIN):
        attack = ATTACKS["swap-kernel"]
        assert "launch.kernel" in codes(outcome_of(attack.on(good(simulator_pki, chip=Chip(product)))))
