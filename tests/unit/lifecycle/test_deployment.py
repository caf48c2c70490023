"""A deployment from the first order to the last line of its journal, on the simulated platform."""

from __future__ import annotations

import fcntl
import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from evident import files
from evident.appraisal.policy import STRICT
from evident.appraisal.statement import TrustStatement
from evident.audit import keys
from evident.audit.replay import replay
from evident.endorsements import anchors
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import EvidentError, Malformed, NotAuthentic, UsageError
from evident.evidence.snp_report import MILAN
from evident.lifecycle import attest as attest_module
from evident.lifecycle.attest import Answer, attest
from evident.lifecycle.deployment import Deployment, deployment, deployments, up
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.platforms import registry
from evident.platforms.driver import Collected, Order, Surroundings
from evident.platforms.simulated import collector
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import sample_launch


class World:
    """A state directory with TEST keys in it, a clock, and counted randomness."""

    def __init__(self, state: Path, pki: SimulatorPki) -> None:
        self.now = pki.made_at + timedelta(days=2)
        self._count = 0
        pki.save(state / "simulator")
        self.surroundings = Surroundings(state, lambda: self.now, self._random, lambda _: None)
        self.key = keys.generate(self._random)

    def _random(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(4, "big").rjust(count, b"\x11")

    def deployment(self, name: str = "shop") -> Deployment:
        return deployment(name, self.surroundings)

    def up(self, name: str = "shop", **order: object) -> Deployment:
        target = self.deployment(name)
        up(target, "simulated", Order(**order))  # type: ignore[arg-type]  # a test's own keywords
        return target

    def attest(self, target: Deployment, **options: object) -> Answer:
        self.now += timedelta(seconds=1)
        return attest(target, anchors=anchors.production(), fetcher=StaticFetcher({}), key=self.key, **options)  # type: ignore[arg-type]  # likewise


@pytest.fixture
def world(tmp_path: Path, simulator_pki: SimulatorPki) -> World:
    return World(tmp_path, simulator_pki)


def test_up_attest_down(world: World, simulator_pki: SimulatorPki) -> None:
    shop = world.up()
    answer = world.attest(shop, profile=registry.profile("simulated", world.now.date()))
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


def test_the_bundle_is_replayed_by_a_stranger_who_believes_the_test_roots(world: World, simulator_pki: SimulatorPki) -> None:
    answer = world.attest(world.up())
    believing = anchors.production().plus(*simulator_pki.anchors())
    again = replay(answer.bundle, trusted=[world.key.public], anchors=believing)
    assert again.outcome == answer.outcome
    with pytest.raises(NotAuthentic):
        replay(answer.bundle, trusted=[world.key.public], anchors=anchors.production())
    with pytest.raises(NotAuthentic):
        replay(answer.bundle, trusted=[], anchors=believing)


def test_the_machine_is_the_same_in_the_next_process(world: World, tmp_path: Path) -> None:
    first = world.attest(world.up()).outcome
    later = world.attest(world.deployment()).outcome
    assert isinstance(first, TrustStatement)
    assert isinstance(later, TrustStatement)
    for claim in ("report_id", "measurement", "chip_id"):
        assert first.claims[claim] == later.claims[claim]
    assert first.claims["report_data"] != later.claims["report_data"]


def test_two_deployments_are_two_machines(world: World) -> None:
    one, two = (world.attest(world.up(name)).outcome for name in ("one", "two"))
    assert isinstance(one, TrustStatement)
    assert isinstance(two, TrustStatement)
    assert one.claims["report_id"] != two.claims["report_id"]
    assert [each.name for each in deployments(world.surroundings)] == ["one", "two"]


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
def test_a_cheating_host_is_written_down(world: World, attack: str, state: State, code: str) -> None:
    target = world.up(attack=attack)
    answer = world.attest(target)
    assert any(finding.code.startswith(code) for finding in answer.outcome.findings)
    last, *after = target.journal.events()[2:]
    assert last.state is state
    assert [event.state for event in after] == ([State.QUARANTINED] if state is State.REFUSED else [])
    assert last.detail["decision"] == answer.outcome.decision
    assert last.detail["bundle"] == answer.bundle_path.name


def test_own_images_are_measured_and_demanded(world: World) -> None:
    sample = sample_launch()
    images = {"firmware": sample.firmware, "kernel": b"own kernel", "initrd": b"own initrd"}
    for name, command_line, level in (("verity", "roothash=" + "ab" * 32, 4), ("plain", "quiet", 3)):
        target = world.up(name, **images, command_line=command_line, vcpus=2)
        assert (target.policy.levels.nominal, target.policy.levels.trustworthy) == (level, level)
        outcome = world.attest(target).outcome
        assert isinstance(outcome, TrustStatement)
        assert (outcome.decision, outcome.levels.nominal) == ("accepted", level)


def test_another_policy_may_be_demanded(world: World) -> None:
    target = world.up()
    outcome = world.attest(target, policy=STRICT).outcome
    assert outcome.decision == "refused"
    kept = world.deployment("kept")
    up(kept, "simulated", Order(), policy=replace(STRICT, name="mine"))
    assert kept.policy.name == "mine"
    assert world.attest(kept).outcome.decision == "refused"


def test_names_that_are_none(world: World) -> None:
    for name in ("", "-", "a-", "-a", "UP", "a/b", "..", "a" * 64, "ä", "a\n"):
        with pytest.raises(UsageError, match=r"deployment\.name"):
            world.deployment(name)
    for name in ("a", "a-b", "7", "a" * 63):
        world.deployment(name)


def test_what_is_not_there(world: World) -> None:
    ghost = world.deployment("ghost")
    for act in (lambda: world.attest(ghost), lambda: down(ghost)):
        with pytest.raises(UsageError, match=r"deployment\.(unknown|not-running)"):
            act()


def test_what_is_there_already(world: World) -> None:
    target = world.up()
    with pytest.raises(UsageError, match=r"deployment\.state"):
        world.up()
    down(target)
    with pytest.raises(UsageError, match=r"deployment\.not-running"):
        world.attest(target)
    world.up()
    assert world.attest(target).outcome.decision == "accepted"


def test_platforms_that_there_are_none_of(world: World) -> None:
    for name in ("../simulated", "gce", "", "driver"):
        with pytest.raises(UsageError, match=r"platform\.unknown"):
            up(world.deployment(), name, Order())
    assert world.deployment().journal.events() == ()


def test_orders_that_make_no_sense(world: World) -> None:
    for name, order in (("a", {"attack": "bribe"}), ("b", {"initrd": b"x"}), ("c", {"vcpus": 0}), ("d", {"command_line": "quiet"})):
        with pytest.raises(UsageError):
            world.up(name, **order)
    with pytest.raises(Malformed):
        world.up("e", firmware=b"not a firmware")


class PowerCut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("survived", range(8))
def test_a_crash_during_up_is_resumed_or_cleaned_up(world: World, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    """The process dies after so many durable writes; the next one finishes the job, or takes everything away."""
    from evident import files

    writes = 0
    fsync = files.os.fsync

    def cut(descriptor: int) -> None:
        nonlocal writes
        if writes == survived:
            raise PowerCut
        writes += 1
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", cut)
        try:
            world.up()
        except PowerCut:
            pass
        else:
            pytest.fail("more writes than the test cuts")
    target = world.deployment()
    assert target.journal.state in (None, State.PLANNED)
    if survived % 2:
        if target.journal.state is not None:
            assert down(target)
        assert not target.machine.exists()
    world.up()
    assert world.attest(target).outcome.decision == "accepted"


def test_what_crashed_before_its_first_line_never_began(world: World) -> None:
    target = deployment("torn", world.surroundings)
    target.directory.mkdir(parents=True)
    target.journal.path.write_bytes(b'{"at": "2026-11')
    assert deployments(world.surroundings) == ()
    up(target, "simulated", Order())
    assert [each.name for each in deployments(world.surroundings)] == ["torn"]


def test_a_crash_during_down_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(path: Path) -> None:
        raise PowerCut(path)

    target = world.up()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cut)
        with pytest.raises(PowerCut):
            down(target)
    assert target.journal.state is State.DESTROYING
    with pytest.raises(UsageError):
        world.attest(target)
    assert down(target)
    assert not target.machine.exists()


def test_two_processes_do_not_work_on_one_deployment(world: World) -> None:
    target = world.up()
    with target.exclusive(), pytest.raises(UsageError, match=r"state\.busy"):
        down(world.deployment())
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


def test_a_changed_image_on_disk_is_noticed(world: World) -> None:
    target = world.up()
    (target.machine / "kernel").write_bytes(b"another")
    with pytest.raises(Malformed, match=r"simulated\.image"):
        world.attest(target)


def test_damaged_state_is_an_error_and_no_traceback(world: World) -> None:
    target = world.up()
    for name in ("references.json", "policy.json", "machine/machine.json"):
        path = target.directory / name
        kept = path.read_bytes()
        for damage in (b"", b"{", b'{"version": 2}', b"\xff"):
            path.write_bytes(damage)
            with pytest.raises(EvidentError):
                world.attest(target)
        path.write_bytes(kept)
    assert world.attest(target).outcome.decision == "accepted"


def test_an_answer_that_comes_too_late_counts_for_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    target = world.up()

    def slow(*_: object) -> datetime:
        world.now += timedelta(minutes=6)
        return world.now

    from evident.platforms.simulated import collector

    collect = collector.collect
    monkeypatch.setattr(collector, "collect", lambda running, nonce: (slow(), collect(running, nonce))[1])
    with pytest.raises(NotAuthentic, match=r"challenge\.expired"):
        world.attest(target)


def test_nothing_of_it_could_be_mistaken_for_production(world: World, simulator_pki: SimulatorPki) -> None:
    believed = world.up().driver().believed(world.deployment().machine)
    assert all(anchor.simulated for anchor in believed.anchors)
    assert believed.unsafe == {"simulated-root"}
    assert not any(anchor.simulated for anchor in AnchorSet(anchors.production()))


@pytest.mark.attack("AT-28", "The host hands in a revocation list of its own choosing with the evidence.", "snp.revocation.unknown")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_revocation_lists_are_not_taken_from_the_machine(
    world: World, simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """The key service is kept from answering, and a list that knows of no revocation comes with the answer."""
    chosen = simulator_pki.crl(MILAN, at=world.now, number=1)
    honest = collector.collect
    monkeypatch.setattr(collector, "collect", lambda running, nonce: Collected("snp", {**honest(running, nonce).pieces, "crl": (chosen,)}))
    if not checked:
        monkeypatch.setattr(attest_module, "of_machine", lambda pieces: pieces)
    answer = world.attest(world.up(attack="no-crl"))
    assert answer.outcome.decision == ("indeterminate" if checked else "accepted")
    if checked:
        assert "snp.revocation.unknown" in {finding.code for finding in answer.outcome.findings}
