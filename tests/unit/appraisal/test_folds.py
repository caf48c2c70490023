"""Properties of the folds: monotone, incremental, and no endorsement ever stands without trust."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from evident.appraisal.degrees import LEVEL_LAYERS, Levels
from evident.appraisal.folds import Basis, levels, needs_provider, settle, symbol

degrees = st.fixed_dictionaries({layer: st.integers(0, 4) for layer in LEVEL_LAYERS})
carriers = st.fixed_dictionaries({layer: st.sampled_from(["tee", "vtpm", "none"]) for layer in LEVEL_LAYERS[2:]})
bases = st.builds(
    Basis,
    fresh=st.booleans(),
    degrees=degrees,
    carriers=carriers,
    vtpm_location=st.sampled_from(["hypervisor", "host", "paravisor", "svsm", "chip", "unknown", "none"]),
    vtpm_anchored=st.booleans(),
)
GOOD = Basis(fresh=True, degrees=dict.fromkeys(LEVEL_LAYERS, 4), carriers={})


def fold(basis: Basis) -> Levels:
    return levels(settle(basis.degrees), needs_provider(basis))


@given(bases)
def test_trustworthy_never_exceeds_nominal(basis: Basis) -> None:
    reached = fold(basis)
    assert 0 <= reached.trustworthy <= reached.nominal <= 4


@given(bases, st.sampled_from(LEVEL_LAYERS))
def test_breaking_a_layer_leaves_at_most_what_is_below(basis: Basis, layer: str) -> None:
    """AL-11, TB-18."""
    broken = fold(replace(basis, degrees={**basis.degrees, layer: 0}))
    assert broken.nominal <= LEVEL_LAYERS.index(layer)
    assert broken.nominal == min(fold(basis).nominal, LEVEL_LAYERS.index(layer))


@given(bases, st.sampled_from(LEVEL_LAYERS), st.integers(0, 4))
def test_a_lower_degree_never_raises_anything(basis: Basis, layer: str, degree: int) -> None:
    lower = replace(basis, degrees={**basis.degrees, layer: min(degree, basis.degrees[layer])})
    before, after = fold(basis), fold(lower)
    assert after.nominal <= before.nominal
    assert after.trustworthy <= before.trustworthy


@given(bases, st.sampled_from(LEVEL_LAYERS[1:]))
def test_an_endorsement_never_raises_the_trustworthy_level(basis: Basis, layer: str) -> None:
    """CL-07: somebody's word gives degree 2 at most."""
    vouched = replace(basis, degrees={**basis.degrees, layer: max(basis.degrees[layer], 2)})
    assert fold(vouched).trustworthy <= fold(basis).trustworthy or basis.degrees[layer] >= 3


@given(bases)
def test_a_vtpm_outside_the_vm_always_needs_the_provider(basis: Basis) -> None:
    """AT-18, EV-18."""
    outside = replace(basis, vtpm_location="hypervisor", carriers=dict.fromkeys(LEVEL_LAYERS[2:], "vtpm"))
    assert needs_provider(outside)["vtpm"]
    assert fold(outside).trustworthy <= 2


@given(bases)
def test_without_freshness_nothing_stands_without_the_provider(basis: Basis) -> None:
    assert fold(replace(basis, fresh=False)).trustworthy == 0


def test_the_three_symbols() -> None:
    assert fold(GOOD) == Levels(4, 4)
    assert [symbol(0, False), symbol(1, True), symbol(3, False)] == ["○", "◐", "●"]
