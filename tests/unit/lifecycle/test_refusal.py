"""What is done about a refused machine: no secrets, the failing layer named, kept or destroyed, whatever crashes in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest

from evident.appraisal.policy import STRICT
from evident.audit import farewell
from evident.errors import PolicyRefused, UsageError
from evident.evidence import cmw
from evident.keys.messages import EvidenceRequest
from evident.lifecycle import bring_up, keyserver, quarantine, refusal, specification, succession
from evident.lifecycle.deployment import AT_BOOT, Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.specification import Image, Specification
from evident.platforms.order import Order
from evident.platforms.simulated.launch import SimulatedPlatform

DISK = "11111111-2222-3333-4444-555555555555"
Kill = Callable[[Callable[[], object], int], bool]


@pytest.fixture
def shop(owner: Any) -> Deployment:
    """Launched, with a disk whose key its key server keeps."""
    target: Deployment = owner.up()
    keyserver.register(target, DiskKey(DISK, bytes(64)))
    return target


def boots(target: Deployment) -> None:
    """The machine asks its key server for the disk's key, with honest evidence; raises what denies it."""
    service = keyserver.service(target, target.surroundings.state / "cache")
    nonce = service.challenge(DISK)
    collected = target.driver().collect(target.machine, nonce)
    form = cmw.encode(cmw.of_pieces(collected.kind, {role: each for role, each in collected.pieces.items() if role != "key"}))
    service.release(EvidenceRequest(1, DISK, nonce, collected.pieces["key"][0], form))


def refuse(owner: Any, target: Deployment) -> Any:
    """An answer that its owner refuses, though the key server would not: it is held to more."""
    return owner.attest(target, policy=STRICT)


def turn(target: Deployment) -> None:
    """From now on its host debugs it: every answer is refused under its own policy."""
    machine = target.machine / "machine.json"
    machine.write_text(machine.read_text().replace('"attack": null', '"attack": "debug"'))


def document(what: Literal["keep", "destroy"]) -> Specification:
    return Specification(1, "shop", Image("unused", bytes(32)), on_refusal=what)


def specify(target: Deployment, what: Literal["keep", "destroy"]) -> None:
    specification.keep(target, document(what))


