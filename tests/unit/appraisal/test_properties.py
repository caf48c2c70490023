"""Any combination of evidence, reference values and policy: the statement never contradicts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evident import codec
from evident.appraisal.appraise import appraise
from evident.appraisal.degrees import LEVEL_LAYERS
from evident.appraisal.policy import Policy, RequiredLevels
from evident.platforms.registry import PROFILES
from evident.reference_values.model import Strength
from evident.verification.facts import Facts, Freshness, Runtime, StatedLaunch

Make = Callable[..., Any]

fewer = settings(max_examples=max(25, settings.default.max_examples // 4))
"""Every example draws some forty values: a quarter of the usual count takes the usual time."""


@pytest.fixture
def draw_case(verified: Make, facts: Make, tee: Make, vtpm: Make, boot: Make, reference: Make) -> Callable[[st.DataObject], Any]:
    """Draws evidence, reference values, policy and profile."""

    def maybe(data: st.DataObject, value: Any) -> Any:
        return data.draw(st.sampled_from([None, value]))

    def evidence(data: st.DataObject) -> Facts:
        scope = data.draw(st.sampled_from(["challenge", "boot", "unknown"]))
        carrier = data.draw(st.sampled_from(["tee", "vtpm", "none"]))
        return replace(
            facts(),
            freshness=Freshness(scope, "drawn", carrier),
            tee=maybe(
                data, tee(debug=data.draw(st.booleans()), migratable=data.draw(st.booleans()), key_holder=maybe(data, "ExampleCloud"))
            ),
            vtpm=maybe(
                data,
                vtpm(
                    location=data.draw(st.sampled_from(["hypervisor", "paravisor", "svsm", "chip", "unknown"])),
                    anchor=data.draw(st.sampled_from(["tee", "certificate", "none"])),
                ),
            ),
            boot=maybe(
                data, boot(secure_boot=maybe(data, True), caveats=data.draw(st.sampled_from([(), ("log.sha1-only",), ("log.new",)])))
            ),
            runtime=maybe(data, Runtime(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1)), gaps=("gap",))),
            stated_launch=maybe(data, StatedLaunch({"kernel": bytes(32)}, "quiet")),
            bound_key=maybe(data, bytes(32)),
            caveats=data.draw(st.sampled_from([(), ("snp.chip-id.masked",), ("new.remark",)])),
        )

    def references(data: st.DataObject) -> Any:
        return data.draw(
            st.lists(
                st.builds(
                    reference,
                    layers=st.lists(st.sampled_from(LEVEL_LAYERS[1:]), min_size=1, unique=True).map(tuple),
                    register=st.sampled_from(["launch", "pcr4", "pcr11", "stage.kernel", "rtmr1", "pcrX"]),
                    value=st.sampled_from([b"\x11" * 48, b"\x04" * 32, b"\x0b" * 32, b"\x66" * 32, b"\x99" * 48]),
                    strength=st.sampled_from(Strength),
                    endorser=st.sampled_from(["you", "ExampleCloud"]),
                    algorithm=st.sampled_from(["sha256", "sha384"]),
                ),
                max_size=4,
            ).map(tuple)
        )

    def make(data: st.DataObject) -> Any:
        policy = Policy(
            version=1,
            levels=RequiredLevels(nominal=data.draw(st.integers(0, 4)), trustworthy=data.draw(st.integers(0, 4))),
            accepted_trust=data.draw(st.sampled_from([(), ("ExampleCloud",)])),
            allow_simulated=data.draw(st.booleans()),
        )
        held = verified(
            evidence(data), simulated=data.draw(st.booleans()), revocation=data.draw(st.sampled_from(["good", "revoked", "unknown"]))
        )
        return held, policy, references(data), maybe(data, data.draw(st.sampled_from(PROFILES)))

    return make


@fewer
@given(data=st.data())
def test_a_statement_never_contradicts_itself(draw_case: Callable[[st.DataObject], Any], data: st.DataObject) -> None:
    held, policy, references, profile = draw_case(data)
    statement = appraise(held, policy=policy, references=references, profile=profile)
    layers = {layer.name: layer for layer in statement.layers}
    assert (statement.decision == "accepted") == (statement.findings == ())
    assert statement.code == ("accepted" if not statement.findings else statement.findings[0].code)
    assert 0 <= statement.levels.trustworthy <= statement.levels.nominal <= 4
    for number, name in enumerate(LEVEL_LAYERS, start=1):
        assert (layers[name].verifiability >= 1) == (statement.levels.nominal >= number)
        if statement.levels.trustworthy >= number:
            assert not layers[name].needs_provider
    if statement.decision == "accepted":
        assert statement.levels.nominal >= policy.levels.nominal
        assert statement.levels.trustworthy >= policy.levels.trustworthy
        assert not held.simulated or policy.allow_simulated
    assert all(caveat.text and caveat.remedy for layer in statement.layers for caveat in layer.caveats)
    assert all(layer.residual_trust for layer in statement.layers if layer.level)
    assert all(statement.headline[key] for key in ("use", "proven", "trust", "todo"))
    assert held.simulated == ("SIMULATED" in statement.headline["use"])
    assert codec.encode(statement) == codec.encode(appraise(held, policy=policy, references=references, profile=profile))


@fewer
@given(data=st.data())
def test_believing_more_parties_never_raises_a_level(draw_case: Callable[[st.DataObject], Any], data: st.DataObject) -> None:
    """CL-07, CL-31: acceptance is the policy's; what is proven is not."""
    held, policy, references, profile = draw_case(data)
    before = appraise(held, policy=policy, references=references, profile=profile)
    trusting = replace(policy, accepted_trust=("ExampleCloud", "AWS", "Microsoft", "Google", "the infrastructure provider"))
    assert appraise(held, policy=trusting, references=references, profile=profile).levels == before.levels
    own = [value for value in references if value.endorser == "you"]
    others = tuple(replace(value, endorser="a third party") for value in references if value.endorser != "you")
    alone = appraise(held, policy=policy, references=tuple(own), profile=profile)
    with_others = appraise(held, policy=policy, references=(*own, *others), profile=profile)
    assert with_others.levels.trustworthy <= alone.levels.trustworthy
