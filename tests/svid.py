"""A TEST trust domain: its authority, and SVIDs of it, right and wrong ones."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from evident.identity import spiffe_id
from evident.identity.workload_api import Svid


class TrustDomain:
    """An authority as SPIRE's: P-256, self-signed, with a URI and a key identifier of its own."""

    def __init__(self, name: str = "example.org") -> None:
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, f"TEST {name}")])
        made = self._about(self._subject, self._key.public_key(), timedelta(hours=1))
        made = made.add_extension(x509.BasicConstraints(True, None), True).add_extension(usage(key_cert_sign=True, crl_sign=True), True)
        made = made.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{name}")]), False)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False)
        self.certificate = made.sign(self._key, SHA256()).public_bytes(Encoding.DER)

    def svid(
        self,
        path: str,
        *,
        uris: Sequence[str] | None = None,
        ends: timedelta = timedelta(hours=1),
        authority: bool = False,
        key_usage: x509.KeyUsage | None = None,
        critical: bool = True,
        dns: str = "",
    ) -> Svid:
        """One for ``spiffe://NAME/PATH``: with these URIs, until then, over others, for these uses of its key, and for a host besides."""
        name = f"spiffe://{self.name}{path}"
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "SPIRE")]
        if dns:  # as SPIRE does with the first of them
            subject.append(x509.NameAttribute(x509.NameOID.COMMON_NAME, dns))
        made = self._about(x509.Name(subject), key.public_key(), ends)
        made = made.add_extension(x509.BasicConstraints(authority, None), True)
        made = made.add_extension(key_usage or usage(digital_signature=True), critical)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(each) for each in ([name] if uris is None else uris)]
        names += [x509.DNSName(dns)] if dns else []
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        leaf = made.sign(self._key, SHA256()).public_bytes(Encoding.DER)
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return Svid(spiffe_id.parse(name), (leaf,), private, (self.certificate,))

    def _about(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, ends: timedelta) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder(self._subject, subject, public, x509.random_serial_number())
        now = datetime.now(UTC)
        return made.not_valid_before(min(now, now + ends) - timedelta(minutes=1)).not_valid_after(now + ends)


def usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def client(svid: Svid | None, bundle: Sequence[bytes] = ()) -> ssl.SSLContext:
    """Of a client that shows `svid`, or nothing; it believes the authorities of its own SVID, or of `bundle`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if svid is None:
        context.load_verify_locations(cadata=b"".join(bundle))
    else:
        svid.into(context)
    return context
