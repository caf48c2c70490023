"""AT-70: the host hijacks the hand-over of a disk key. Each element of the exchange alone stops one way of doing it.

Every attack runs twice: on the exchange with just that element taken out, where it gets through, and on the real one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given, settings
from hypothesis import strategies as st

from evident.errors import EvidentError, Malformed, NotAuthentic
from evident.evidence import binding
from evident.keys import exchange
from evident.keys.exchange import SECRET_LIMIT, Offer, Sealed, open_offer, seal, spki
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import good
from evident.verification import snp

SECRET = b"the key of the disk, 32 bytes...."
STATEMENT = hashlib.sha256(b"the statement").digest()


@dataclass
class Parties:
    """A guest with its attested ephemeral key, and a releaser that the guest's image names."""

    nonce: bytes
    guest: ec.EllipticCurvePrivateKey
    signer: ec.EllipticCurvePrivateKey

    @property
    def bound(self) -> bytes:
        """What verification found bound in REPORT_DATA."""
        return binding.key_digest(spki(self.guest.public_key()))

    def seal(self, secret: bytes = SECRET, **changes: Any) -> Sealed:
        words = {"nonce": self.nonce, "guest": spki(self.guest.public_key()), "bound_key": self.bound, "statement": STATEMENT}
        return seal(secret, **{**words, "signer": self.signer, **changes})

    def open(self, offer: Offer, **changes: Any) -> tuple[bytes, bytes]:
        return open_offer(offer, **{"own": self.guest, "nonce": self.nonce, "releaser": self.signer.public_key(), **changes})


def fresh_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def parties() -> Parties:
    return Parties(os.urandom(32), fresh_key(), fresh_key())


def refused(code: str, *, checked: bool) -> AbstractContextManager[Any]:
    return pytest.raises(EvidentError, match=code.replace(".", r"\.")) if checked else nullcontext()


def both_ways(what: str, code: str) -> Callable[[Any], Any]:
    """Run the test with the element out and in, and put it into the index of attacks."""

    def mark(function: Any) -> Any:
        marked = pytest.mark.attack("AT-70", what, code)(function)
        return pytest.mark.parametrize("checked", [False, True], ids=["element out", "element in"])(marked)

    return mark


def test_a_simulated_guest_gets_the_secret_and_nobody_else(simulator_pki: SimulatorPki) -> None:
    """From the verified evidence on: the attested key is the one that opens the offer."""
    nonce, signer = os.urandom(32), fresh_key()
    scenario = good(simulator_pki)
    vm = scenario.start()
    pieces = vm.collect(nonce)
    verified = snp.verify(pieces, scenario.context(nonce))
    sealed = seal(SECRET, nonce=nonce, guest=pieces["key"][0], bound_key=verified.facts.bound_key, statement=STATEMENT, signer=signer)
    secret, confirmation = open_offer(sealed.offer, own=vm.key, nonce=nonce, releaser=signer.public_key())
    assert secret == SECRET
    sealed.confirm(confirmation)
    with pytest.raises(NotAuthentic):
        open_offer(sealed.offer, own=fresh_key(), nonce=nonce, releaser=signer.public_key())


