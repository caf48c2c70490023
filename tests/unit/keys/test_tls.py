"""What a machine says it certified is believed by the key that its evidence binds alone; another is believed with that check off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509 as forms
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding

from evident.appraisal.appraise import appraise
from evident.appraisal.statement import TrustStatement
from evident.endorsements import x509
from evident.errors import EvidentError, Indeterminate, Malformed, NotAuthentic, PolicyRefused
from evident.evidence import binding
from evident.evidence.instance import common_name
from evident.guest import certificate
from evident.keys import tls
from evident.keys.exchange import spki
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.verification import snp

NONCE, NAMES = bytes(range(32)), ["shop.example"]
OWN, TLS, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
INSTANCE, SERVED = certificate.instance_certificate(OWN, NAMES), certificate.tls_certificate(OWN, spki(TLS.public_key()), NAMES)
BEFORE = certificate.instance_certificate(OTHER, NAMES), certificate.tls_certificate(OTHER, spki(TLS.public_key()), NAMES)


def stated(machine: Scenario, owner: Scenario) -> TrustStatement:
    """On a machine that has its key bound into a report."""
    running, key = machine.start(), spki(OWN.public_key())
    pieces = {"report": (running.guest.report(binding.report_data(NONCE, key)),), "auxblob": (running._table,), "key": (key,)}
    return appraise(snp.verify(pieces, machine.context(NONCE)), policy=owner.policy, references=owner.reference.values)


BOUND = binding.key_digest(spki(OWN.public_key()))


@pytest.fixture(scope="module")
def machine(simulator_pki: SimulatorPki) -> Scenario:
    return scenario.good(simulator_pki)


@pytest.fixture(scope="module")
def accepted(machine: Scenario) -> TrustStatement:
    return stated(machine, machine)


def test_what_the_bound_key_certified_is_believed(accepted: TrustStatement) -> None:
    known = tls.certified((INSTANCE, SERVED), accepted, BOUND)
    assert (known.instance.der, known.spki) == (INSTANCE, spki(TLS.public_key()))
    assert known.instance.subject_cn == common_name(spki(OWN.public_key()))
    assert known.pin.startswith("sha256//")


def test_nothing_of_a_refused_machine_is(machine: Scenario) -> None:
    refused = stated(scenario.ATTACKS["swap-kernel"].on(machine), machine)
    with pytest.raises(PolicyRefused):
        tls.certified((INSTANCE, SERVED), refused, BOUND)


@pytest.mark.attack("AT-50", "An earlier boot's certificates, or another machine's, come beside good evidence.", "tls.instance-key")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_certificates_of_another_boot(accepted: TrustStatement, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        monkeypatch.setattr(tls, "check_bound", lambda *_: None)
        assert tls.certified(BEFORE, accepted, BOUND).instance.der == BEFORE[0]
        return
    for bound in (BOUND, None):
        with pytest.raises(NotAuthentic, match=r"tls\.instance-key"):
            tls.certified(BEFORE if bound else (INSTANCE, SERVED), accepted, bound)


def claimed(signer: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate of `OTHER` in the name of the instance."""
    name = forms.load_der_x509_certificate(INSTANCE).subject
    made = forms.CertificateBuilder(name, forms.Name([]), OTHER.public_key(), 1)
    valid = forms.load_der_x509_certificate(INSTANCE)
    made = made.not_valid_before(valid.not_valid_before_utc).not_valid_after(valid.not_valid_after_utc)
    return made.sign(signer, SHA384()).public_bytes(Encoding.DER)


@pytest.mark.attack(
    "AT-50", "A certificate in the attested instance's name, which its key never signed, comes beside good evidence.", "x509.signature"
)
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_certificate_that_the_bound_key_never_signed(accepted: TrustStatement, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    forged = claimed(OTHER)
    if not checked:
        monkeypatch.setattr(x509, "check_signature", lambda *_: None)
        assert tls.certified((INSTANCE, forged), accepted, BOUND).spki == spki(OTHER.public_key())
        return
    with pytest.raises(NotAuthentic, match=r"x509\.signature"):
        tls.certified((INSTANCE, forged), accepted, BOUND)


def self_signed(change: Callable[[Any], Any], name: str = "") -> bytes:
    """An instance certificate by the very key, of another form."""
    good = forms.load_der_x509_certificate(INSTANCE)
    subject = forms.Name([forms.NameAttribute(forms.NameOID.COMMON_NAME, name)]) if name else good.subject
    made = forms.CertificateBuilder(subject, subject, OWN.public_key(), 1)
    made = made.not_valid_before(good.not_valid_before_utc).not_valid_after(good.not_valid_after_utc)
    for extension in good.extensions:
        changed = change(extension.value)
        made = made if changed is None else made.add_extension(changed, extension.critical)
    return made.sign(OWN, SHA384()).public_bytes(Encoding.DER)


def without(kind: type) -> Callable[[Any], Any]:
    return lambda value: None if isinstance(value, kind) else value


def deep(value: Any) -> Any:
    return forms.BasicConstraints(True, 1) if isinstance(value, forms.BasicConstraints) else value


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        (deep, "", "path length 1"),
        (without(forms.BasicConstraints), "", "path length None"),
        (without(forms.NameConstraints), "", "no name constraints"),
        (lambda value: value, "evident-instance-000000000000", "evident-instance-000000000000"),
    ],
    ids=["deep", "no authority", "any name", "another's name"],
)
def test_an_authority_that_reaches_too_far(accepted: TrustStatement, change: Callable[[Any], Any], name: str, found: str) -> None:
    with pytest.raises(NotAuthentic, match=found) as caught:
        tls.certified((self_signed(change, name), SERVED), accepted, BOUND)
    assert caught.value.code == "tls.instance"


@pytest.mark.parametrize(
    ("certificates", "kind", "code"),
    [
        ((), Indeterminate, "tls.no-certificate"),
        ((INSTANCE,), Malformed, "tls.certificates"),
        ((INSTANCE, SERVED, SERVED), Malformed, "tls.certificates"),
        ((INSTANCE, bytes(tls.SIZE_LIMIT + 1)), Malformed, "tls.certificates"),
        ((INSTANCE, b""), Malformed, "x509.truncated"),
        ((INSTANCE, SERVED[:-1]), Malformed, "x509.truncated"),
        ((INSTANCE, SERVED + b"\0"), Malformed, "x509.trailing"),
        ((INSTANCE, BEFORE[1]), NotAuthentic, "x509.issuer-name"),
        ((SERVED, INSTANCE), NotAuthentic, "tls.instance-key"),
    ],
    ids=["none", "one", "three", "huge", "empty", "cut", "trailing", "another's", "swapped"],
)
def test_whatever_else_is_sent(accepted: TrustStatement, certificates: tuple[bytes, ...], kind: type[EvidentError], code: str) -> None:
    with pytest.raises(kind) as caught:
        tls.certified(certificates, accepted, BOUND)
    assert caught.value.code == code