@pytest.mark.attack("AT-68", "A machine that its owner has refused boots again and asks for its disk's key.", "keys.quarantined")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_refused_machine_gets_no_secret(owner: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    boots(shop)
    assert refuse(owner, shop).outcome.decision == "refused"
    if not checked:
        monkeypatch.setattr(quarantine, "check", lambda _: None)
        boots(shop)
        return
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        boots(shop)


def test_one_that_is_refused_while_its_boot_is_judged_gets_no_secret(shop: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    references = keyserver._Terms.references

    def meanwhile(terms: Any, name: str) -> Any:
        shop.record(State.REFUSED, decision="refused", code="launch.kernel")
        return references(terms, name)

    monkeypatch.setattr(keyserver._Terms, "references", meanwhile)
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        boots(shop)


def test_the_failing_layer_is_reported(owner: Any) -> None:
    answer = owner.attest(owner.up(attack="swap-kernel"))
    assert answer.refusal.finding.layer == "boot_chain"
    assert "refused at layer boot chain (launch.kernel" in answer.refusal.words
    assert "quarantined" in answer.refusal.words
    last = owner.deployment().journal.events()[-1]
    assert (last.state, last.detail["layer"], last.detail["answer"]) == (State.QUARANTINED, "boot_chain", "keep")
    assert owner.attest(owner.up("good")).refusal is None


def test_only_an_accepted_answer_to_the_owner_ends_it(owner: Any, shop: Deployment) -> None:
    refuse(owner, shop)
    shop.record(State.UNDECIDED, decision="indeterminate", code="snp.revocation.unknown")
    shop.record(State.ATTESTED, decision="accepted", code="accepted", at=AT_BOOT)
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        boots(shop)
    assert owner.attest(shop).outcome.decision == "accepted"
    boots(shop)


def test_another_image_in_its_place_ends_it(owner: Any, shop: Deployment) -> None:
    refuse(owner, shop)
    succession.update(shop, Order(), window=timedelta(hours=1))
    assert quarantine.in_force(shop) is None


def test_a_refusal_at_boot_withholds_that_boots_key_only(owner: Any, shop: Deployment) -> None:
    """The key server judges every boot by itself; the quarantine is its owner's."""
    shop.record(State.REFUSED, decision="refused", code="launch.kernel", at=AT_BOOT)
    boots(shop)


def test_a_crash_before_the_quarantine_is_written_down_releases_nothing(
    owner: Any, shop: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(refusal, "answer", dies)
        with pytest.raises(KeyboardInterrupt):
            refuse(owner, shop)
    assert shop.journal.state is State.REFUSED
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        boots(shop)


def test_it_is_destroyed_where_the_specification_says_so(owner: Any, shop: Deployment) -> None:
    specify(shop, "destroy")
    turn(shop)
    answer = owner.attest(shop)
    assert shop.journal.state is State.DESTROYED
    assert not shop.machine.exists()
    said = farewell.open_farewell(answer.refusal.record.read_bytes(), [owner.key.public]).farewell
    assert (said.last.decision, said.last.bundle) == ("refused", answer.bundle_path.name)
    assert "destroyed, as specified" in answer.refusal.words


def test_a_policy_of_this_once_destroys_nothing(owner: Any, shop: Deployment) -> None:
    specify(shop, "destroy")
    assert refuse(owner, shop).refusal.record is None
    assert shop.journal.state is State.QUARANTINED


@pytest.mark.parametrize("survived", range(0, 14, 2))
def test_killed_anywhere_it_releases_nothing_and_is_destroyed_in_the_end(owner: Any, shop: Deployment, killed: Kill, survived: int) -> None:
    refuse(owner, shop)  # the key server denies from here on, whatever happens to the answer of the next refusal
    specify(shop, "destroy")
    turn(shop)
    assert killed(lambda: owner.attest(shop), survived)
    if shop.machine.exists():
        with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
            boots(shop)
    specified = any(event.detail.get("answer") == "destroy" for event in shop.journal.events())
    if not specified:
        owner.attest(shop)
    else:
        with pytest.raises(UsageError, match=r"deployment\.not-running"):
            owner.attest(shop)
    assert shop.journal.state is State.DESTROYED
    assert [path.name for path in sorted(shop.directory.glob("farewell-*"))] == ["farewell-1.json"]


@pytest.mark.parametrize(("what", "state"), [("keep", State.QUARANTINED), ("destroy", State.DESTROYED)])
def test_a_boot_that_is_refused_is_answered_too(
    owner: Any, monkeypatch: pytest.MonkeyPatch, what: Literal["keep", "destroy"], state: State
) -> None:
    target = owner.deployment()
    denied = PolicyRefused.of("keys.denied", expected="a key", found="none", remedy="Read the release log.", layer="storage")

    def ends(*_: object) -> None:
        raise denied

    monkeypatch.setattr(SimulatedPlatform, "settle", ends)
    with pytest.raises(PolicyRefused, match=r"keys\.denied"):
        bring_up.up(target, "simulated", Order(), document=document(what))
    assert target.journal.state is state
    assert [event.detail["layer"] for event in target.journal.events() if event.state is State.QUARANTINED] == ["storage"]


def test_a_document_whose_launch_a_crash_cut_short_does_not_rule_a_machine_by_options(owner: Any, killed: Kill) -> None:
    target = owner.deployment()
    survived = 0
    while not specification.kept(target):
        assert killed(lambda: bring_up.up(target, "simulated", Order(), document=document("destroy")), survived)
        survived += 1
    assert target.journal.state is State.PLANNED
    bring_up.up(target, "simulated", Order(attack="swap-kernel"))
    assert owner.attest(target).outcome.decision == "refused"
    assert target.journal.state is State.QUARANTINED, "kept: nobody said of this machine that it is to be destroyed"
