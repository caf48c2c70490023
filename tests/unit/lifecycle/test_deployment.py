"""A deployment from the first order to the last line of its journal, on the simulated platform."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evident import files
from evident.appraisal.policy import STRICT
from evident.appraisal.statement import TrustStatement
from evident.audit.replay import replay
from evident.endorsements import anchors
from evident.endorsements.anchors import AnchorSet
from evident.errors import EvidentError, Malformed, NotAuthentic, UsageError
from evident.evidence.snp_report import MILAN
from evident.lifecycle import attest as attest_module
from evident.lifecycle.deployment import deployment, deployments, up
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.platforms.driver import Collected
from evident.platforms.order import Order
from evident.platforms.simulated import collector
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario, sample_launch


def test_up_attest_down(owner: Any, simulator_pki: SimulatorPki) -> None:
    shop = owner.up()
    answer = owner.attest(shop)
    outcome = answer.outcome
    assert isinstance(outcome, TrustStatement)
    assert (outcome.decision, outcome.levels.nominal, outcome.levels.trustworthy) == ("accepted", 4, 4)
    assert outcome.simulated
    assert outcome.platform == "simulated"
    assert shop.journal.state is State.ATTESTED
    assert down(shop)
    assert not down(shop)
    assert [event.state for event in shop.journal.events()] == ["planned", "launched", "attested", "destroying", "destroyed"]
    assert not shop.machine.exists()
    assert answer.bundle_path.read_bytes() == answer.bundle


def test_the_bundle_is_replayed_by_a_stranger_who_believes_the_test_roots(owner: Any, simulator_pki: SimulatorPki) -> None:
    answer = owner.attest(owner.up())
    believing = anchors.production().plus(*simulator_pki.anchors())
    again = replay(answer.bundle, trusted=[owner.key.public], anchors=believing)
    assert again.outcome == answer.outcome
    with pytest.raises(NotAuthentic):
        replay(answer.bundle, trusted=[owner.key.public], anchors=anchors.production())
    with pytest.raises(NotAuthentic):
        replay(answer.bundle, trusted=[], anchors=believing)


def test_the_machine_is_the_same_in_the_next_process(owner: Any, tmp_path: Path) -> None:
    first = owner.attest(owner.up()).outcome
    later = owner.attest(owner.deployment()).outcome
    assert isinstance(first, TrustStatement)
    assert isinstance(later, TrustStatement)
    for claim in ("report_id", "measurement", "chip_id"):
        assert first.claims[claim] == later.claims[claim]
    assert first.claims["report_data"] != later.claims["report_data"]


def test_two_deployments_are_two_machines(owner: Any) -> None:
    one, two = (owner.attest(owner.up(name)).outcome for name in ("one", "two"))
    assert isinstance(one, TrustStatement)
    assert isinstance(two, TrustStatement)
    assert one.claims["report_id"] != two.claims["report_id"]
    assert [each.name for each in deployments(owner.surroundings)] == ["one", "two"]


@pytest.mark.parametrize(
    ("attack", "state", "code"),
    [
        ("swap-kernel", State.REFUSED, "launch.kernel"),
        ("altered-report", State.REFUSED, "snp.signature"),
        ("replay", State.REFUSED, "snp.challenge"),
        ("no-crl", State.UNDECIDED, "snp.revocation"),
        ("debug", State.REFUSED, "policy.debug"),
    ],
)
def test_a_cheating_host_is_written_down(owner: Any, attack: str, state: State, code: str) -> None:
    target = owner.up(attack=attack)
    answer = owner.attest(target)
    assert any(finding.code.startswith(code) for finding in answer.outcome.findings)
    last, *after = target.journal.events()[2:]
    assert last.state is state
    assert [event.state for event in after] == ([State.QUARANTINED] if state is State.REFUSED else [])
    assert last.detail["decision"] == answer.outcome.decision
    assert last.detail["bundle"] == answer.bundle_path.name


def test_own_images_are_measured_and_demanded(owner: Any) -> None:
    sample = sample_launch()
    images = {"firmware": sample.firmware, "kernel": b"own kernel", "initrd": b"own initrd"}
    for name, command_line, level in (("verity", "roothash=" + "ab" * 32, 4), ("plain", "quiet", 3)):
        target = owner.up(name, **images, command_line=command_line, vcpus=2)
        assert (target.policy.levels.nominal, target.policy.levels.trustworthy) == (level, level)
        outcome = owner.attest(target).outcome
        assert isinstance(outcome, TrustStatement)
        assert (outcome.decision, outcome.levels.nominal) == ("accepted", level)


def test_another_policy_may_be_demanded(owner: Any) -> None:
    target = owner.up()
    outcome = owner.attest(target, policy=STRICT).outcome
    assert outcome.decision == "refused"
    kept = owner.deployment("kept")
    up(kept, "simulated", Order(), policy=replace(STRICT, name="mine"))
    assert kept.policy.name == "mine"
    assert owner.attest(kept).outcome.decision == "refused"


def test_names_that_are_none(owner: Any) -> None:
    for name in ("", "-", "a-", "-a", "UP", "a/b", "..", "a" * 64, "ä", "a\n"):
        with pytest.raises(UsageError, match=r"deployment\.name"):
            owner.deployment(name)
    for name in ("a", "a-b", "7", "a" * 63):
        owner.deployment(name)


def test_what_is_not_there(owner: Any) -> None:
    ghost = owner.deployment("ghost")
    for act in (lambda: owner.attest(ghost), lambda: down(ghost)):
        with pytest.raises(UsageError, match=r"deployment\.(unknown|not-running)"):
            act()


def test_what_is_there_already(owner: Any) -> None:
    target = owner.up()
    with pytest.raises(UsageError, match=r"deployment\.state"):
        owner.up()
    down(target)
    with pytest.raises(UsageError, match=r"deployment\.not-running"):
        owner.attest(target)
    owner.up()
    assert owner.attest(target).outcome.decision == "accepted"


def test_platforms_that_there_are_none_of(owner: Any) -> None:
    for name in ("../simulated", "gce", "", "driver"):
        with pytest.raises(UsageError, match=r"platform\.unknown"):
            up(owner.deployment(), name, Order())
    assert owner.deployment().journal.events() == ()


def test_orders_that_make_no_sense(owner: Any) -> None:
    for name, order in (("a", {"attack": "bribe"}), ("b", {"initrd": b"x"}), ("c", {"vcpus": 0}), ("d", {"command_line": "quiet"})):
        with pytest.raises(UsageError):
            owner.up(name, **order)
    with pytest.raises(Malformed):
        owner.up("e", firmware=b"not a firmware")


class PowerCut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("survived", range(8))
def test_a_crash_during_up_is_resumed_or_cleaned_up(owner: Any, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    """The process dies after so many durable writes; the next one finishes the job, or takes everything away."""
    writes = 0
    fsync = os.fsync

    def cut(descriptor: int) -> None:
        nonlocal writes
        if writes == survived:
            raise PowerCut
        writes += 1
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", cut)
        try:
            owner.up()
        except PowerCut:
            pass
        else:
            pytest.fail("more writes than the test cuts")
    target = owner.deployment()
    assert target.journal.state in (None, State.PLANNED)
    if survived % 2:
        if target.journal.state is not None:
            assert down(target)
        assert not target.machine.exists()
    owner.up()
    assert owner.attest(target).outcome.decision == "accepted"


def test_what_crashed_before_its_first_line_never_began(owner: Any) -> None:
    target = deployment("torn", owner.surroundings)
    target.directory.mkdir(parents=True)
    target.journal.path.write_bytes(b'{"at": "2026-11')
    assert deployments(owner.surroundings) == ()
    up(target, "simulated", Order())
    assert [each.name for each in deployments(owner.surroundings)] == ["torn"]


def test_a_crash_during_down_is_finished(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(path: Path) -> None:
        raise PowerCut(path)

    target = owner.up()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cut)
        with pytest.raises(PowerCut):
            down(target)
    assert target.journal.state is State.DESTROYING
    with pytest.raises(UsageError):
        owner.attest(target)
    assert down(target)
    assert not target.machine.exists()


def test_two_processes_do_not_work_on_one_deployment(owner: Any) -> None:
    target = owner.up()
    with target.exclusive(), pytest.raises(UsageError, match=r"state\.busy"):
        down(owner.deployment())
    assert target.journal.state is State.LAUNCHED


@pytest.mark.parametrize("grace", [0.0, 5.0])
def test_a_lock_that_is_let_go_of_in_a_moment_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace: float) -> None:
    """A process that was killed may have forked one that has not noticed yet: it lives for a moment, and holds its locks."""
    monkeypatch.setattr(files, "GRACE", grace)
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        letting_go = threading.Timer(0.3, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        letting_go.start()
        refused = pytest.raises(UsageError, match=r"state\.busy") if grace == 0 else nullcontext()
        with refused, files.locked(tmp_path / "lock", wait=False):
            pass
        letting_go.join()


def test_a_changed_image_on_disk_is_noticed(owner: Any) -> None:
    target = owner.up()
    (target.machine / "kernel").write_bytes(b"another")
    with pytest.raises(Malformed, match=r"simulated\.image"):
        owner.attest(target)


def test_damaged_state_is_an_error_and_no_traceback(owner: Any) -> None:
    target = owner.up()
    for name in ("references.json", "policy.json", "machine/machine.json"):
        path = target.directory / name
        kept = path.read_bytes()
        for damage in (b"", b"{", b'{"version": 2}', b"\xff"):
            path.write_bytes(damage)
            with pytest.raises(EvidentError):
                owner.attest(target)
        path.write_bytes(kept)
    assert owner.attest(target).outcome.decision == "accepted"


def test_an_answer_that_comes_too_late_counts_for_nothing(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = owner.up()

    collect = collector.collect

    def slow(running: Scenario, nonce: bytes) -> Collected:
        owner.now += timedelta(minutes=6)
        return collect(running, nonce)

    monkeypatch.setattr(collector, "collect", slow)
    with pytest.raises(NotAuthentic, match=r"challenge\.expired"):
        owner.attest(target)


def test_nothing_of_it_could_be_mistaken_for_production(owner: Any, simulator_pki: SimulatorPki) -> None:
    believed = owner.up().driver().believed(owner.deployment().machine)
    assert all(anchor.simulated for anchor in believed.anchors)
    assert believed.unsafe == {"simulated-root"}
    assert not any(anchor.simulated for anchor in AnchorSet(anchors.production()))


@pytest.mark.attack("AT-28", "The host hands in a revocation list of its own choosing with the evidence.", "snp.revocation.unknown")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_revocation_lists_are_not_taken_from_the_machine(
    owner: Any, simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """The key service is kept from answering, and a list that knows of no revocation comes with the answer."""
    chosen = simulator_pki.crl(MILAN, at=owner.now, number=1)
    honest = collector.collect
    monkeypatch.setattr(collector, "collect", lambda running, nonce: Collected("snp", {**honest(running, nonce).pieces, "crl": (chosen,)}))
    if not checked:
        monkeypatch.setattr(attest_module, "of_machine", lambda pieces: pieces)
    answer = owner.attest(owner.up(attack="no-crl"))
    assert answer.outcome.decision == ("indeterminate" if checked else "accepted")
    if checked:
        assert "snp.revocation.unknown" in {finding.code for finding in answer.outcome.findings}
