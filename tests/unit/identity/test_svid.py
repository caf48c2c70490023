"""SP-02: what an X.509-SVID has to be."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.x509 import KeyUsage
from tests.svid import TrustDomain, usage

from evident.errors import EvidentError
from evident.identity import svid
from evident.identity.spiffe_id import SpiffeId

TRUST = TrustDomain()
OWN, OTHER = "spiffe://example.org/shop", "spiffe://example.org/other"


def refused(der: bytes, trust_domain: str = "example.org") -> str:
    with pytest.raises(EvidentError) as caught:
        svid.check(der, trust_domain)
    return caught.value.code


def test_a_workloads_svid_is_known_by_its_id() -> None:
    assert svid.check(TRUST.svid("/shop").certificates[0], "example.org") == SpiffeId("example.org", "/shop")


def test_an_authoritys_certificate_is_none() -> None:
    assert refused(TRUST.certificate) == "svid.authority"
    assert refused(TRUST.svid("/shop", authority=True).certificates[0]) == "svid.authority"


@pytest.mark.parametrize("wrong", [usage(key_cert_sign=True), usage(digital_signature=True, crl_sign=True), usage(crl_sign=True)])
def test_a_leaf_signs_and_does_nothing_else(wrong: KeyUsage) -> None:
    assert refused(TRUST.svid("/shop", key_usage=wrong).certificates[0]) == "svid.key-usage"


def test_key_usage_is_critical() -> None:
    assert refused(TRUST.svid("/shop", critical=False).certificates[0]) == "svid.key-usage"


@pytest.mark.parametrize(
    ("uris", "code"),
    [
        ([], "svid.uri"),
        ([OWN, OTHER], "svid.uri"),
        ([OWN, "https://example.org"], "svid.uri"),
        (["https://example.org/shop"], "spiffe.id"),
        (["spiffe://example.org/shop/"], "spiffe.id"),
        (["spiffe://example.org"], "svid.path"),
        (["spiffe://example.com/shop"], "svid.trust-domain"),
    ],
)
def test_one_spiffe_id_of_the_trust_domain_it_is(uris: list[str], code: str) -> None:
    assert refused(TRUST.svid("/shop", uris=uris).certificates[0]) == code


def test_validity_is_the_handshakes_to_check() -> None:
    assert svid.check(TRUST.svid("/shop", ends=timedelta(hours=-1)).certificates[0], "example.org").path == "/shop"


def test_what_is_no_certificate_is_malformed() -> None:
    assert refused(b"\x30\x03abc").startswith("x509.")
