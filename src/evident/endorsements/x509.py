"""X.509 certificates, read strictly and without `cryptography.x509`.

Every VCEK and VLEK has serial number 0, which RFC 5280 forbids and which `cryptography` has announced it will refuse; so
this module reads the DER itself and leaves only keys and signatures to `cryptography`. It serves every vendor's
certificates (AMD, Intel PCK, TPM, Nitro, Google).

Source: RFC 5280 sections 4.1 and 4.2.1 (basic constraints, key usage), section 6.1 for `verify_chain`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from types import MappingProxyType

from evident.endorsements import der, pem
from evident.endorsements.signatures import PublicKey, SignatureAlgorithm, check_signature, load_public_key, parse_algorithm
from evident.errors import Malformed, NotAuthentic, Unsupported

WHAT = "x509"
MAX_BYTES = 64 * 1024
MAX_EXTENSIONS = 64
MAX_NAME_ATTRIBUTES = 64
SERIAL_LIMIT = (1 << 8 * 32) - 1  # RFC 5280 asks for at most 20 bytes; some TPM vendors use more

_COMMON_NAME = "2.5.4.3"
_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_UNDERSTOOD = frozenset({_BASIC_CONSTRAINTS, _KEY_USAGE})
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_TEXT_CODECS: Mapping[int, str] = MappingProxyType(
    {
        der.UTF8_STRING: "utf-8",
        der.PRINTABLE_STRING: "ascii",
        der.IA5_STRING: "ascii",
        der.T61_STRING: "latin-1",
        der.BMP_STRING: "utf-16-be",
    }
)


@dataclass(frozen=True, slots=True)
class Extension:
    critical: bool
    value: bytes
    """Content of the extnValue OCTET STRING."""


@dataclass(frozen=True, repr=False)
class Certificate:
    """One certificate, unverified. Byte strings are DER as found; times are UTC."""

    der: bytes
    tbs: bytes
    """The signed part."""
    serial: int
    issuer: bytes
    """Name, DER."""
    subject: bytes
    issuer_cn: str | None
    subject_cn: str | None
    not_before: datetime
    not_after: datetime
    spki: bytes
    """SubjectPublicKeyInfo, DER."""
    extensions: Mapping[str, Extension]
    """By dotted object identifier."""
    is_ca: bool
    path_length: int | None
    key_usage: frozenset[str] | None
    """Names of RFC 5280 section 4.2.1.3 in snake case; None without the extension."""
    algorithm_identifier: bytes
    signature: bytes

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<certificate of {self.name}, serial {self.serial:#x}>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, hex."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def public_key(self) -> PublicKey:
        """Raises `Unsupported` or `Malformed`."""
        return load_public_key(self.spki, WHAT)

    @cached_property
    def signature_algorithm(self) -> SignatureAlgorithm:
        """What signed this certificate; raises `Unsupported` or `Malformed`."""
        return parse_algorithm(self.algorithm_identifier, WHAT)

    @property
    def name(self) -> str:
        """For people: the subject's common name, else the fingerprint."""
        return self.subject_cn or f"certificate {self.fingerprint[:16]}"

    @property
    def self_issued(self) -> bool:
        return self.issuer == self.subject


def load(data: bytes) -> Certificate:
    """Exactly one certificate, PEM or DER."""
    certificates = load_all(data)
    if len(certificates) != 1:
        raise Malformed.of(
            f"{WHAT}.count",
            expected="one certificate",
            found=str(len(certificates)),
            remedy="Pass this certificate alone, without its chain.",
        )
    return certificates[0]


def load_all(data: bytes) -> tuple[Certificate, ...]:
    """One DER certificate, or every certificate of a PEM text in its order."""
    return tuple(parse(block) for block in pem.decode(data, ("CERTIFICATE",), WHAT))


