"""Whose certificate a peer has shown: what an X.509-SVID has to be beyond a certificate that its chain makes valid.

Source: SPIFFE, "The X.509 SPIFFE Verifiable Identity Document", sections 2 (exactly one URI among the alternative names, which is a SPIFFE
ID; of a workload one with a path), 4.1 (a leaf is no authority), 4.3 (key usage critical; a leaf signs, and neither certifies nor
revokes), 5.2. Signatures, validity and extended key usage are OpenSSL's to check in the handshake, against the bundle of one trust
domain; that the ID is of this trust domain is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence

from evident.endorsements import x509
from evident.endorsements.der import SEQUENCE, Der, context
from evident.endorsements.x509 import Certificate
from evident.errors import NotAuthentic
from evident.identity import spiffe_id
from evident.identity.spiffe_id import SpiffeId

_ALTERNATIVE_NAMES = "2.5.29.17"
_KEY_USAGE = "2.5.29.15"
_URI = context(6, constructed=False)


def check(der: bytes, trust_domain: str) -> SpiffeId:
    """The ID of the leaf certificate `der`, whose chain ends at an authority of `trust_domain`.

    Raises `NotAuthentic` ``svid.authority``, ``svid.key-usage``, ``svid.uri``, ``svid.trust-domain``, ``svid.path``, and `Malformed`
    (``x509....``, ``spiffe.id``).
    """
    certificate = x509.parse(der)
    check_leaf(certificate)
    check_key_usage(certificate)
    uris = _uris(certificate)
    check_one(uris)
    name = spiffe_id.parse(uris[0].decode("ascii", "replace"))
    check_trust_domain(name, trust_domain)
    check_path(name)
    return name


def check_leaf(certificate: Certificate) -> None:
    if certificate.is_ca:
        raise _refused("svid.authority", "a workload's certificate", "one of an authority")


def check_key_usage(certificate: Certificate) -> None:
    usage, extension = certificate.key_usage or frozenset(), certificate.extensions.get(_KEY_USAGE)
    critical = extension is not None and extension.critical
    if not critical or "digital_signature" not in usage or usage & {"key_cert_sign", "crl_sign"}:
        found = (", ".join(sorted(usage)) or "none") + ("" if critical else ", not critical")
        raise _refused("svid.key-usage", "a critical key usage of signing, without certificates and lists", found)


def check_one(uris: Sequence[bytes]) -> None:
    if len(uris) != 1:
        raise _refused("svid.uri", "one URI among the alternative names", str(len(uris)))


def check_trust_domain(name: SpiffeId, trust_domain: str) -> None:
    if name.trust_domain != trust_domain:
        raise _refused("svid.trust-domain", f"an ID of {trust_domain}, whose authority signed", str(name))


def check_path(name: SpiffeId) -> None:
    if not name.path:
        raise _refused("svid.path", "the ID of a workload, with a path", str(name))


def _uris(certificate: Certificate) -> list[bytes]:
    extension = certificate.extensions.get(_ALTERNATIVE_NAMES)
    if extension is None:
        return []
    top = Der(extension.value, x509.WHAT)
    names = top.enter(SEQUENCE, "alternative names")
    top.end("alternative names")
    found = []
    while names.more:
        tag, value = names.any("an alternative name")
        if tag == _URI:
            found.append(value)
    return found


def _refused(code: str, expected: str, found: str) -> NotAuthentic:
    return NotAuthentic.of(
        code,
        expected=expected,
        found=found,
        remedy="Let SPIRE issue the SVID: no certificate but a workload's own X.509-SVID stands for it.",
        layer="identity",
    )
