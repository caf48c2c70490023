"""Certificates: every real one read, serial number 0 without the library's blessing, and each reason to refuse an issuer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from evident.endorsements import amd, anchors, pem, x509
from evident.endorsements.signatures import SignatureAlgorithm, check_signature, parse_algorithm
from evident.endorsements.x509 import Certificate
from evident.errors import EvidentError, Malformed, NotAuthentic, Unsupported

Issue = Callable[..., bytes]


def code_of(error: pytest.ExceptionInfo[EvidentError]) -> str:
    return error.value.code


def refuse_serial_zero(*_: object) -> None:
    raise ValueError("the serial number of a certificate must be positive")


@pytest.mark.parametrize("file", ["snp/trustee-milan-v2/vcek.der", "aws/reclaim-vlek-v5/vlek.der", "snp/virtee-turin-vcek/vcek.der"])
def test_serial_number_zero_works_when_the_library_refuses_it(vectors: Any, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """`cryptography` has announced that it will raise for such certificates: here it already does."""
    for module in (library, library.base):
        for loader in ("load_der_x509_certificate", "load_pem_x509_certificate", "load_pem_x509_certificates"):
            monkeypatch.setattr(module, loader, refuse_serial_zero, raising=False)
    der = (vectors.root / file).read_bytes()
    with pytest.raises(ValueError, match="must be positive"):
        library.load_der_x509_certificate(der)

    key = amd.load_endorsement_key(der)
    trusted = anchors.production()
    signer = anchors.amd_intermediates(trusted, key.product, key.kind)[0].certificate
    root = anchors.amd_roots(trusted, key.product)[0].certificate
    assert key.certificate.serial == 0
    x509.verify_chain((key.certificate, signer, root), key.certificate.not_before + timedelta(days=1))
    assert isinstance(key.certificate.public_key, ec.EllipticCurvePublicKey)
    assert x509.load(pem.encode(der, "CERTIFICATE")) == key.certificate


def test_the_room_does_without_the_librarys_certificates() -> None:
    """Not only the loaders: nothing of `cryptography.x509` is reached for."""
    program = (
        "import sys; sys.modules['cryptography.x509'] = None\n"
        "from evident.endorsements import amd, anchors, crl, x509\n"
        "from datetime import datetime, UTC\n"
        "for a in anchors.production():\n"
        "    if a.role == 'root': x509.verify_chain((a.certificate, a.certificate), datetime(2026, 6, 1, tzinfo=UTC))\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def real_certificates(root: Path) -> list[Path]:
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix in {".der", ".pem", ".crt", ".cer"}
        and "crl" not in path.name.lower()
        and b"PUBLIC KEY" not in (content := path.read_bytes())
        and b"X509 CRL" not in content
    ]


def test_every_real_certificate_is_read_as_the_library_reads_it(vectors: Any) -> None:
    count = 0
    for path in real_certificates(vectors.root):
        for ours in x509.load_all(path.read_bytes()):
            count += 1
            assert ours.public_key is not None
            assert ours.signature_algorithm is not None
            if ours.serial == 0:
                continue  # only we read those without a warning
            if ours.subject_cn and len(ours.subject_cn) > 64:
                continue  # Google's older authorities; the library warns
            theirs = library.load_der_x509_certificate(ours.der)
            names = theirs.subject.get_attributes_for_oid(library.NameOID.COMMON_NAME)
            assert (ours.serial, ours.not_before, ours.not_after) == (
                theirs.serial_number,
                theirs.not_valid_before_utc,
                theirs.not_valid_after_utc,
            )
            assert ours.subject_cn == (names[0].value if names else None)
            assert (ours.tbs, ours.signature) == (theirs.tbs_certificate_bytes, theirs.signature)
            assert {oid: e.critical for oid, e in ours.extensions.items()} == {e.oid.dotted_string: e.critical for e in theirs.extensions}
    assert count > 60


def test_real_self_signed_roots_of_every_kind_verify(vectors: Any) -> None:
    """RSA-PSS (AMD), ECDSA P-256 (Intel), ECDSA P-384 (Nitro), RSA PKCS #1 (Google)."""
    for file in (
        "amd-chain/trustee-milan/ask_ark_asvk.pem",
        "tdx/go-tdx-guest-spr-v4/trusted_root.pem",
        "aws/reclaim-nitrotpm-doc/aws_nitro_root.pem",
        "tpm/go-tpm-tools-gce-pca-certs/root.crt",
    ):
        root = next(c for c in x509.load_all((vectors.root / file).read_bytes()) if c.self_issued)
        x509.verify_issued_by(root, root)


