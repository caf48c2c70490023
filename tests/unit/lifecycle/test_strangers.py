"""Whoever reaches the key server may send it authentic evidence of a machine of their own: what becomes of the deployment then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from evident.errors import PolicyRefused
from evident.evidence import cmw
from evident.keys.messages import EvidenceRequest
from evident.keys.release import ReleaseService
from evident.lifecycle import keyserver, keystore
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey

DISK = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def shop(owner: Any) -> Deployment:
    target: Deployment = owner.up()
    keyserver.register(target, DiskKey(DISK, bytes(64)))
    return target


@pytest.fixture
def stranger(owner: Any) -> Deployment:
    """Another machine with an authentic secure processor, and a kernel of its own."""
    target: Deployment = owner.up("stranger", attack="swap-kernel")
    return target


def boots(service: ReleaseService, machine: Deployment) -> None:
    """`machine` asks for the key of the shop's disk."""
    nonce = service.challenge(DISK)
    collected = machine.driver().collect(machine.machine, nonce)
    form = cmw.encode(cmw.of_pieces(collected.kind, {role: each for role, each in collected.pieces.items() if role != "key"}))
    service.release(EvidenceRequest(1, DISK, nonce, collected.pieces["key"][0], form))


def of(target: Deployment) -> ReleaseService:
    return keyserver.service(target, target.surroundings.state / "cache")


def test_an_accepted_machine_stays_accepted_and_known_by_its_own_name(owner: Any, shop: Deployment, stranger: Deployment) -> None:
    owner.attest(shop)
    before, known = shop.journal.events(), shop.identities
    for _ in range(3):
        with pytest.raises(PolicyRefused, match=r"launch\.kernel"):
            boots(of(shop), stranger)
    assert shop.journal.events() == before
    assert shop.identities == known


def test_a_first_answer_that_is_refused_is_on_record_once_and_names_nobody(shop: Deployment, stranger: Deployment) -> None:
    for _ in range(3):
        with pytest.raises(PolicyRefused):
            boots(of(shop), stranger)
    refused = [event for event in shop.journal.events() if event.state is State.REFUSED]
    assert [event.detail["code"] for event in refused] == ["launch.kernel"]
    assert shop.identities == {}
    boots(of(shop), shop)
    assert shop.journal.state is State.ATTESTED
    assert shop.identities


def test_the_owner_revokes_the_machine_that_was_accepted_not_the_one_put_in_its_place(owner: Any, shop: Deployment) -> None:
    owner.attest(shop)
    accepted = shop.identities
    stored = shop.machine / "machine.json"
    text = stored.read_text()
    mark = '"report_id": "'
    at = text.index(mark) + len(mark)
    stored.write_text((text[:at] + "ab" * 32 + text[at + 64 :]).replace('"attack": null', '"attack": "swap-kernel"'))
    assert owner.attest(shop).outcome.decision == "refused"
    assert shop.identities == accepted


def test_what_is_accepted_and_denied_for_another_reason_is_not_on_record_as_attested(owner: Any, shop: Deployment) -> None:
    service = of(shop)
    keystore.open_store(shop.surroundings).secrets.delete(DISK)  # as after a revocation that has not ended the server yet
    owner.now += timedelta(seconds=1)
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        boots(service, shop)
    assert shop.journal.state is State.LAUNCHED
