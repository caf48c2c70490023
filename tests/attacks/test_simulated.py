"""Attacks on simulated deployments that need more than one rule or step to tell: each gets through with its check off.

`attempt` returns the codes of the findings that stand against the evidence; nothing means that the attacker got through.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels, TechnologyRules
from evident.appraisal.statement import TrustStatement
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import CachedFetcher, Fetcher
from evident.errors import EvidentError
from evident.evidence.snp_report import PLATFORM_BITS, POLICY_BITS
from evident.lifecycle.challenges import LIFETIME, Challenges
from evident.reference_values.model import ReferenceValue, Strength
from evident.reports import html, json_report, text, view
from evident.simulator.kds import KdsFetcher, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import ATTACKS, Scenario, good
from evident.verification import pieces, snp
from evident.verification.verified import Verified

NONCE = bytes(range(32))
PROVIDER = "ExampleCloud"


@pytest.fixture(scope="module")
def honest(simulator_pki: SimulatorPki) -> Scenario:
    return good(simulator_pki)


def verify(scenario: Scenario, fetcher: Fetcher | None = None) -> Verified[Any]:
    context = scenario.context(NONCE)
    return snp.verify(scenario.collect(NONCE), replace(context, fetcher=fetcher) if fetcher else context)


def judge(scenario: Scenario, policy: Policy, references: Iterable[ReferenceValue]) -> TrustStatement:
    return appraise(verify(scenario), policy=policy, references=tuple(references))


def codes(statement: TrustStatement) -> list[str]:
    return [finding.code for finding in statement.findings]


def demanding(scenario: Scenario, nominal: int, trustworthy: int = 0, **changes: Any) -> Policy:
    return replace(scenario.policy, levels=RequiredLevels(nominal=nominal, trustworthy=trustworthy), **changes)


# --- AT-01 ------------------------------------------------------------------------------------------------------------------


def firmware_alone(scenario: Scenario) -> Scenario:
    """A deployment whose launch measurement covers the firmware and nothing behind it."""
    return replace(scenario, owner=replace(scenario.owner, kernel_hashes=False), launched=replace(scenario.launched, kernel_hashes=False))


@pytest.mark.attack("AT-01", "The host boots an OS of its own under genuine firmware and binds its own key.", "layer.not-covered")
def test_another_os_under_genuine_firmware(honest: Scenario) -> None:
    """A policy of level 2 hands the identity to the attacker's key; one of level 3 says that nothing measures the kernel."""
    target = firmware_alone(honest)
    attacked = replace(target, launched=ATTACKS["swap-kernel"].on(target).launched)
    evidence = attacked.collect(NONCE)
    verified = snp.verify(evidence, attacked.context(NONCE))
    fooled = appraise(verified, policy=demanding(target, 2), references=target.reference.values)
    assert fooled.decision == "accepted"
    assert verified.facts.bound_key is not None, "and the key of the attacker's OS is bound in genuine evidence"
    statement = appraise(verified, policy=demanding(target, 3), references=target.reference.values)
    assert statement.decision == "refused"
    assert [(finding.code, finding.layer) for finding in statement.findings] == [("layer.not-covered", "boot_chain")]
    assert any("kernel" in caveat.text for layer in statement.layers if layer.name == "boot_chain" for caveat in layer.caveats)


@pytest.mark.attack("AT-01", "The same where the kernel is measured.", "launch.kernel")
def test_another_kernel_is_named_where_it_is_measured(honest: Scenario) -> None:
    attacked = ATTACKS["swap-kernel"].on(honest)
    (own,) = honest.reference.values
    firmware = replace(attacked, owner=attacked.launched).reference.values[0]
    # Who compares the firmware alone takes the rest as the host states it.
    assert judge(attacked, demanding(honest, 2), [replace(firmware, layers=("firmware",), components={})]).decision == "accepted"
    statement = judge(attacked, demanding(honest, 3), [own])
    assert statement.decision == "refused"
    assert "launch.kernel" in codes(statement)
    assert statement.levels.nominal == 2


# --- AT-05 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("AT-05", "A good answer is handed in again.", "challenge.reused, challenge.expired, challenge.other-session")
def test_an_answer_counts_once_for_one_session_and_a_short_time(honest: Scenario, tmp_path: Path) -> None:
    """Verification alone believes the same answer for ever; the store of challenges does not."""
    now = [honest.at]
    store = Challenges(tmp_path, clock=lambda: now[0], randomness=lambda count: bytes((len(list(tmp_path.iterdir())),)) * count)
    nonce = store.issue("shop")
    evidence, context = honest.collect(nonce), honest.context(nonce)
    for _ in range(2):
        assert snp.verify(evidence, context).facts.freshness.scope == "challenge", "without the store, again and again"
    store.redeem("shop", nonce)
    with pytest.raises(EvidentError, match=r"challenge\.reused"):
        store.redeem("shop", nonce)
    other = store.issue("shop")
    with pytest.raises(EvidentError, match=r"challenge\.other-session"):
        store.redeem("another shop", other)
    late = store.issue("shop")
    now[0] += LIFETIME + timedelta(seconds=1)
    with pytest.raises(EvidentError, match=r"challenge\.expired"):
        store.redeem("shop", late)