def chain_of(issue: Issue, root: Any, leaf_key: Any, **middle: Any) -> tuple[Certificate, Certificate, Certificate]:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    options = {"ca": True, "usage": ("key_cert_sign",), "pss": True, **middle}
    intermediate = x509.parse(issue("TEST CA", ca_key, "TEST Root", root.key, **options))
    leaf = x509.parse(issue("TEST Leaf", leaf_key, "TEST CA", ca_key))
    return leaf, intermediate, x509.parse(root.der)


def test_a_good_chain_verifies(issue: Issue, root: Any, leaf_key: Any, now: datetime) -> None:
    chain = chain_of(issue, root, leaf_key, path_length=0)
    x509.verify_chain(chain, now)
    assert chain[1].path_length == 0
    assert chain[1].key_usage == {"key_cert_sign"}
    assert (chain[0].is_ca, chain[0].key_usage) == (False, None)


def test_an_issuer_of_another_name(issue: Issue, root: Any, leaf_key: Any) -> None:
    leaf, intermediate, _ = chain_of(issue, root, leaf_key)
    other = replace(intermediate, subject=leaf.subject)
    with pytest.raises(NotAuthentic) as caught:
        x509.verify_issued_by(leaf, other)
    assert code_of(caught) == "x509.issuer-name"
    x509.verify_issued_by(replace(leaf, issuer=leaf.subject), other)  # the same key signs: only the name tells


def test_a_leaf_that_plays_authority(issue: Issue, root: Any, leaf_key: Any) -> None:
    """The owner of any certified key signs one more certificate; without the CA flag that must be worth nothing."""
    for ca in (False, None):
        leaf, intermediate, _ = chain_of(issue, root, leaf_key, ca=ca)
        with pytest.raises(NotAuthentic) as caught:
            x509.verify_issued_by(leaf, intermediate)
        assert code_of(caught) == "x509.issuer-not-ca"
        x509.verify_issued_by(leaf, replace(intermediate, is_ca=True))


def test_a_key_that_may_not_sign_certificates(issue: Issue, root: Any, leaf_key: Any) -> None:
    leaf, intermediate, _ = chain_of(issue, root, leaf_key, usage=("crl_sign",))
    with pytest.raises(NotAuthentic) as caught:
        x509.verify_issued_by(leaf, intermediate)
    assert code_of(caught) == "x509.issuer-key-usage"
    x509.verify_issued_by(leaf, replace(intermediate, key_usage=None))


def test_every_flipped_byte_of_the_signed_part_is_noticed(issue: Issue, root: Any, leaf_key: Any, now: datetime) -> None:
    good = issue("TEST Leaf", leaf_key, "TEST Root", root.key, pss=True)
    issuer, original = x509.parse(root.der), x509.parse(good)
    x509.verify_issued_by(original, issuer)
    start = good.index(original.tbs)
    for at in range(start, start + len(original.tbs)):
        altered = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises((Malformed, NotAuthentic, Unsupported)):
            x509.verify_issued_by(x509.parse(altered), issuer)


def test_a_signature_by_another_key(issue: Issue, root: Any, leaf_key: Any) -> None:
    imposter = rsa.generate_private_key(65537, 2048)
    forged = x509.parse(issue("TEST Leaf", leaf_key, "TEST Root", imposter, pss=True))
    with pytest.raises(NotAuthentic) as caught:
        x509.verify_issued_by(forged, x509.parse(root.der))
    assert code_of(caught) == "x509.signature"


def test_the_salt_length_is_the_one_announced(root: Any) -> None:
    signature = root.key.sign(b"text", padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=32), hashes.SHA384())
    check_signature(root.key.public_key(), SignatureAlgorithm("rsa-pss", "sha384", 32), signature, b"text", "x")
    with pytest.raises(NotAuthentic):
        check_signature(root.key.public_key(), SignatureAlgorithm("rsa-pss", "sha384", 48), signature, b"text", "x")


def test_an_algorithm_for_another_kind_of_key(root: Any, leaf_key: Any) -> None:
    signature = leaf_key.sign(b"text", ec.ECDSA(hashes.SHA384()))
    with pytest.raises(NotAuthentic):
        check_signature(root.key.public_key(), SignatureAlgorithm("ecdsa", "sha384"), signature, b"text", "x")
    with pytest.raises(NotAuthentic):
        check_signature(leaf_key.public_key(), SignatureAlgorithm("rsa-pkcs1", "sha384"), signature, b"text", "x")