def parse(data: bytes) -> Certificate:
    """One certificate from exactly its DER; raises only `Malformed`."""
    if len(data) > MAX_BYTES:
        raise Malformed.of(
            f"{WHAT}.oversized", expected=f"at most {MAX_BYTES} bytes", found=f"{len(data)} bytes", remedy="Pass a certificate."
        )
    top = der.Der(data, WHAT)
    certificate = top.enter(der.SEQUENCE, "certificate")
    top.end("the certificate")
    tbs = certificate.raw(der.SEQUENCE, "the signed part")
    algorithm_identifier = certificate.raw(der.SEQUENCE, "signature algorithm")
    signature = certificate.whole_bytes("signature")
    certificate.end("the signature")

    body = der.Der(tbs, WHAT).enter(der.SEQUENCE, "the signed part")
    wrapper = body.enter(der.context(0), "version")
    if (version := wrapper.integer("version")) != 2:
        raise wrapper.fail("version", expected="version 3 (2)", found=str(version))
    wrapper.end("version")
    serial = body.unsigned("serial number", SERIAL_LIMIT)
    if body.raw(der.SEQUENCE, "inner signature algorithm") != algorithm_identifier:
        raise body.fail("algorithm-mismatch", expected="the same algorithm inside and outside the signed part", found="two")
    issuer = body.raw(der.SEQUENCE, "issuer")
    validity = body.enter(der.SEQUENCE, "validity")
    not_before, not_after = validity.time("notBefore"), validity.time("notAfter")
    validity.end("validity")
    subject = body.raw(der.SEQUENCE, "subject")
    spki = body.raw(der.SEQUENCE, "subject public key")
    extensions: Mapping[str, Extension] = MappingProxyType({})
    if body.at(der.context(3)):
        extensions = read_extensions(body.enter(der.context(3), "extensions"))
    body.end("the extensions")  # unique identifiers ([1], [2]) are of version 2 and not used by anybody
    is_ca, path_length = _basic_constraints(extensions.get(_BASIC_CONSTRAINTS))
    return Certificate(
        data,
        tbs,
        serial,
        issuer,
        subject,
        common_name(issuer, WHAT),
        common_name(subject, WHAT),
        not_before,
        not_after,
        spki,
        extensions,
        is_ca,
        path_length,
        _key_usage(extensions.get(_KEY_USAGE)),
        algorithm_identifier,
        signature,
    )


def read_extensions(wrapper: der.Der) -> Mapping[str, Extension]:
    """The Extensions inside an explicit tag, which `wrapper` is the content of (also of CRLs and of their entries)."""
    sequence = wrapper.enter(der.SEQUENCE, "extensions")
    wrapper.end("extensions")
    return read_extension_list(sequence)


def read_extension_list(sequence: der.Der) -> Mapping[str, Extension]:
    """The Extension elements that `sequence` holds, each identifier once."""
    extensions: dict[str, Extension] = {}
    while sequence.more:
        item = sequence.enter(der.SEQUENCE, "extension")
        oid = item.oid("extension identifier")
        critical = False
        if item.at(der.BOOLEAN):
            critical = item.boolean("critical")  # an explicit FALSE is not DER, and seen in the field
        value = item.content(der.OCTET_STRING, f"extension {oid}")
        item.end(f"extension {oid}")
        if oid in extensions:
            raise sequence.fail("extension", expected=f"extension {oid} once", found="twice")
        extensions[oid] = Extension(critical, value)
        if len(extensions) > MAX_EXTENSIONS:
            raise sequence.fail("extension", expected=f"at most {MAX_EXTENSIONS} extensions", found="more")
    return MappingProxyType(extensions)


@lru_cache(maxsize=64)  # a pure function; vendors' authorities have the same few names in every chain
def common_name(name: bytes, what: str) -> str | None:
    """The common name in a Name (DER), None where it has none; a second one is `Malformed`."""
    rdns = der.Der(name, what).enter(der.SEQUENCE, "name")
    found: str | None = None
    count = 0
    while rdns.more:
        attributes = rdns.enter(der.SET, "relative name")
        while attributes.more:
            count += 1
            if count > MAX_NAME_ATTRIBUTES:
                raise rdns.fail("name", expected=f"at most {MAX_NAME_ATTRIBUTES} attributes in a name", found="more")
            attribute = attributes.enter(der.SEQUENCE, "name attribute")
            oid = attribute.oid("name attribute")
            tag, value = attribute.any("name attribute")
            attribute.end("name attribute")
            if oid != _COMMON_NAME:
                continue
            if found is not None:
                raise rdns.fail("name", expected="one common name", found="two")
            found = _text(rdns, tag, value)
    return found


def _text(cursor: der.Der, tag: int, value: bytes) -> str:
    if tag not in _TEXT_CODECS:
        raise cursor.fail("name", expected="text in a common name", found=f"tag {tag:#04x}")
    try:
        text = value.decode(_TEXT_CODECS[tag])
    except UnicodeDecodeError:
        raise cursor.fail("name", expected="text in a common name", found=value[:32].hex()) from None
    if not text.isprintable():
        raise cursor.fail("name", expected="printable text in a common name", found=repr(text[:32]))
    return text


def _basic_constraints(extension: Extension | None) -> tuple[bool, int | None]:
    if extension is None:
        return False, None
    top = der.Der(extension.value, WHAT)
    sequence = top.enter(der.SEQUENCE, "basic constraints")
    top.end("basic constraints")
    is_ca = sequence.boolean("cA") if sequence.at(der.BOOLEAN) else False
    path_length = sequence.unsigned("path length", 255) if sequence.more else None
    sequence.end("basic constraints")
    return is_ca, path_length


