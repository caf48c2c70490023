"""One document, one life, on every platform: up, attest, again, update, revoke, down. The boot on QEMU is real, and in ``tests/boot``."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

import pytest

from evident.audit import keys
from evident.cli.documents import read_specification
from evident.errors import EvidentError, Indeterminate, NotAuthentic, PolicyRefused, UsageError
from evident.lifecycle import farewell
from evident.lifecycle.journal import State
from evident.lifecycle.plan import plan
from evident.lifecycle.reconcile import survey
from evident.lifecycle.revoke import revoke
from evident.platforms.cloud import Patience

HOUR = timedelta(hours=1)


def test_a_whole_life(life: Any) -> None:
    target = life.up()
    assert target.journal.state is State.LAUNCHED
    first, again = life.statement(), life.statement()
    assert (first.decision, again.decision) == ("accepted", "accepted"), first.findings
    assert (first.levels.nominal, first.levels.trustworthy) == life.stage.levels
    assert first.simulated, "the stand-in's TEST roots show"
    assert life.machine.asked == 2

    life.image("two")
    old = target.references
    life.update(HOUR)
    assert (target.journal.state, target.number) == (State.ATTESTED, 2), "it has proved itself"
    assert life.statement().decision == "accepted"
    assert [value for value in old.values if value not in target.own_references.values], "it is another image"
    assert all(value in target.references.values for value in old.values), "the old one is accepted too, until the window is over"

    denied = revoke(target, "the end of the story")
    assert any(each.startswith("report_id=") for each in denied), "denied is what its evidence identified it by"
    assert target.journal.state is State.REVOKED
    with pytest.raises(UsageError, match=r"deployment\.not-running"):
        life.attest()
    assert life.cloud.live()
    assert farewell.down(target) is not None
    assert life.cloud.live() == []
    assert survey(target) is None


def test_up_ends_with_the_machines_own_answer(life: Any) -> None:
    """What boots is asked at once, on every platform, and again when `up` is done again; one out of reach is not proved."""
    answer = life.ready()
    assert (answer.outcome.decision, life.deployment().journal.state) == ("accepted", State.ATTESTED)
    assert life.ready().outcome.decision == "accepted"
    assert life.machine.asked == 2
    gone = life.machines.pop(life.address())
    with pytest.raises(Indeterminate) as caught:
        life.ready()
    assert [finding.code for finding in caught.value.findings] == ["agent.unreachable", "up.unproven"]
    assert life.deployment().journal.state is State.ATTESTED, "of what was answered before"
    life.machines[life.address()] = gone
    assert life.ready().outcome.decision == "accepted"


@pytest.mark.parametrize("on_refusal", ["keep", "destroy"])
def test_up_ends_with_a_refusal_where_the_host_boots_something_else(life: Any, on_refusal: str) -> None:
    life.write(on_refusal=on_refusal)
    life.turned = True
    answer = life.ready()
    assert answer.outcome.decision == "refused"
    assert "boot_chain" in {finding.layer for finding in answer.outcome.findings}
    if on_refusal == "destroy":
        assert (life.deployment().journal.state, life.cloud.live()) == (State.DESTROYED, [])
        return
    assert life.deployment().journal.state is State.QUARANTINED
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        life.ready()


def test_up_again_finds_all_done(life: Any) -> None:
    life.up()
    before = life.cloud.live()
    life.up()
    assert life.cloud.live() == before
    life.write(reattest_seconds=60)
    with pytest.raises(UsageError, match=r"deployment\.changed"):
        life.up()


def test_up_starts_a_machine_that_was_stopped(life: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = life.up()
    before = life.cloud.live()
    target.driver().halt(target.machine)
    cloud = importlib.import_module(f"evident.platforms.{life.platform}.launch").cloud(
        {**life.stage.where}, Patience.real(life.said.append)
    )
    started: list[str] = []
    start = type(cloud).start
    monkeypatch.setattr(type(cloud), "start", lambda own, machine: (start(own, machine), started.append(machine)))
    life.up()
    assert len(started) == 1
    assert life.cloud.live() == before, "it is the same machine"
    assert life.statement().decision == "accepted"
    farewell.down(target)


def test_what_was_made_is_what_the_plan_said(life: Any) -> None:
    chosen = plan(read_specification(life.path), at=life.now().date()).chosen
    seen = survey(life.up())
    assert seen is not None
    there = {each.kind for each in seen.present} | {kind for kind, _ in seen.unwritten}
    assert there & {"instance", "machine"}
    assert there <= {item.kind for item in chosen.resources}
    statement = life.statement()
    assert chosen.prospect.levels == statement.levels
    assert set(chosen.trust) == {party for layer in statement.layers if layer.level for party in layer.trusted_parties} - {
        "AMD",
        "Evident simulator",
        "you",
    }


def test_a_requirement_that_is_not_met_there_stops_everything(life: Any) -> None:
    life.write(policy={"version": 1, "levels": {"nominal": 4, "trustworthy": 4}})
    with pytest.raises(PolicyRefused) as caught:
        life.up()
    assert {finding.code for finding in caught.value.findings} >= {"plan.trustworthy", "plan.party"}
    assert life.cloud.live() == []
    assert life.deployment().journal.events() == ()


def test_another_image_than_the_document_names_is_not_launched(life: Any) -> None:
    life.image("two")
    life.write(image={"path": "one", "sha256": "ab" * 32})
    with pytest.raises(PolicyRefused, match=r"plan\.image"):
        life.up()
    life.image("one")
    manifest = life.home / "one" / "manifest.json"
    manifest.write_bytes((life.home / "two" / "manifest.json").read_bytes())
    with pytest.raises(EvidentError):
        life.up()
    assert life.cloud.live() == []


def test_an_image_that_nobody_trusted_has_signed(life: Any) -> None:
    life.key = keys.generate(lambda count: b"\x08" * count)
    with pytest.raises(NotAuthentic):
        life.up()
    assert life.cloud.live() == []


@pytest.mark.parametrize("moment", [17, 60])
def test_a_crash_is_carried_on_from(life: Any, moment: int) -> None:
    """The process dies while the cloud is at work; the next one finishes, makes nothing twice, and leaves nothing behind."""
    life.cloud.dies_at(moment)
    assert not life.cloud.survives(life.up)
    life.cloud.dies_at(None)
    target = life.deployment()
    assert target.journal.state is State.PLANNED
    survey(target)  # asks the cloud, and changes nothing
    life.up()
    assert life.statement().decision == "accepted"
    seen = survey(target)
    assert seen is not None
    assert seen.missing == ()
    assert len([each for each in seen.present if each.kind in ("instance", "machine")]) == 1
    farewell.down(target)
    assert life.cloud.live() == []


def test_a_crash_during_down_is_finished(life: Any) -> None:
    target = life.up()
    life.cloud.dies_at(9)
    assert not life.cloud.survives(lambda: farewell.down(target))
    life.cloud.dies_at(None)
    assert target.journal.state is State.DESTROYING
    farewell.down(target)
    assert life.cloud.live() == []


def test_the_document_goes_elsewhere_after_a_crash(life: Any) -> None:
    """What was begun here is removed before anything is made there."""
    life.cloud.dies_at(40)
    assert not life.cloud.survives(life.up)
    life.cloud.dies_at(None)
    assert life.cloud.live()
    life.write(platform="simulated")
    life.up()
    assert life.cloud.live() == []
    assert life.deployment().platform == "simulated"


def test_evidence_of_another_image_is_refused(life: Any) -> None:
    target = life.up()
    life.machine.tpm.set_pcr("sha256", 4, bytes(32))
    life.machine.tpm.set_pcr("sha384", 4, bytes(48))
    statement = life.statement()
    assert statement.decision == "refused"
    assert target.journal.state is State.QUARANTINED
    assert "boot_chain" in {finding.layer for finding in statement.findings}


@pytest.mark.parametrize("platform", ["aws", "gcp"])
def test_a_machine_whose_tpm_nobody_speaks_for(life: Any) -> None:
    """Without a NitroTPM document, without Google's key: the guest sends a report, and beside it quotes by a key of its own."""
    life.up()
    life.machine.own_key = True
    statement = life.statement()
    assert statement.kind == "snp-tpm"
    assert statement.decision == "accepted", statement.findings
    assert (statement.levels.nominal, statement.levels.trustworthy) == life.stage.levels
    assert life.stage.provider in {party for layer in statement.layers for party in layer.trusted_parties}
