"""Another machine in the place of one in a cloud: beside it, attested before anything depends on it, and the old one is lost last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from evident.errors import EvidentError, PolicyRefused, UsageError
from evident.lifecycle import farewell, proving, quarantine, retire, succession
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.reconcile import survey
from evident.lifecycle.revoke import revoke
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.resources import TAG_GENERATION

HOUR, NONE = timedelta(hours=1), timedelta(0)
MACHINES = ("instance", "machine")


def machines(target: Deployment) -> list[str]:
    """The number of each machine that the cloud has of it."""
    seen = survey(target)
    assert seen is not None
    assert seen.missing == ()
    return [each.tags[TAG_GENERATION] for each in seen.present if each.kind in MACHINES]


def test_both_machines_answer_until_the_window_ends(life: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another image and another size: the old one while the new one is made, both in the window, then the new one alone."""
    target = life.up()
    life.image("two")
    life.write(where={life.platform: {**life.stage.where, "type": life.stage.larger}})
    with pytest.raises(UsageError, match=r"deployment\.changed"):
        life.up()
    settle, old, meanwhile = CloudDriver.settle, life.address(), []

    def watched(own: CloudDriver, machine: Any) -> None:
        settle(own, machine)
        meanwhile.append((life.address(), life.statement().decision, machines(target)))

    monkeypatch.setattr(CloudDriver, "settle", watched)
    life.update(HOUR)
    assert meanwhile == [(old, "accepted", ["1", "2"])]
    assert (life.address(1), life.address(2)) == (old, life.address())
    assert old != life.address()
    assert life.stage.larger in (target.machine / "where.json").read_text()
    assert life.examined(1).outcome.decision == "accepted"
    before, own = target.at(1).own_references.values, target.own_references.values
    assert [value for value in before if value not in own]
    assert all(value in target.references.values for value in (*before, *own))
    life.later += HOUR
    assert target.references.values == own, "whatever still runs: it is accepted no longer"
    assert life.statement().decision == "accepted"
    assert machines(target) == ["2"], "the first command after the window removes it"
    assert not target.at(1).machine.exists()
    farewell.down(target)
    assert life.cloud.live() == []


def test_a_new_machine_that_is_not_to_be_had_or_refused_costs_nothing(life: Any) -> None:
    target = life.up()
    before = life.cloud.live()
    life.image("two")
    for reason in ("capacity", "quota", "refused"):
        if reason == "refused":
            life.turned = True
        else:
            life.stage.refuse(life.cloud, reason)
        with pytest.raises(EvidentError) as caught:
            life.update(HOUR)
        codes = [finding.code for finding in caught.value.findings]
        assert (codes[0], codes[-1]) == ("reference.mismatch" if life.turned else f"cloud.{reason}", "update.kept")
        assert ("room for two machines" in caught.value.findings[-1].remedy) is not life.turned
        assert life.cloud.live() == before
        assert (target.journal.state, target.number, machines(target)) == (State.KEPT, 1, ["1"])
    assert isinstance(caught.value, PolicyRefused)
    assert life.statement().decision == "accepted"
    life.image("one")
    life.up()
    assert life.cloud.live() == before, "the old document still stands"


@pytest.mark.parametrize("platform", ["aws"])
def test_without_a_window_the_old_machine_goes_at_once(life: Any) -> None:
    target = life.up()
    life.image("two")
    life.update(NONE)
    assert (target.number, machines(target), life.statement().decision) == (2, ["2"], "accepted")