@both_ways("The host passes its own key off as the guest's.", "exchange.unbound")
def test_key_of_the_host(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    host = fresh_key()
    if not checked:
        monkeypatch.setattr(exchange, "_check_bound", lambda *_: None)
    with refused("exchange.unbound", checked=checked):
        offer = parties.seal(guest=spki(host.public_key())).offer
        assert parties.open(offer, own=host)[0] == SECRET, "the host reads the disk key"


@both_ways("Evidence recorded for a short nonce is used again when the nonce comes back.", "exchange.nonce")
def test_short_nonce(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """A guest whose key leaked long ago answered one of few possible challenges; a long one never comes back."""
    short = parties.nonce[:8]
    leaked, recorded = parties.guest, parties.bound
    if not checked:
        monkeypatch.setattr(exchange, "NONCE_BYTES", 8)
    with refused("exchange.nonce", checked=checked):
        offer = parties.seal(nonce=short, bound_key=recorded).offer
        assert parties.open(offer, own=leaked, nonce=short)[0] == SECRET


@both_ways("The host exchanges the releaser's key for another one with the same shared secret.", "exchange.sealed")
def test_negated_key(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """P and -P have one x coordinate, so ECDH alone cannot tell: the two sides agree on a key and not on whose it is."""
    monkeypatch.setattr(exchange, "_check_releaser", lambda *_: None)  # the signature would notice too; here the derivation has to
    if not checked:
        monkeypatch.setattr(exchange, "_info", lambda *parts: parts[3])
    offer = parties.seal().offer
    swapped = replace(offer, releaser=negated(offer.releaser))
    assert swapped.releaser != offer.releaser
    with refused("exchange.sealed", checked=checked):
        assert parties.open(swapped)[0] == SECRET


def negated(der: bytes) -> bytes:
    key = load_der_public_key(der)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = key.public_numbers()
    prime = 2**384 - 2**128 - 2**96 + 2**32 - 1
    return spki(ec.EllipticCurvePublicNumbers(numbers.x, prime - numbers.y, numbers.curve).public_key())


@both_ways("A secret released on one statement is passed on as released on another.", "exchange.sealed")
def test_other_statement(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    monkeypatch.setattr(exchange, "_check_releaser", lambda *_: None)
    if not checked:
        monkeypatch.setattr(exchange, "_info", lambda *parts: exchange._framed(*parts[:3]))
    offer = replace(parties.seal().offer, statement=hashlib.sha256(b"a better statement").digest())
    with refused("exchange.sealed", checked=checked):
        assert parties.open(offer)[0] == SECRET


@both_ways("A key and IV that return let the host compute one secret from another (AES-GCM).", "a fresh key and IV in every offer")
def test_key_and_iv_reused(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        own = fresh_key()
        monkeypatch.setattr(exchange, "_ephemeral", lambda: own)
        monkeypatch.setattr(exchange, "_fresh_iv", lambda _: parties.nonce[:12])
    known, secret = b"a secret that the host knows, 33b", SECRET
    first, second = (parties.seal(value).offer for value in (known, secret))
    guessed = bytes(a ^ b ^ c for a, b, c in zip(known, first.sealed, second.sealed, strict=False))[: len(secret)]
    assert (guessed == secret) is not checked


@both_ways("The host gives the guest a disk key of its own choosing.", "exchange.releaser")
def test_offer_of_the_host(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(exchange, "_check_releaser", lambda *_: None)
    offer = parties.seal(b"a disk key that the host knows", signer=fresh_key()).offer
    with refused("exchange.releaser", checked=checked):
        assert parties.open(offer)[0] == b"a disk key that the host knows"


@both_ways("The host drops the offer and says that it was delivered.", "exchange.unconfirmed")
def test_delivery_feigned(parties: Parties, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    sealed = parties.seal()
    if not checked:
        monkeypatch.setattr(exchange.hmac, "compare_digest", lambda *_: True)
    with refused("exchange.unconfirmed", checked=checked):
        sealed.confirm(bytes(48))
    monkeypatch.undo()
    sealed.confirm(parties.open(sealed.offer)[1])
    with pytest.raises(NotAuthentic):
        sealed.confirm(parties.open(parties.seal().offer)[1])


@settings(max_examples=20)
@given(st.integers(0, 1 << 30), st.sampled_from(["releaser", "statement", "iv", "sealed", "signature"]))
def test_nothing_in_an_offer_can_be_changed(at: int, field: str) -> None:
    parties = Parties(bytes(32), fresh_key(), fresh_key())
    offer = parties.seal().offer
    value = bytearray(getattr(offer, field))
    value[at % len(value)] ^= 1 + at % 255
    with pytest.raises((NotAuthentic, Malformed)):
        parties.open(replace(offer, **{field: bytes(value)}))


def test_ivs_and_keys_never_return(parties: Parties) -> None:
    offers = [parties.seal().offer for _ in range(200)]
    assert len({offer.iv for offer in offers}) == len(offers)
    assert len({offer.releaser for offer in offers}) == len(offers)
    assert len({offer.sealed for offer in offers}) == len(offers)


@pytest.mark.parametrize("wrong", [b"", b"\x30\x00", b"x" * 120, spki(fresh_key().public_key())[:-1]])
def test_keys_that_are_none(parties: Parties, wrong: bytes) -> None:
    with pytest.raises(Malformed, match=r"exchange\.key"):
        parties.seal(guest=wrong, bound_key=binding.key_digest(wrong))


def test_keys_of_another_curve(parties: Parties) -> None:
    other = spki(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(Malformed, match=r"exchange\.key"):
        parties.seal(guest=other, bound_key=binding.key_digest(other))


@pytest.mark.parametrize(
    "changes",
    [{"secret": b""}, {"secret": bytes(SECRET_LIMIT + 1)}, {"statement": b"short"}],
    ids=["no secret", "long secret", "short digest"],
)
def test_sizes(parties: Parties, changes: dict[str, bytes]) -> None:
    with pytest.raises(Malformed, match=r"exchange\.size"):
        parties.seal(**changes)
