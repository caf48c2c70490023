"""The certificates and the request of a boot: byte for byte what `cryptography.x509` makes of the same, and good for nothing else."""

from __future__ import annotations

import os
import socket
import ssl
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.tls import server, serving

from evident.evidence.instance import common_name
from evident.guest import certificate
from evident.keys.exchange import spki

MANY = [f"{'n' * 63}.{'a' * 63}.{'m' * 63}.{'e' * 57}{number:03}" for number in range(100)]
OWN, TLS = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
NOTHING = x509.Name([])


def usage(**true: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    return x509.KeyUsage(**{name: true.get(name, False) for name in (*names, "crl_sign", "encipher_only", "decipher_only")})


def alternatives(names: list[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(map(x509.DNSName, names))


def like(found: x509.Certificate, subject: x509.Name | None, key: Any, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """The signed part as `cryptography` writes it; numbers and key identifiers, which are free, as found."""
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(spki(OWN.public_key())))])
    made = x509.CertificateBuilder(issuer, issuer if subject is None else subject, key.public_key(), found.serial_number)
    made = made.not_valid_before(datetime(2000, 1, 1, tzinfo=UTC)).not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    identifiers = (
        found.extensions.get_extension_for_class(kind).value for kind in (x509.SubjectKeyIdentifier, x509.AuthorityKeyIdentifier)
    )
    for extension, critical in (*((each, False) for each in identifiers), *extensions):
        made = made.add_extension(extension, critical)
    return made.sign(OWN, SHA384()).tbs_certificate_bytes


@pytest.mark.parametrize("names", [["localhost"], ["shop.example", "www.shop.example"], MANY], ids=["one", "two", "many"])
def test_the_forms(names: list[str]) -> None:
    instance = x509.load_der_x509_certificate(certificate.instance_certificate(OWN, names))
    nowhere = [x509.IPAddress(ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    limits = x509.NameConstraints([x509.DNSName(name) for name in names], nowhere)
    authority = ((x509.BasicConstraints(True, 0), True), (usage(key_cert_sign=True), True), (limits, True))
    assert instance.tbs_certificate_bytes == like(instance, None, OWN, *authority)
    instance.verify_directly_issued_by(instance)

    own = x509.load_der_x509_certificate(certificate.tls_certificate(OWN, spki(TLS.public_key()), names))
    serves = (usage(digital_signature=True), True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    assert own.tbs_certificate_bytes == like(own, NOTHING, TLS, *serves, (alternatives(names), True))
    own.verify_directly_issued_by(instance)

    request = x509.load_der_x509_csr(certificate.request(TLS, names))
    asked = x509.CertificateSigningRequestBuilder(NOTHING).add_extension(alternatives(names), True).sign(TLS, SHA384())
    assert request.tbs_certrequest_bytes == asked.tbs_certrequest_bytes
    assert request.is_signature_valid


@pytest.mark.parametrize(
    ("key", "name"), [(b"", "rzWtdMwJelxE"), (b"a", "m2WfvneMdx1O"), (bytes(120), "QHxVlM1csNHQ")], ids=["none", "one", "size"]
)
def test_the_name_is_that_of_the_first_evident(key: bytes, name: str) -> None:
    """EI-04; expected values by the method of that program, digit for digit over the bytes."""
    assert common_name(key) == f"evident-instance-{name}"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "run" / "tls"
    certificate.make(OWN, ["localhost"], os.getuid(), place)
    return place


def test_what_is_written(place: Path, tmp_path: Path) -> None:
    assert {path.name: path.stat().st_mode & 0o777 for path in place.iterdir()} == {
        "instance.pem": 0o444,
        "certificate.pem": 0o444,
        "request.pem": 0o444,
        "key.pem": 0o400,
    }
    key = load_pem_private_key((place / "key.pem").read_bytes(), None)
    own = x509.load_pem_x509_certificate((place / "certificate.pem").read_bytes())
    request = x509.load_pem_x509_csr((place / "request.pem").read_bytes())
    assert key.public_key() == own.public_key() == request.public_key() != OWN.public_key()
    for form in (x509.load_pem_x509_certificate((place / "instance.pem").read_bytes()), own, request):
        assert form.public_bytes(Encoding.PEM) in [path.read_bytes() for path in place.iterdir()]
    with pytest.raises(FileExistsError):
        certificate.make(OWN, ["localhost"], os.getuid(), place)
    certificate.make(OWN, ["localhost"], os.getuid(), tmp_path / "next boot")
    assert (tmp_path / "next boot" / "key.pem").read_bytes() != (place / "key.pem").read_bytes()


def connect(authority: Path, context: ssl.SSLContext, name: str = "localhost") -> str:
    """What an ordinary, strict client says of a server."""
    client = ssl.create_default_context(cafile=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    with serving(context) as port, socket.create_connection(("127.0.0.1", port)) as stream:
        try:
            with client.wrap_socket(stream, server_hostname=name) as session:
                return session.recv(10).decode()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message


def test_an_ordinary_client_knows_the_machine(place: Path) -> None:
    machine = server(place / "certificate.pem", place / "key.pem")
    assert connect(place / "instance.pem", machine) == "served"
    assert "Hostname mismatch" in connect(place / "instance.pem", machine, "bank.example")


def signed(key: Any, issuer: bytes, name: str, *, authority: bool = False) -> tuple[bytes, Any]:
    """A certificate of another key for `name` by `issuer`, PEM, and that key."""
    by, other = x509.load_pem_x509_certificate(issuer), ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sub")] if authority else [])
    valid = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(by.subject, subject, other.public_key(), 1, *valid)
    named = by.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    if authority:
        made = made.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage(key_cert_sign=True), True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(other.public_key()), False)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named), False)
    return made.add_extension(alternatives([name]), True).sign(key, SHA384()).public_bytes(Encoding.PEM), other


def test_the_instance_certificate_is_good_for_nothing_else(place: Path, tmp_path: Path) -> None:
    """Whoever has it in a list of trusted authorities trusts this machine under these names, even if the key of the boot were abused."""
    own = (place / "instance.pem").read_bytes()

    def served(name: str, chain: bytes, key: Any) -> str:
        (tmp_path / "chain.pem").write_bytes(chain + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return connect(place / "instance.pem", server(tmp_path / "chain.pem"), name)

    assert served("localhost", *signed(OWN, own, "localhost")) == "served", "what the key of the boot itself signs is believed"
    assert served("bank.example", *signed(OWN, own, "bank.example")) == "permitted subtree violation"
    below, sub = signed(OWN, own, "localhost", authority=True)
    leaf, key = signed(sub, below, "localhost")
    assert served("localhost", leaf + below, key) == "path length constraint exceeded"
    workload = (place / "certificate.pem").read_bytes()
    leaf, key = signed(load_pem_private_key((place / "key.pem").read_bytes(), None), workload, "localhost")
    assert served("localhost", leaf + workload, key) != "served"
