"""CRLs: real ones read, and AT-27 and AT-28: revoked, forged, expired and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from evident.endorsements import crl, pem, x509
from evident.errors import Indeterminate, Malformed, NotAuthentic, Unsupported

Issue = Callable[..., bytes]


@pytest.mark.parametrize(
    "file",
    [
        "tdx/attestation-rs-collateral-2026-03/pck_crl_platform.der",
        "tdx/attestation-rs-collateral-2026-03/root_ca_crl.der",
        "tdx/go-tdx-guest-spr-v4/pck_crl",
        "tdx/intel-qvl-test-pki/rootCaCrl.der",
    ],
)
def test_real_crls_are_read_as_the_library_reads_them(vectors: Any, file: str) -> None:
    ours = crl.load((vectors.root / file).read_bytes())
    theirs = library.load_der_x509_crl(ours.der)
    assert (ours.this_update, ours.next_update) == (theirs.last_update_utc, theirs.next_update_utc)
    assert {serial: entry.at for serial, entry in ours.revoked.items()} == {
        entry.serial_number: entry.revocation_date_utc for entry in theirs
    }
    assert ours.number == theirs.extensions.get_extension_for_class(library.CRLNumber).value.crl_number


def test_a_real_crl_verifies_under_its_real_root(vectors: Any) -> None:
    root = x509.load(vectors.read("tdx/go-tdx-guest-spr-v4", "trusted_root.pem"))
    crl.verify_issued_by(crl.load(vectors.read("tdx/attestation-rs-collateral-2026-03", "root_ca_crl.der")), root)


def test_a_good_crl(root: Any, now: datetime) -> None:
    parsed = crl.load(pem.encode(root.crl(number=5, revoked=(77,)), "X509 CRL"))
    crl.verify_issued_by(parsed, x509.parse(root.der))
    crl.check_window(parsed, now)
    crl.check_floor(parsed, 5)
    crl.check_floor(parsed, None)
    entry = parsed.revokes(77)
    assert entry is not None
    assert (entry.reason, entry.at) == ("key compromise", now)
    assert parsed.revokes(78) is None


def test_revoked(issue: Issue, root: Any, leaf_key: Any) -> None:
    """AT-27: the same certificate passes under the older CRL."""
    certificate = x509.parse(issue("TEST CA", leaf_key, "TEST Root", root.key, serial=77))
    crl.check_not_revoked(crl.parse(root.crl(revoked=(78,))), certificate)
    with pytest.raises(NotAuthentic) as caught:
        crl.check_not_revoked(crl.parse(root.crl(revoked=(76, 77))), certificate)
    assert caught.value.code == "crl.revoked"
    other_issuer = replace(certificate, issuer=certificate.subject)  # a serial number means nothing under another issuer
    crl.check_not_revoked(crl.parse(root.crl(revoked=(77,))), other_issuer)


def test_forged(root: Any) -> None:
    """AT-28: an empty CRL in the root's name, signed by somebody else."""
    forged = crl.parse(root.crl(key=rsa.generate_private_key(65537, 2048)))
    with pytest.raises(NotAuthentic) as caught:
        crl.verify_issued_by(forged, x509.parse(root.der))
    assert caught.value.code == "crl.signature"


def test_every_flipped_byte_is_noticed(root: Any) -> None:
    good, issuer = root.crl(revoked=(77,)), x509.parse(root.der)
    signed = crl.parse(good).tbs
    start = good.index(signed)
    for at in range(start, start + len(signed)):
        with pytest.raises((Malformed, NotAuthentic, Unsupported)):
            crl.verify_issued_by(crl.parse(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]), issuer)


def test_of_another_issuer_or_by_a_key_that_may_not(issue: Issue, root: Any) -> None:
    parsed, issuer = crl.parse(root.crl()), x509.parse(root.der)
    with pytest.raises(NotAuthentic) as caught:
        crl.verify_issued_by(parsed, replace(issuer, subject=b"another"))
    assert caught.value.code == "crl.issuer-name"
    for usage in (("key_cert_sign",), None):
        powerless = x509.parse(issue("TEST Root", root.key, "TEST Root", root.key, ca=True, usage=usage, pss=True))
        with pytest.raises(NotAuthentic) as caught:
            crl.verify_issued_by(parsed, powerless)
        assert caught.value.code == "crl.issuer-key-usage"
        crl.verify_issued_by(parsed, replace(powerless, key_usage=frozenset({"crl_sign"})))


def test_window(root: Any, now: datetime) -> None:
    parsed = crl.parse(root.crl(days=30))
    for moment, code in ((now - timedelta(seconds=1), "crl.not-yet-valid"), (now + timedelta(days=31), "crl.stale")):
        with pytest.raises(Indeterminate) as caught:
            crl.check_window(parsed, moment)
        assert caught.value.code == code
    with pytest.raises(Indeterminate, match="no-window"):
        crl.check_window(replace(parsed, next_update=None), now)


def test_replayed(root: Any, now: datetime) -> None:
    """AT-28: an old CRL, still inside its window and well signed, from before a revocation."""
    old = crl.parse(root.crl(number=4))
    crl.verify_issued_by(old, x509.parse(root.der))
    crl.check_window(old, now)
    crl.check_floor(old, None)
    for replayed in (old, replace(old, number=None)):
        with pytest.raises(Indeterminate) as caught:
            crl.check_floor(replayed, 5)
        assert caught.value.code == "crl.replayed"


def build(now: datetime) -> library.CertificateRevocationListBuilder:
    name = library.Name([library.NameAttribute(library.NameOID.COMMON_NAME, "TEST Root")])
    return library.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now + timedelta(days=1))


@pytest.mark.parametrize("seen", [1, 10**15])
def test_replayed_by_date(root: Any, now: datetime, seen: int) -> None:
    """Of an authority that numbers all lists 1; what was seen comes from a file, and need be no date of the calendar."""
    parsed = crl.parse(root.crl())
    crl.check_issued_since(parsed, None)
    crl.check_issued_since(parsed, crl.issued(parsed))
    with pytest.raises(Indeterminate) as undecided:
        crl.check_issued_since(parsed, crl.issued(parsed) + seen)
    assert undecided.value.code == "crl.replayed"


def test_partial_crls_are_not_taken_for_whole_ones(root: Any, now: datetime) -> None:
    partial = library.IssuingDistributionPoint(None, None, True, False, None, False, False)
    delta = library.DeltaCRLIndicator(3)
    for extension in (partial, delta):
        der = build(now).add_extension(extension, critical=True).sign(root.key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)
        with pytest.raises(Unsupported, match="critical-extension"):
            crl.parse(der)


def test_a_crl_without_number(root: Any) -> None:
    assert crl.parse(root.crl(number=None)).number is None


@pytest.mark.parametrize(
    "change",
    [lambda der: der[:0], lambda der: der[:-1], lambda der: der + b"\0", lambda der: pem.encode(der, "X509 CRL") * 2],
    ids=["empty", "cut", "trailing byte", "two lists"],
)
def test_what_is_not_one_crl(root: Any, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        crl.load(change(root.crl()))


def test_a_certificate_is_not_a_crl(root: Any) -> None:
    with pytest.raises(Malformed):
        crl.load(root.der)
    with pytest.raises(Malformed):
        x509.load(root.crl())
