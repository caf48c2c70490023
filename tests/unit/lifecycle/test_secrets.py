"""What the key server of one deployment releases: the secrets of its own machines, under the terms that their document makes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from evident import codec
from evident.errors import PolicyRefused
from evident.evidence import cmw
from evident.files import write_private
from evident.keys.messages import EvidenceRequest
from evident.keys.store import VolumeStore
from evident.lifecycle import keyserver, keystore
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.keystore import DiskKey

NAME, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
NEXT = "22222222-2222-3333-4444-555555555555"


@pytest.fixture
def shop(owner: Any) -> Deployment:
    """One of two deployments of an owner's, of the same image; each has a secret, and no disk to open."""
    for name, asked, value in (("other", OTHER, b"the other's"), ("shop", NAME, b"the shop's")):
        keyserver.register(owner.up(name), DiskKey(asked, b"", {f"{name}-password": value}))
    target: Deployment = owner.deployment("shop")
    return target


def asks(machine: Deployment, of: Deployment, name: str) -> None:
    """`machine` asks the key server of `of` for what was registered under `name`."""
    service = keyserver.service(of, of.surroundings.state / "cache")
    nonce = service.challenge(name)
    collected = machine.driver().collect(machine.machine, nonce)
    form = cmw.encode(cmw.of_pieces(collected.kind, {role: each for role, each in collected.pieces.items() if role != "key"}))
    service.release(EvidenceRequest(1, name, nonce, collected.pieces["key"][0], form))


def released(target: Deployment) -> list[tuple[str, ...]]:
    return [entry.secrets for entry in keystore.release_log(target.surroundings).entries() if entry.event == "released"]


def test_its_machine_gets_them_and_the_terms_name_them(shop: Deployment) -> None:
    asks(shop, shop, NAME)
    assert released(shop) == [("shop-password",)]
    assert keystore.open_store(shop.surroundings).volumes.get(NAME).secrets == ("shop-password",)


@pytest.mark.attack("AT-53", "A genuine machine, attested and accepted, asks for the secrets of another deployment.", "keys.disk-unknown")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_the_secrets_of_another_deployment(shop: Deployment, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Which key server knows a name is exactly one: the one that judges by its own policy."""
    if not checked:
        monkeypatch.setattr(keyserver._Terms, "get", VolumeStore.get)
        asks(shop, shop, OTHER)
        assert released(shop) == [("other-password",)]
        return
    with pytest.raises(PolicyRefused, match=r"keys\.disk-unknown"):
        asks(shop, shop, OTHER)
    (denied,) = (entry for entry in keystore.release_log(shop.surroundings).entries() if entry.event == "denied")
    assert (denied.disk, denied.codes, denied.secrets) == (OTHER, ("keys.disk-unknown",), ())
    assert released(shop) == []


def test_the_identities_of_the_policy_are_terms_too(owner: Any, shop: Deployment) -> None:
    """So a policy that somebody weakens afterwards releases nothing to another machine."""
    policy = shop.policy
    write_private(shop.home / "policy.json", codec.encode(replace(policy, allowed_identities={"chip_id": ("ab" * 64,)})))
    keyserver.register(shop, DiskKey(NAME, b"", {"shop-password": b"the shop's"}))
    write_private(shop.home / "policy.json", codec.encode(policy))
    with pytest.raises(PolicyRefused, match=r"policy\.identity"):
        asks(shop, shop, NAME)
    assert owner.attest(shop).outcome.decision == "accepted", "by the policy alone"


def test_each_machine_of_an_update_has_its_own(shop: Deployment) -> None:
    """Known by the terms, for a machine without a disk has no file that is called so."""
    coming = shop.at(2)
    shutil.copytree(shop.machine, coming.machine)
    for name in ("references.json", "policy.json"):
        shutil.copy(shop.home / name, coming.home / name)
    volumes = keystore.open_store(shop.surroundings).volumes
    keyserver.register(coming, DiskKey(NEXT, b"", {"shop-password": b"the next"}))
    assert {disk: volumes.get(disk).machine for disk in volumes.disks_under("shop")} == {NAME: 1, NEXT: 2}
    asks(shop, shop, NAME)
    keyserver.forget_machine(coming)
    assert volumes.disks_under("shop") == (NAME,)
    keyserver.register(shop, DiskKey(NEXT, b"", {}))
    assert volumes.disks_under("shop") == (NEXT,), "what it was made with before is no more"
