"""All deployments from their own records: how each stands, and nothing hidden by damage or by an exchanged file."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from evident.lifecycle import fleet as module
from evident.lifecycle import succession
from evident.lifecycle.farewell import down
from evident.lifecycle.fleet import fleet
from evident.lifecycle.journal import State
from evident.lifecycle.revoke import revoke
from evident.platforms.order import Order
from evident.reports.fleet import Fleet, Member, Standing

HOUR = timedelta(hours=1)


def look(owner: Any, **options: Any) -> Fleet:
    return fleet(owner.surroundings, trusted=(owner.key.public,), interval=HOUR, **options)


def shop(owner: Any) -> Member:
    return next(member for member in look(owner).members if member.name == "shop")


def test_well_until_it_is_overdue(owner: Any) -> None:
    owner.attest(owner.up())
    found = shop(owner)
    assert (found.standing, found.platform, found.simulated, found.interval_seconds) == (Standing.WELL, "simulated", True, 3600)
    assert found.levels is not None
    assert (found.levels.nominal, found.levels.trustworthy) == (4, 4)
    assert "Evident simulator" in found.trusts
    assert found.residual
    assert look(owner).well
    owner.now += HOUR * 1.4
    assert shop(owner).standing is Standing.WELL, "a little late is no alarm"
    owner.now += HOUR
    assert shop(owner).standing is Standing.OVERDUE
    assert not look(owner).well
    assert "evident attest shop" in shop(owner).todo


@pytest.mark.parametrize(
    ("attack", "standing"), [("swap-kernel", Standing.REFUSED), ("altered-report", Standing.REFUSED), ("no-crl", Standing.UNDECIDED)]
)
def test_a_cheating_host_is_named(owner: Any, attack: str, standing: Standing) -> None:
    answer = owner.attest(owner.up(attack=attack))
    found = shop(owner)
    assert found.standing is standing
    assert answer.outcome.code in found.because
    assert found.todo


def test_drift_since_the_answer_before_is_named(owner: Any) -> None:
    target = owner.up()
    owner.attest(target)
    assert shop(owner).compared_with is None
    owner.attest(target)
    assert (shop(owner).drift, shop(owner).compared_with is None) == ((), False)
    (target.machine / "machine.json").write_text(
        (target.machine / "machine.json").read_text().replace('"attack": null', '"attack": "debug"')
    )
    owner.attest(target)
    assert "decision: accepted -> refused" in shop(owner).drift
    assert any(change.startswith("claim policy") for change in shop(owner).drift)


def test_an_answer_of_the_image_before_is_no_answer(owner: Any) -> None:
    target = owner.up()
    owner.attest(target)
    succession.update(target, Order(), window=HOUR)
    assert shop(owner).standing is Standing.NEVER


def test_what_never_answered_its_owner_is_not_well(owner: Any) -> None:
    target = owner.up()
    assert shop(owner).standing is Standing.NEVER
    target.record(State.ATTESTED, decision="accepted", code="accepted", at="boot", nominal="4", trustworthy="4")
    assert shop(owner).standing is Standing.NEVER
    assert "to its key server" in shop(owner).because


def test_a_boot_does_not_outshine_an_undecided_answer(owner: Any) -> None:
    target = owner.up(attack="no-crl")
    owner.attest(target)
    target.record(State.ATTESTED, decision="accepted", code="accepted", at="boot")
    assert shop(owner).standing is Standing.UNDECIDED


@pytest.mark.parametrize("state", [State.UPDATING, State.DESTROYING])
def test_what_was_cut_short_is_named(owner: Any, state: State) -> None:
    target = owner.up()
    target.record(state)
    assert shop(owner).standing is Standing.UNFINISHED
    assert "evident down shop" in shop(owner).todo


def test_what_is_over_asks_for_nothing(owner: Any) -> None:
    revoke(owner.up(), "leaked")
    down(owner.up("gone"))
    found = look(owner)
    assert [(member.name, member.standing) for member in found.members] == [("shop", Standing.REVOKED)]
    assert (found.well, found.headline) == (True, "No deployments.")
    assert {member.name for member in look(owner, everything=True).members} == {"shop", "gone"}


@pytest.mark.parametrize("damage", ["journal", "directory", "bundle", "signature", "signer", "missing", "before"])
def test_damage_is_said_and_hides_no_other(owner: Any, damage: str) -> None:
    target = owner.up("bad")
    first, last = owner.attest(target).bundle_path, owner.attest(target).bundle_path
    owner.attest(owner.up())
    if damage == "journal":
        target.journal.path.write_bytes(b"rubbish\n")
    elif damage == "directory":
        target.journal.path.unlink()
        target.journal.path.mkdir()
    elif damage == "bundle":
        last.write_bytes(b"{}")
    elif damage == "signature":
        last.write_bytes(last.read_bytes().replace(b'"sig":"M', b'"sig":"N'))
    elif damage == "missing":
        last.unlink()
    elif damage == "before":
        first.unlink()
    trusted = () if damage == "signer" else (owner.key.public,)
    members = {member.name: member for member in fleet(owner.surroundings, trusted=trusted, interval=HOUR).members}
    assert members["bad"].standing is Standing.DAMAGED
    assert "damaged" in members["bad"].because
    assert members["bad"].findings
    assert members["shop"].standing is (Standing.DAMAGED if damage == "signer" else Standing.WELL)


@pytest.mark.attack("AT-05", "An older accepted answer lies in the place of the last one's bundle.", "fleet.other-answer")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_an_older_answer_in_the_place_of_the_last_is_noticed(owner: Any, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Signed by the very same verifier, and accepted: only its time and challenge say that it is another."""
    target = owner.up()
    good = owner.attest(target)
    last = owner.attest(target)
    shutil.copyfile(good.bundle_path, last.bundle_path)
    if not checked:
        monkeypatch.setattr(module, "bundle_name", lambda _: mock.ANY)
    found = shop(owner)
    assert found.standing is (Standing.DAMAGED if checked else Standing.WELL)
    if checked:
        assert found.findings[0].code == "fleet.other-answer"


def test_a_folder_that_is_no_deployment_is_none(owner: Any) -> None:
    owner.attest(owner.up())
    odd = owner.state / "deployments" / "Not a name"
    odd.mkdir()
    (odd / "journal.jsonl").write_bytes(b"rubbish\n")
    assert [member.name for member in look(owner).members] == ["shop"]


def test_its_specification_says_how_often(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Said:
        reattest_seconds = 60

    owner.attest(owner.up())
    monkeypatch.setattr(module.specification, "kept", lambda _: Said())
    assert shop(owner).interval_seconds == 60
    owner.now += timedelta(seconds=91)
    assert shop(owner).standing is Standing.OVERDUE