def _key_usage(extension: Extension | None) -> frozenset[str] | None:
    if extension is None:
        return None
    top = der.Der(extension.value, WHAT)
    content, _ = top.bits("key usage")
    top.end("key usage")
    if len(content) > 2:
        raise top.fail("key-usage", expected="at most 9 bits of key usage", found=content.hex())
    return frozenset(name for at, name in enumerate(_KEY_USAGES) if at // 8 < len(content) and content[at // 8] >> (7 - at % 8) & 1)


def _refuse(problem: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=remedy, layer="root_of_trust")


_WRONG_ISSUER = "Pass the chain that belongs to this certificate."


def verify_issued_by(certificate: Certificate, issuer: Certificate) -> None:
    """Check that `issuer` is a CA that signed `certificate`.

    `NotAuthentic`: ``x509.issuer-name``, ``x509.issuer-not-ca``, ``x509.issuer-key-usage``, ``x509.signature``. Validity, path
    length and revocation are for the caller (`verify_chain`, `check_validity`, `evident.endorsements.crl`).
    """
    if certificate.issuer != issuer.subject:
        raise _refuse("issuer-name", f"{certificate.issuer_cn} as issuer of {certificate.name}", issuer.name, _WRONG_ISSUER)
    if not issuer.is_ca:
        raise _refuse("issuer-not-ca", f"a certificate authority as issuer of {certificate.name}", f"{issuer.name} is none", _WRONG_ISSUER)
    if issuer.key_usage is not None and "key_cert_sign" not in issuer.key_usage:
        raise _refuse(
            "issuer-key-usage", "a key that may sign certificates", ", ".join(sorted(issuer.key_usage)) or "no use", _WRONG_ISSUER
        )
    check_signature(issuer.public_key, certificate.signature_algorithm, certificate.signature, certificate.tbs, WHAT)


def check_validity(certificate: Certificate, at: datetime) -> None:
    """`NotAuthentic` ``x509.not-yet-valid`` or ``x509.expired`` unless `at` (aware) lies within the validity, ends included."""
    if at < certificate.not_before:
        raise _refuse(
            "not-yet-valid",
            f"{certificate.name} valid at {at:%Y-%m-%dT%H:%M:%SZ}",
            f"valid from {certificate.not_before:%Y-%m-%dT%H:%M:%SZ}",
            "Check the clock or the time given with --at.",
        )
    if at > certificate.not_after:
        raise _refuse(
            "expired",
            f"{certificate.name} valid at {at:%Y-%m-%dT%H:%M:%SZ}",
            f"valid until {certificate.not_after:%Y-%m-%dT%H:%M:%SZ}",
            "Collect the evidence again with a current certificate, or give the time of the evidence with --at.",
        )


def check_critical(certificate: Certificate, known: frozenset[str] = _UNDERSTOOD) -> None:
    """`Unsupported` ``x509.critical-extension`` for a critical extension that is not in `known` (RFC 5280 section 4.2)."""
    unknown = [oid for oid, extension in certificate.extensions.items() if extension.critical and oid not in known]
    if unknown:
        raise Unsupported.of(
            f"{WHAT}.critical-extension",
            expected=f"no unknown critical extension in {certificate.name}",
            found=", ".join(unknown),
            remedy="This certificate needs a newer Evident.",
        )


def verify_chain(chain: Sequence[Certificate], at: datetime, *, understood: Iterable[str] = ()) -> None:
    """Check a chain, leaf first and trusted anchor last, at the time `at`: every certificate is issued by the next, and `check_path`.

    The anchor's own signature is not checked: it is trusted because it is pinned, which the caller has established.
    """
    for certificate, issuer in itertools.pairwise(chain):
        verify_issued_by(certificate, issuer)
    check_path(chain, at, understood=understood)


def check_path(chain: Sequence[Certificate], at: datetime, *, understood: Iterable[str] = ()) -> None:
    """Everything of a chain but its signatures, for a caller who has verified those: validity at `at`, path lengths, and no critical
    extension beyond basic constraints, key usage and those in `understood`."""
    if not chain:
        raise ValueError("a chain has at least one certificate")
    known = _UNDERSTOOD | frozenset(understood)
    for position, certificate in enumerate(chain):
        check_validity(certificate, at)
        check_critical(certificate, known)
        below = sum(1 for lower in chain[1:position] if not lower.self_issued)
        if position and certificate.path_length is not None and below > certificate.path_length:
            raise _refuse(
                "path-length",
                f"at most {certificate.path_length} authorities below {certificate.name}",
                str(below),
                "This chain is not legitimate.",
            )
