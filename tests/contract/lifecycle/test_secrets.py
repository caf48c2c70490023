"""Secrets of a document, and the machine that it means, on every cloud: through the same life as everything else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import EvidentError, PolicyRefused
from evident.evidence import cmw
from evident.keys.exchange import open_offer, spki
from evident.keys.messages import EvidenceRequest, Volume, loads
from evident.lifecycle import farewell, keyserver, keystore
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.revoke import revoke

VALUE, NEXT_VALUE = b"the password of the database", b"the password after that"
NETWORK = {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}], "outbound": [{"port": 8443, "peer": "203.0.113.10/32"}]}


@dataclass
class Guest:
    """The agent of the machine in charge, at the key server of its deployment."""

    life: Any
    own: ec.EllipticCurvePrivateKey

    def asks(self, name: str) -> Mapping[str, bytes]:
        target = self.life.deployment()
        service, public = keyserver.service(target, self.life.home / "cache"), spki(self.own.public_key())
        nonce = service.challenge(name)
        evidence = cmw.encode(cmw.of_pieces("snp", self.life.stage.pieces(self.life.machine, nonce)))
        offer = service.release(EvidenceRequest(1, name, nonce, public, evidence))
        releaser = keystore.open_store(target.surroundings).releaser.private.public_key()
        return loads(Volume, open_offer(offer, own=self.own, nonce=nonce, releaser=releaser)[0]).secrets


@pytest.fixture
def guest(life: Any, monkeypatch: pytest.MonkeyPatch) -> Guest:
    own = ec.generate_private_key(ec.SECP384R1())
    monkeypatch.setattr(sys.modules[type(life).__module__], "SPKI", spki(own.public_key()))
    monkeypatch.setattr(keyserver, "begin", lambda *_: None)  # it is asked in this process
    keep(life.home, VALUE)
    life.image("reading", "db")
    life.write(secrets={"db": "db"}, key_server="203.0.113.10:8443", network=NETWORK)
    return Guest(life, own)


def keep(home: Path, value: bytes) -> None:
    path = home / "db"
    path.write_bytes(value)
    path.chmod(0o600)


def name_of(target: Deployment) -> str:
    """Under which its machine asks, by its measured command line."""
    line = next(value.command_line for value in target.own_references.values if value.command_line)
    return next(word for word in line.split() if word.startswith("evident.machine=")).partition("=")[2]


def test_the_machine_gets_them_once_it_has_attested_and_no_more_once_it_is_revoked(life: Any, guest: Guest) -> None:
    target = life.up()
    name = name_of(target)
    assert guest.asks(name) == {"db": VALUE}
    released = keystore.release_log(target.surroundings).entries()[-1]
    assert (released.event, released.disk, released.secrets) == ("released", name, ("db",))
    files = [path for path in life.home.rglob("*") if path.is_file() and path.name != "db"]
    assert not any(VALUE in path.read_bytes() or VALUE.hex().encode() in path.read_bytes() for path in files)
    revoke(target, "a test")
    with pytest.raises(PolicyRefused, match=r"keys\.revoked"):
        guest.asks(name)
    farewell.down(target)


@pytest.mark.parametrize("platform", ["aws"])
def test_another_machine_gets_the_secrets_as_they_are_then(life: Any, guest: Guest) -> None:
    target = life.up()
    first = name_of(target)
    keep(life.home, NEXT_VALUE)
    life.up()
    assert guest.asks(first) == {"db": VALUE}, "what runs keeps what it was made with"
    life.image("two", "db")
    life.update(timedelta(0))
    second = name_of(target)
    assert second != first
    assert guest.asks(second) == {"db": NEXT_VALUE}
    with pytest.raises(EvidentError, match=r"keys\.disk-unknown"):
        guest.asks(first)
    farewell.down(target)


@pytest.mark.parametrize("platform", ["azure", "gcp"])
def test_an_identity_is_demanded_of_every_answer_and_before_any_release(life: Any, guest: Guest) -> None:
    life.write(identity={"chip_id": ["ab" * 64]})
    target = life.up()
    with pytest.raises(PolicyRefused, match=r"policy\.identity"):
        guest.asks(name_of(target))
    assert life.statement().findings[0].code == "policy.identity"
    with pytest.raises(PolicyRefused, match=r"keys\.quarantined"):
        guest.asks(name_of(target))
    chip = life.machine.guest.report(bytes(64))[0x1A0:0x1E0]
    farewell.down(target)
    life.write(identity={"chip_id": [chip.hex()]})
    target = life.up()
    assert guest.asks(name_of(target)) == {"db": VALUE}
    assert life.statement().decision == "accepted"
    farewell.down(target)