@pytest.mark.parametrize("platform", ["aws"])
@pytest.mark.parametrize("checked", [True, False])
def test_a_new_machine_takes_over_only_once_it_is_accepted(life: Any, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    target = life.up()
    life.image("two")
    life.turned = True
    if not checked:
        monkeypatch.setattr(succession, "_proved", lambda coming, prove: prove(coming))
        life.update(NONE)
        assert (target.number, machines(target)) == (2, ["2"]), "nobody knows what runs there"
        return
    with pytest.raises(PolicyRefused):
        life.update(NONE)
    assert (target.number, machines(target)) == (1, ["1"])


@pytest.mark.parametrize("platform", ["aws"])
@pytest.mark.parametrize("checked", [True, False])
def test_the_old_image_does_not_pass_for_the_new_one(life: Any, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Whoever runs the cloud launches what ran before: the new machine has to be what was ordered, not just anything that is accepted."""
    target = life.up()
    old, born, examine = target.own_references, life.born, proving.examine
    monkeypatch.setattr(life, "born", lambda address, _: born(address, old))
    life.image("two")
    if checked:
        with pytest.raises(PolicyRefused, match=r"reference\.mismatch"):
            life.update(HOUR)
        assert target.number == 1
        return
    monkeypatch.setattr(proving, "examine", lambda coming, by, references: examine(coming, by))  # noqa: ARG005  # left out
    life.update(HOUR)
    assert target.number == 2


@pytest.mark.parametrize("platform", ["aws"])
def test_one_in_quarantine_gets_no_window(life: Any) -> None:
    target = life.up()
    for value in target.references.values:
        if value.register.startswith("pcr"):
            life.machine.tpm.set_pcr(value.algorithm, int(value.register.removeprefix("pcr")), bytes(len(value.value)))
    assert life.statement().decision == "refused"
    life.image("two")
    life.turned = True
    with pytest.raises(PolicyRefused):
        life.update(HOUR)
    assert quarantine.in_force(target) is not None, "an update that was given up ends no quarantine"
    life.turned = False
    life.update(HOUR)
    assert (quarantine.in_force(target), machines(target)) == (None, ["2"])


@pytest.mark.parametrize("platform", ["aws"])
def test_one_update_after_another(life: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target, halt, halted = life.up(), CloudDriver.halt, []
    monkeypatch.setattr(CloudDriver, "halt", lambda own, machine: (halt(own, machine), halted.append(machine)))
    for name in ("two", "three"):
        life.image(name)
        life.update(HOUR)
    assert machines(target) == ["1", "2", "3"]
    assert set(target.generations.replaced) == {1, 2}
    revoke(target, "a test")
    assert halted == [each.machine for each in target.machines()]
    farewell.down(target)
    assert life.cloud.live() == []
    assert target.machines() == ()
    life.up()
    assert (target.number, machines(target)) == (1, ["1"]), "its next life begins with the first machine"


@pytest.mark.parametrize("platform", ["aws"])
@pytest.mark.parametrize("way", ["carry on", "give up"])
def test_a_crash_in_the_middle(life: Any, way: str) -> None:
    """The old machine is not lost to it, whatever the next command is. (Every other moment: ``tests/contract/<cloud>/test_crashes.py``.)"""
    target = life.up()
    first = life.path.read_text()
    before = life.cloud.live()
    life.image("two")
    life.cloud.dies_at(57)
    assert not life.cloud.survives(lambda: life.update(HOUR))
    life.cloud.dies_at(None)
    assert (target.journal.state, target.number) == (State.UPDATING, 1)
    life.cloud.time.now += 3600  # long enough for everything to be listed
    survey(target)  # asks the cloud, and changes nothing
    assert life.statement().decision == "accepted"
    if way == "carry on":
        life.up()
        assert (target.number, machines(target)) == (2, ["1", "2"])
    else:
        life.path.write_text(first)
        life.up()
        assert life.cloud.live() == before
        assert (target.number, life.statement().decision) == (1, "accepted")
    farewell.down(target)
    assert life.cloud.live() == []


@pytest.mark.parametrize("platform", ["aws"])
def test_another_document_neither_carries_on_nor_gives_up(life: Any) -> None:
    target = life.up()
    life.image("two")
    life.cloud.dies_at(31)
    assert not life.cloud.survives(lambda: life.update(HOUR))
    life.cloud.dies_at(None)
    life.write(reattest_seconds=60)
    with pytest.raises(UsageError, match=r"deployment\.changed"):
        life.up()
    assert target.generations.coming is not None


@pytest.mark.parametrize("platform", ["aws"])
def test_whoever_ended_it_meanwhile_has_the_last_word(life: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`down` comes while the new machine boots: nothing takes over what is no more."""
    target = life.up()
    life.image("two")
    settle = CloudDriver.settle

    def ended(own: CloudDriver, machine: Any) -> None:
        settle(own, machine)
        farewell.down(target)

    monkeypatch.setattr(CloudDriver, "settle", ended)
    with pytest.raises(EvidentError):
        life.update(HOUR)
    assert (target.journal.state, life.cloud.live()) == (State.DESTROYED, [])


@pytest.mark.parametrize("platform", ["aws"])
def test_what_cannot_be_removed_yet_stands_in_nobodys_way(life: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = life.up()
    life.image("two")
    life.update(HOUR)
    life.later += HOUR

    def refuses(_: Deployment) -> None:
        raise UsageError.of("cloud.auth", expected="permission", found="none", remedy="Renew them.")

    with monkeypatch.context() as patched:
        patched.setattr(retire, "remove", refuses)
        assert life.statement().decision == "accepted"
    assert any("not removed yet: cloud.auth" in said for said in life.said)
    assert life.statement().decision == "accepted"
    assert machines(target) == ["2"]


@pytest.mark.parametrize("platform", ["aws"])
def test_what_cannot_be_removed_of_a_refused_machine_is_said(life: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = life.up()
    life.image("two")
    life.turned = True

    def refuses(_: Deployment) -> None:
        raise UsageError.of("cloud.auth", expected="permission", found="none", remedy="Renew them.")

    with monkeypatch.context() as patched:
        patched.setattr(retire, "remove", refuses)
        with pytest.raises(PolicyRefused) as caught:
            life.update(NONE)
    assert [finding.code for finding in caught.value.findings][-2:] == ["cloud.auth", "update.unfinished"]
    assert target.generations.coming is not None
    assert life.statement().decision == "accepted"
    farewell.down(target)
    assert life.cloud.live() == []