def test_validity_at_its_ends(issue: Issue, root: Any, leaf_key: Any, now: datetime) -> None:
    certificate = x509.parse(issue("TEST Leaf", leaf_key, "TEST Root", root.key, start=now, days=1))
    for moment in (now, now + timedelta(days=1)):
        x509.check_validity(certificate, moment)
    for moment, code in ((now - timedelta(seconds=1), "x509.not-yet-valid"), (now + timedelta(days=1, seconds=1), "x509.expired")):
        with pytest.raises(NotAuthentic) as caught:
            x509.check_validity(certificate, moment)
        assert code_of(caught) == code
        with pytest.raises(NotAuthentic):
            x509.verify_chain((certificate, x509.parse(root.der)), moment)


def test_an_authority_below_one_that_allows_none(issue: Issue, root: Any, leaf_key: Any, now: datetime) -> None:
    leaf, intermediate, _ = chain_of(issue, root, leaf_key)
    short = x509.parse(issue("TEST Root", root.key, "TEST Root", root.key, ca=True, path_length=0, pss=True))
    with pytest.raises(NotAuthentic) as caught:
        x509.verify_chain((leaf, intermediate, short), now)
    assert code_of(caught) == "x509.path-length"
    x509.verify_chain((leaf, intermediate, replace(short, path_length=1)), now)


def test_an_unknown_critical_extension(issue: Issue, root: Any, leaf_key: Any, now: datetime) -> None:
    extension = ("1.3.6.1.4.1.99999.1", b"\x05\x00", True)
    leaf = x509.parse(issue("TEST Leaf", leaf_key, "TEST Root", root.key, pss=True, extensions=(extension,)))
    with pytest.raises(Unsupported) as caught:
        x509.verify_chain((leaf, x509.parse(root.der)), now)
    assert code_of(caught) == "x509.critical-extension"
    x509.verify_chain((leaf, x509.parse(root.der)), now, understood=["1.3.6.1.4.1.99999.1"])


def test_several_pems_and_one_alone(root: Any) -> None:
    text = pem.encode(root.der, "CERTIFICATE") * 2
    assert len(x509.load_all(text)) == 2
    with pytest.raises(Malformed, match="one certificate"):
        x509.load(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda der: der[:0],
        lambda der: der[:-1],
        lambda der: der + b"\0",
        lambda der: der + der,
        lambda der: b"\x30\x80" + der[4:] + b"\0\0",
        lambda der: b"\0" * len(der),
        lambda der: der + b"\0" * 70_000,
    ],
    ids=["empty", "truncated", "trailing", "twice", "indefinite", "zeros", "oversized"],
)
def test_what_is_not_one_certificate(root: Any, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        x509.load_all(change(root.der))


def test_two_algorithms_in_one_certificate(issue: Issue, root: Any, leaf_key: Any) -> None:
    """The outer algorithm is not under the signature: it has to be the inner one (RFC 5280 section 4.1.1.2)."""
    good = issue("TEST Leaf", leaf_key, "TEST Root", root.key)
    before, sha384, after = good.rpartition(bytes.fromhex("06092a864886f70d01010c"))
    altered = before + sha384[:-1] + b"\x0d" + after
    assert altered != good
    with pytest.raises(Malformed, match="algorithm-mismatch"):
        x509.parse(altered)


SHA384, SHA256 = "300d 0609 6086480165030402 02 0500", "300d 0609 6086480165030402 01 0500"


@pytest.mark.parametrize(
    "text",
    [
        "300d 0609 2a864886f70d010105 0500",
        "300d 0609 2a864886f70d01010a 3000",
        "3005 0603 2b6570",
        f"3041 0609 2a864886f70d01010a 3034 a00f {SHA384} a11c 301a 0609 2a864886f70d010108 {SHA256} a203 020130",
        f"3046 0609 2a864886f70d01010a 3039 a00f {SHA384} a11c 301a 0609 2a864886f70d010108 {SHA384} a203 020130 a303 020102",
    ],
    ids=["sha1", "pss-defaults", "ed25519", "mgf1-over-another-hash", "another-trailer"],
)
def test_algorithms_that_are_not_supported(text: str) -> None:
    with pytest.raises(Unsupported):
        parse_algorithm(bytes.fromhex(text), "x")


@pytest.mark.parametrize("make", [ed25519.Ed25519PrivateKey.generate, lambda: ec.generate_private_key(ec.SECP256K1())])
def test_keys_that_are_not_supported(root: Any, make: Callable[[], Any]) -> None:
    spki = make().public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Unsupported):
        _ = replace(x509.parse(root.der), spki=spki).public_key
