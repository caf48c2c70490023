"""Who vouches for a TPM's key: certificates of AKs and EKs, and the paths from them to pinned roots.

Purposes of anchors: ``tpm:gce`` (Google's two hierarchies), ``tpm:azure`` (Azure's virtual TPM CA), and ``tpm`` for whatever root
the caller gives; each with ``:intermediate`` for issuers that ship with Evident because clouds do not send them along.

Source: TCG "EK Credential Profile" 2.6, section 3; Google's instance identity extension 1.3.6.1.4.1.11129.2.1.21 as
google/go-tpm-tools ``server/instance_info.go`` (67670e5c) describes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evident.endorsements import der, x509
from evident.endorsements.anchors import Anchor, AnchorSet
from evident.endorsements.x509 import Certificate
from evident.errors import NotAuthentic

GCE_PURPOSE = "tpm:gce"
PURPOSES: Mapping[str, str] = MappingProxyType({GCE_PURPOSE: "hypervisor", "tpm:azure": "unknown", "tpm": "unknown"})
"""Purpose of a root to where the TPMs live that it certifies; Azure's CA certifies vTPMs of paravisors and of hosts alike."""
UNDERSTOOD = ("2.5.29.17",)
"""Critical extensions that are not acted on: the subject alternative name, which holds the TPM's model."""
INSTANCE_OID = "1.3.6.1.4.1.11129.2.1.21"
SUBJECT_KEY_OID, AUTHORITY_KEY_OID = "2.5.29.14", "2.5.29.35"
CRL_DISTRIBUTION_POINTS_OID = "2.5.29.31"
MAX_PATH = 6


@dataclass(frozen=True, slots=True)
class KeyPath:
    """From a TPM key's certificate upwards."""

    chain: tuple[Certificate, ...]
    """The leaf first; the last is the root, pinned or not."""
    anchor: Anchor | None
    """The pinned root; None when the path ends elsewhere."""

    @property
    def leaf(self) -> Certificate:
        return self.chain[0]

    @property
    def location(self) -> str:
        return PURPOSES[self.anchor.purpose] if self.anchor else "unknown"


def find_path(leaf: Certificate, given: Iterable[Certificate], anchors: AnchorSet) -> KeyPath:
    """The path from `leaf` by issuer names and signatures, through given and shipped issuers.

    `NotAuthentic` when an issuer of the right name did not sign (``x509.signature``...). A path that ends without a pinned
    root is returned as far as it goes: whether that is enough is the caller's question. Validity is not judged here.
    """
    roots = [anchor for purpose in PURPOSES for anchor in anchors.for_purpose(purpose)]
    shipped = [anchor.certificate for purpose in PURPOSES for anchor in anchors.for_purpose(purpose + ":intermediate")]
    candidates = [*(anchor.certificate for anchor in roots), *given, *shipped]
    chain = [leaf]
    while len(chain) < MAX_PATH:
        top = chain[-1]
        anchor = next((anchor for anchor in roots if anchor.fingerprint == top.fingerprint), None)
        if anchor is not None or top.self_issued:
            return KeyPath(tuple(chain), anchor)
        issuer = _issuer(top, candidates)
        if issuer is None:
            break
        chain.append(issuer)
    return KeyPath(tuple(chain), None)


def _issuer(certificate: Certificate, candidates: Iterable[Certificate]) -> Certificate | None:
    failure: NotAuthentic | None = None
    named = _key_identifier(certificate, AUTHORITY_KEY_OID)
    for candidate in candidates:
        key = _key_identifier(candidate, SUBJECT_KEY_OID)
        if candidate.subject != certificate.issuer or (named and key and named != key):
            continue  # CAs use one name for several keys
        try:
            x509.verify_issued_by(certificate, candidate)
        except NotAuthentic as refused:
            failure = failure or refused
            continue
        return candidate
    if failure is not None:
        raise failure
    return None


def _key_identifier(certificate: Certificate, oid: str) -> bytes | None:
    """The key that a certificate is for, or that its issuer has, as far as it says (RFC 5280 sections 4.2.1.1 and 4.2.1.2)."""
    extension = certificate.extensions.get(oid)
    if extension is None:
        return None
    top = der.Der(extension.value, "x509.key-identifier")
    if oid == SUBJECT_KEY_OID:
        return top.content(der.OCTET_STRING, "key identifier")
    body = top.enter(der.SEQUENCE, "authority key identifier")
    tag = der.context(0, constructed=False)
    return body.content(tag, "key identifier") if body.at(tag) else None


def instance_identity(certificate: Certificate) -> dict[str, str]:
    """Google's words for the instance in an AK or EK certificate, empty without the extension. Raises `Malformed`."""
    extension = certificate.extensions.get(INSTANCE_OID)
    if extension is None:
        return {}
    top = der.Der(extension.value, "gce.instance")
    body = top.enter(der.SEQUENCE, "instance identity")
    top.end("instance identity")
    identity = {"zone": _text(body, "zone"), "project_number": str(body.unsigned("project number", (1 << 64) - 1))}
    identity |= {"project_id": _text(body, "project id"), "instance_id": str(body.unsigned("instance id", (1 << 64) - 1))}
    identity["instance_name"] = _text(body, "instance name")
    if body.more:  # security properties, which say nothing that the certificate does not
        body.any("security properties")
    body.end("instance identity")
    return identity


def _text(body: der.Der, field: str) -> str:
    try:
        return body.content(der.UTF8_STRING, field).decode("utf-8")
    except UnicodeDecodeError:
        raise body.fail("text", expected=f"UTF-8 text as {field}", found="other bytes") from None