# --- AT-31 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("AT-31", "Any one setting of launch or host is not what the policy demands.", "policy.setting")
def test_every_setting_of_host_and_launch_alone_can_be_demanded(honest: Scenario) -> None:
    settings = verify(honest).facts.tee.settings  # type: ignore[union-attr]  # SNP evidence has a TEE
    assert set(settings) == {f"policy.{name}" for name in POLICY_BITS.values()} | {f"platform.{name}" for name in PLATFORM_BITS.values()}
    for name, value in settings.items():
        for wanted in (value, not value):
            policy = replace(honest.policy, technologies={"snp": TechnologyRules(settings={name: wanted})})
            statement = judge(honest, policy, honest.reference.values)
            assert statement.decision == ("accepted" if wanted is value else "refused"), name
            assert codes(statement) == ([] if wanted is value else ["policy.setting"]), name


# --- AT-60 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("AT-60", "The endorsed reference value is not that of the published build.", "policy.trustworthy-level")
def test_a_poisoned_reference_value(honest: Scenario) -> None:
    """Who takes the provider's word is fooled; who rebuilt the firmware sees both digests, and the level falls to what holds."""
    attacked = ATTACKS["swap-firmware"].on(honest)
    poisoned = replace(
        replace(attacked, owner=attacked.launched).reference.values[0], strength=Strength.ENDORSED, endorser=PROVIDER, template=b""
    )
    rebuilt = replace(honest.reference.values[0], strength=Strength.REBUILT)
    trusting = demanding(honest, 4, accepted_trust=(PROVIDER,))
    assert judge(attacked, trusting, [poisoned]).decision == "accepted"
    statement = judge(attacked, demanding(honest, 4, 2, accepted_trust=(PROVIDER,)), [poisoned, rebuilt])
    assert statement.decision == "refused"
    assert "policy.trustworthy-level" in codes(statement)
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 1)
    honestly = judge(honest, honest.policy, [rebuilt])
    assert honestly.levels.trustworthy == 4
    said = [caveat.text for layer in statement.layers for caveat in layer.caveats if caveat.code == "reference.stronger-value-differs"]
    assert said
    assert poisoned.value.hex() in said[0]
    assert rebuilt.value.hex() in said[0]


# --- AT-62 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("AT-62", "AMD's key service is kept from answering.", "cache of endorsements")
def test_an_outage_with_and_without_the_cache(honest: Scenario, tmp_path: Path) -> None:
    now = [honest.at]
    service = SimulatedKds(honest.pki, clock=lambda: now[0])
    bare = KdsFetcher(service, clock=lambda: now[0])
    cached = CachedFetcher(Cache(tmp_path), bare, lambda: now[0])
    assert verify(honest, cached).revocation == "good"
    service.mode = Mode(outage=True)
    assert verify(honest, bare).revocation == "unknown", "without the cache the outage decides"
    now[0] += timedelta(days=2)
    later = replace(honest, at=now[0])
    assert verify(later, cached).revocation == "good", "with it, the list at hand is still in force"
    now[0] += timedelta(days=40)
    much_later = replace(honest, at=now[0])
    assert verify(much_later, cached).revocation == "unknown", "and not for ever"


@pytest.mark.attack("AT-62", "Evidence of endless size keeps the verifier busy.", "pieces.size")
def test_oversized_evidence_is_refused_before_it_is_read(honest: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused without a look at it; with the limit off, every parser reads all of it."""
    reached: list[int] = []
    original = snp.content.snp_report

    @functools.wraps(original)
    def counting(data: bytes) -> Any:
        reached.append(len(data))
        return original(data)

    monkeypatch.setattr(snp.content, "snp_report", counting)
    flood = {"report": (bytes(16 * 1024 * 1024),)}
    with pytest.raises(EvidentError, match=r"pieces\.size"):
        snp.verify(flood, honest.context(NONCE))
    assert reached == []
    monkeypatch.setattr(pieces, "_bounded", lambda *_: None)
    with pytest.raises(EvidentError):
        snp.verify(flood, honest.context(NONCE))
    assert reached == [16 * 1024 * 1024]


# --- AT-67 ------------------------------------------------------------------------------------------------------------------


@pytest.mark.attack("AT-67", "A partial result is read as a whole one.", "every layer, and the first that is not verified, in every output")
def test_a_partial_result_never_reads_as_a_whole_one(honest: Scenario) -> None:
    """The bare decision is the same for both, so whoever prints that alone is fooled; no rendering does."""
    partial = judge(firmware_alone(honest), demanding(honest, 2), firmware_alone(honest).reference.values)
    whole = judge(honest, demanding(honest, 2), honest.reference.values)
    assert partial.decision == whole.decision == "accepted"
    assert partial.code == whole.code
    assert view.screen(partial).proof_ends != view.screen(whole).proof_ends
    for rendering in (text.render(partial), html.render(partial)):
        shown = " ".join(rendering.split()).lower()
        assert "boot chain" in shown
        assert "root file system" in shown
        assert "first layer that is not verified" in shown
        assert "not verifiable" in shown
    levels = [layer["verifiability"] for layer in json_report.document(partial)["layers"] if layer["level"] is not None]
    assert len(levels) == 4
    assert 0 in levels
