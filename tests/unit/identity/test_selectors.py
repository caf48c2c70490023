"""What a machine has holds of it, what an entry demands tells machines apart, and what cannot be demanded is not left out in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels
from evident.errors import Indeterminate
from evident.identity import selectors
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.verification import snp
from evident.verification.facts import Facts, Freshness, Tee, Vtpm

NONCE = bytes(range(32))
DIGESTS = st.binary(min_size=32, max_size=32)


def value(register: str, digest: bytes, algorithm: str = "sha256") -> ReferenceValue:
    return ReferenceValue(
        ("boot_chain",), register, digest, Strength.RECOMPUTED, "you", register, Provenance("test", "test"), algorithm=algorithm
    )


def references(*values: ReferenceValue) -> ReferenceSet:
    return ReferenceSet(1, values)


def found(machine: Scenario) -> set[str]:
    verified = snp.verify(machine.collect(NONCE), machine.context(NONCE))
    policy = Policy(version=1, allow_simulated=True, levels=RequiredLevels(nominal=1, verifiability={}))
    return set(selectors.found(verified, appraise(verified, policy=policy, references=machine.reference.values)))


def test_a_machine_that_matches_has_all_and_another_has_not(simulator_pki: SimulatorPki) -> None:
    machine = scenario.good(simulator_pki)
    demanded = set(selectors.expected(machine.reference))
    assert demanded <= found(machine)
    for name in ("swap-firmware", "swap-kernel", "swap-initrd", "swap-command-line", "no-kernel-hashes", "extra-vcpu"):
        assert not demanded <= found(scenario.ATTACKS[name].on(machine)), name


def test_every_level_that_is_reached_has_its_selector(simulator_pki: SimulatorPki) -> None:
    own = found(scenario.good(simulator_pki))
    assert {f"level:{kind}:{number}" for kind in ("nominal", "trustworthy") for number in (1, 2, 3, 4)} <= own
    other = found(scenario.ATTACKS["swap-kernel"].on(scenario.good(simulator_pki)))
    reached = {selector for selector in other if selector.startswith("level:")}
    assert reached == {f"level:{kind}:{number}" for kind in ("nominal", "trustworthy") for number in (1, 2)}, "the firmware is the owner's"


def test_the_challenge_is_in_no_selector(simulator_pki: SimulatorPki) -> None:
    assert not any(selector.startswith("report_data:") for selector in found(scenario.good(simulator_pki)))


@given(st.dictionaries(st.integers(0, 23), DIGESTS, min_size=1), DIGESTS, st.data())
def test_pcrs_match_exactly(pcrs: Mapping[int, bytes], launch: bytes, data: st.DataObject) -> None:
    """For any PCRs of a quote and the launch digest: what is demanded by them is found, and one changed bit is not."""
    has = _selected(pcrs, launch)
    wanted = references(value("launch", launch), *(value(f"pcr{index}", digest) for index, digest in pcrs.items()))
    assert set(selectors.expected(wanted)) <= has
    index = data.draw(st.sampled_from(sorted(pcrs)))
    other = {**pcrs, index: bytes([pcrs[index][0] ^ 1]) + pcrs[index][1:]}
    assert not set(selectors.expected(wanted)) <= _selected(other, launch)


def _selected(pcrs: Mapping[int, bytes], launch: bytes) -> set[str]:
    vtpm = Vtpm("host", "none", "whoever runs the host", {"sha256": pcrs})
    tee = Tee("snp", "AMD", "Milan", "vcek", None, {}, {"launch": launch}, 0, False, False, {}, {})
    facts = Facts("snp-tpm", "snp", Freshness("challenge", ""), tee=tee, vtpm=vtpm)
    return {*selectors._of_tee(tee), *selectors._of_vtpm(facts.vtpm or vtpm)}


def test_a_td_is_known_by_all_its_registers() -> None:
    wanted = references(value("launch", b"\1" * 48), value("rtmr1", b"\2" * 48), value("rtmr2", b"\3" * 48))
    assert selectors.expected(wanted) == (f"measurement:{'01' * 48}", f"rtmr1:{'02' * 48}", f"rtmr2:{'03' * 48}")


def test_of_two_banks_the_one_is_demanded_that_guests_quote() -> None:
    wanted = references(value("pcr11", b"\1" * 32), value("pcr11", b"\2" * 48, "sha384"), value("pcr9", b"\3" * 48, "sha384"))
    assert selectors.expected(wanted) == (f"pcr:sha256:11:{'01' * 32}", f"pcr:sha384:9:{'03' * 48}")


def test_the_list_of_programs_is_no_state_of_the_boot() -> None:
    programs = replace(value("ima", b"\1" * 32), layers=("userspace",))
    assert selectors.expected(references(value("launch", b"\2" * 48), programs)) == (f"measurement:{'02' * 48}",)
    for nothing in (references(), references(programs)):
        with pytest.raises(Indeterminate, match=r"spire\.no-measurement"):
            selectors.expected(nothing)


@pytest.mark.parametrize("register", ["launch", "pcr11", "rtmr1"])
def test_an_entry_cannot_say_or(register: str) -> None:
    """To demand the other registers alone would let machines in that match neither value."""
    with pytest.raises(Indeterminate, match=r"spire\.alternatives"):
        selectors.expected(references(value("mrtd", b"\0" * 48), value(register, b"\1" * 32), value(register, b"\2" * 32)))
    assert selectors.expected(references(value(register, b"\1" * 32), value(register, b"\1" * 32)))


def test_a_stage_of_the_boot_is_not_left_out_in_silence() -> None:
    with pytest.raises(Indeterminate, match=r"spire\.alternatives"):
        selectors.expected(references(value("launch", b"\1" * 48), value("stage.kernel", b"\2" * 32)))
