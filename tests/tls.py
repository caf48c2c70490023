"""A certificate authority that ordinary clients believe, and TLS servers of this process."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Authority:
    """A TEST authority in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TEST authority")])
        own = self._about(self._name, self._key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(own.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def certify(self, public: ec.EllipticCurvePublicKey, *names: str, padding: int = 0) -> bytes:
        """A certificate of `public` for these host names, PEM; larger by `padding` bytes."""
        made = self._about(x509.Name([]), public)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), True)
        if padding:
            made = made.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.1"), bytes(padding)), False)
        return made.sign(self._key, SHA256()).public_bytes(Encoding.PEM)

    def grant(self, request: Path) -> bytes:
        """As an authority grants a request: what it asks for, once it is signed by its key."""
        asked = x509.load_pem_x509_csr(request.read_bytes())
        assert asked.is_signature_valid
        names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        public = asked.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return self.certify(public, *names)

    def impostor(self, *names: str) -> ssl.SSLContext:
        """A server with a key of its own and a valid certificate of this authority."""
        key = ec.generate_private_key(ec.SECP384R1())
        (self._folder / "impostor.pem").write_bytes(
            self.certify(key.public_key(), *names) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return server(self._folder / "impostor.pem")

    def _about(self, subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder(self._name, subject, public, x509.random_serial_number())
        return made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))


def server(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """A server that answers every connection with ``served``; its port."""
    with create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    stream = listening.accept()[0]
                except OSError:  # closed
                    return
                with suppress(OSError), stream, context.wrap_socket(stream, server_side=True) as session:
                    session.sendall(b"served")

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
