"""A machine's TLS key, believed because a key that the machine's evidence binds has certified it (AT-50).

The guest makes a TLS key for its workload at every boot, and certifies it with the key of the boot, which its evidence binds
(`evident.guest.certificate`). Whoever shows that key in a handshake is the attested machine, whichever certificate it comes in: the
machine's own, or an ordinary CA's for the same key. A CA's certificate for another key says nothing of any machine.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evident.appraisal.accepted import check_accepted
from evident.appraisal.statement import TrustStatement
from evident.endorsements import x509
from evident.endorsements.x509 import Certificate
from evident.errors import Indeterminate, Malformed, NotAuthentic
from evident.evidence import binding
from evident.evidence.instance import common_name

SIZE_LIMIT: Final = 32 * 1024
"""Bytes of one certificate of a machine's: room for the hundred names that an image may have."""
_NAME_CONSTRAINTS: Final = "2.5.29.30"


@dataclass(frozen=True, slots=True)
class Certified:
    """What a machine has certified with the key of its boot."""

    instance: Certificate
    """An authority for the names that the machine serves, and for nothing else."""
    spki: bytes
    """The workload's TLS key, SubjectPublicKeyInfo in DER."""

    @property
    def pin(self) -> str:
        """The TLS key as RFC 7469 (section 2.4) writes it, and as curl takes it (``--pinnedpubkey``)."""
        return "sha256//" + base64.b64encode(hashlib.sha256(self.spki).digest()).decode("ascii")


def certified(certificates: Sequence[bytes], statement: TrustStatement, bound_key: bytes | None) -> Certified:
    """Read what came beside the evidence (`AttestReply.certificates`); nothing of it is evidence, so all of it is checked.

    `statement` is that on the evidence, `bound_key` `Facts.bound_key` of the same. Raises `PolicyRefused` or `Indeterminate` with the
    statement's findings, `Indeterminate` ``tls.no-certificate``, `NotAuthentic` ``tls.instance-key`` for certificates of a key that the
    evidence does not bind, ``tls.instance`` for an authority that reaches too far, ``x509....`` for signatures, and `Malformed`.
    """
    check_accepted(statement)
    if not certificates:
        raise Indeterminate.of(
            "tls.no-certificate",
            expected="a certificate of the workload's TLS key in the machine's answer",
            found="none",
            remedy="Build its image with tls_names; if it has them, somebody between you and the machine took the certificate out.",
            layer="identity",
        )
    if len(certificates) != 2 or any(len(each) > SIZE_LIMIT for each in certificates):
        raise Malformed.of(
            "tls.certificates",
            expected=f"two certificates of at most {SIZE_LIMIT} bytes",
            found=", ".join(f"{len(each)} bytes" for each in certificates[:3]) + (", ..." if len(certificates) > 3 else ""),
            remedy="The machine's agent does not answer as Evident's does.",
            layer="identity",
        )
    instance, own = map(x509.parse, certificates)
    check_bound(instance, bound_key)
    check_instance(instance)
    x509.verify_issued_by(instance, instance)
    x509.verify_issued_by(own, instance)
    return Certified(instance, own.spki)


def check_bound(instance: Certificate, bound_key: bytes | None) -> None:
    """The instance certificate is of the key that the evidence binds."""
    if bound_key is None or not hmac.compare_digest(bound_key, binding.key_digest(instance.spki)):
        raise NotAuthentic.of(
            "tls.instance-key",
            expected="an instance certificate of the key that the machine's evidence binds",
            found="one of another key" if bound_key else "evidence that binds no key",
            remedy="Somebody stands between you and the machine, or sends another boot's certificates: do not use it.",
            layer="identity",
        )


def check_instance(instance: Certificate) -> None:
    """It is an authority for certain names only, over no other authority, under the name of its key: fit to be trusted by others."""
    constraints = instance.extensions.get(_NAME_CONSTRAINTS)
    said = (
        *(() if instance.subject_cn == common_name(instance.spki) else (f"the name {instance.subject_cn!r}",)),
        *(() if instance.path_length == 0 else (f"path length {instance.path_length}",)),
        *(() if constraints is not None and constraints.critical else ("no name constraints",)),
    )
    if said:
        raise NotAuthentic.of(
            "tls.instance",
            expected=f"an authority {common_name(instance.spki)}, for certain names and over no other",
            found=", ".join(said),
            remedy="Rebuild the image with a current Evident; trust no such certificate.",
            layer="identity",
        )


def check_served(served: Certificate, spki: bytes) -> None:
    """The certificate that a live connection was made with is of the attested machine's TLS key, whoever signed it (AT-50)."""
    if not hmac.compare_digest(served.spki, spki):
        raise NotAuthentic.of(
            "tls.other-key",
            expected=f"a handshake with the TLS key that the attested machine certified (SHA-256 {hashlib.sha256(spki).hexdigest()})",
            found=f"one with another key ({hashlib.sha256(served.spki).hexdigest()}), in {served.name} by {served.issuer_cn}",
            remedy="Another machine answers there, whatever its certificate says: check where the name leads, and send nothing.",
            layer="identity",
        )
