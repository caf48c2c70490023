"""TLS for the workload, where the measured configuration says under which names it serves: made anew at every boot, in memory.

    /run/evident/tls/instance.pem     the instance certificate: the key of this boot, which every answer binds, signed by itself (EI-04)
    /run/evident/tls/certificate.pem  a TLS key of the workload's own, signed by the key of this boot
    /run/evident/tls/key.pem          that TLS key, mode 0400, the workload's
    /run/evident/tls/request.pem      a request for an ordinary CA to certify the same key (CSR)

The workload has to hold its TLS key; the key of the boot stays here. What it signs is an authority for the measured names alone: no
authority below it (path length 0), no other name, no address. A guest's clock is its host's, so nothing rests on it: no certificate
expires by date (RFC 5280, 4.1.2.5), and all of them are worth nothing once the boot's keys are gone with the memory they were in.

These are three fixed structures, so they are put together here: `cryptography.x509` would load a reader for everything that a
certificate can be, and Python's mail library with it, into the first process of every machine. Tests read them with it.

Source: RFC 5280, sections 4.1 and 4.2.1; RFC 2986, section 4; RFC 5758, section 3.2; ITU-T X.690, sections 8 and 10.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evident.evidence.instance import common_name
from evident.keys.exchange import spki

PLACE = Path("/run/evident/tls")

_BOOLEAN, _INTEGER, _BITS, _OCTETS, _OID, _UTF8, _UTC_TIME, _TIME, _SEQUENCE, _SET = 1, 2, 3, 4, 6, 12, 23, 24, 48, 49
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87


def _der(tag: int, *contents: bytes) -> bytes:
    body = b"".join(contents)
    size = len(body).to_bytes(max(1, (len(body).bit_length() + 7) // 8), "big")
    return bytes((tag,)) + (size if len(body) < 0x80 else bytes((0x80 | len(size),)) + size) + body


def _oid(hexadecimal: str) -> bytes:
    return _der(_OID, bytes.fromhex(hexadecimal))


def _sequence(*contents: bytes) -> bytes:
    return _der(_SEQUENCE, *contents)


_ECDSA_WITH_SHA384 = _sequence(_oid("2a8648ce3d040303"))
_SERVER_AUTHENTICATION = _oid("2b06010505070301")
_EXTENSION_REQUEST = _oid("2a864886f70d01090e")
_VALIDITY = _sequence(_der(_UTC_TIME, b"000101000000Z"), _der(_TIME, b"99991231235959Z"))
_NOBODY = _sequence()
_ANY_ADDRESS = tuple(_sequence(_der(_IP_ADDRESS, bytes(size))) for size in (8, 32))
"""All of IPv4 and all of IPv6, as subtrees."""


def _extension(number: int, value: bytes, *, critical: bool = False) -> bytes:
    """The extension 2.5.29.`number`."""
    return _sequence(_oid(f"551d{number:02x}"), _der(_BOOLEAN, b"\xff") if critical else b"", _der(_OCTETS, value))


def _names(names: Sequence[str]) -> bytes:
    """Subject alternative names; critical, because there is no other subject."""
    return _extension(17, _sequence(*(_der(_DNS_NAME, name.encode("ascii")) for name in names)), critical=True)


def _signed(own: ec.EllipticCurvePrivateKey, said: bytes) -> bytes:
    return _sequence(said, _ECDSA_WITH_SHA384, _der(_BITS, b"\0", own.sign(said, ec.ECDSA(SHA384()))))


def _certificate(own: ec.EllipticCurvePrivateKey, subject: bytes, public: bytes, *extensions: bytes) -> bytes:
    digest, issuer = hashlib.sha256(public).digest(), spki(own.public_key())
    name = _sequence(_der(_SET, _sequence(_oid("550403"), _der(_UTF8, common_name(issuer).encode()))))
    number = _der(_INTEGER, b"\1", digest[:15])
    identifiers = (
        _extension(14, _der(_OCTETS, digest[:20])),
        _extension(35, _sequence(_der(0x80, hashlib.sha256(issuer).digest()[:20]))),
    )
    fixed = _der(0xA0, _der(_INTEGER, b"\2")), number, _ECDSA_WITH_SHA384, name, _VALIDITY, subject or name, public
    return _signed(own, _sequence(*fixed, _der(0xA3, _sequence(*identifiers, *extensions))))


def instance_certificate(own: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    """Of the key of this boot, by itself: an authority for `names` and for nothing else. DER."""
    permitted = (_sequence(_der(_DNS_NAME, name.encode("ascii"))) for name in names)
    return _certificate(
        own,
        b"",
        spki(own.public_key()),
        _extension(19, _sequence(_der(_BOOLEAN, b"\xff"), _der(_INTEGER, b"\0")), critical=True),
        _extension(15, _der(_BITS, b"\2\4"), critical=True),  # to sign certificates
        _extension(30, _sequence(_der(0xA0, *permitted), _der(0xA1, *_ANY_ADDRESS)), critical=True),
    )


def tls_certificate(own: ec.EllipticCurvePrivateKey, public: bytes, names: Sequence[str]) -> bytes:
    """Of the workload's key `public` (SubjectPublicKeyInfo), by the key of this boot. DER."""
    return _certificate(
        own,
        _NOBODY,
        public,
        _extension(15, _der(_BITS, b"\7\x80"), critical=True),  # to sign handshakes
        _extension(37, _sequence(_SERVER_AUTHENTICATION)),
        _names(names),
    )


def request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    """For a CA to certify `key` under `names`. DER."""
    wish = _der(0xA0, _sequence(_EXTENSION_REQUEST, _der(_SET, _sequence(_names(names)))))
    return _signed(key, _sequence(_der(_INTEGER, b"\0"), _NOBODY, spki(key.public_key()), wish))


def make(own: ec.EllipticCurvePrivateKey, names: Sequence[str], owner: int, place: Path = PLACE) -> tuple[bytes, bytes]:
    """Make all four for user `owner`: the instance certificate and the TLS key's, in DER. Raises `OSError`, also where the place exists."""
    key = ec.generate_private_key(ec.SECP384R1())
    instance, certificate = instance_certificate(own, names), tls_certificate(own, spki(key.public_key()), names)
    place.mkdir(mode=0o755, parents=True)
    _write(place / "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o400)
    os.chown(place / "key.pem", owner, owner)
    for name, label, data in (
        ("instance.pem", "CERTIFICATE", instance),
        ("certificate.pem", "CERTIFICATE", certificate),
        ("request.pem", "CERTIFICATE REQUEST", request(key, names)),
    ):
        _write(place / name, _pem(label, data), 0o444)
    return instance, certificate


def _pem(label: str, data: bytes) -> bytes:
    text = b64encode(data).decode("ascii")
    lines = (text[at : at + 64] for at in range(0, len(text), 64))
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
        stream.write(data)
