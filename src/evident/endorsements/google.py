"""Google's launch endorsements: who signs them, and checking that signature.

The signed bytes carry the certificate of the signing key; it is issued by ``GCE-cc-tcb-root_1``. Evident pins that root by
fingerprint: its bytes come with the endorsement (``ca_bundle``), from the caller, or as an anchor of purpose ``gce-tcb``.

Source: google/gce-tcb-verifier ``verify/verify.go`` and ``gcetcbendorsement/README.md`` (74582c07): RSASSA-PSS with SHA-256, salt as long
as the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from evident.endorsements import pem, x509
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.signatures import SignatureAlgorithm, check_signature
from evident.endorsements.x509 import Certificate
from evident.errors import Indeterminate, NotAuthentic
from evident.evidence.gce_endorsement import LaunchEndorsement, TdxGolden

WHAT = "endorsement"
PURPOSE = "gce-tcb"
TCB_ROOT_SHA256 = "e876bc6978bf4f3da445f98a0a82363c8c0bae5a1fc033c6df65846a6cb0f18c"
"""SHA-256 of the DER at `ROOT_URL`, as four verifiers in independent public repositories
pin it; compared on 2026-11-22. The certificate itself was not at hand to ship."""
ROOT_URL = "https://pki.goog/cloud_integrity/GCE-cc-tcb-root_1.crt"
OBJECT_LIMIT = 256 * 1024
_ALGORITHM = SignatureAlgorithm("rsa-pss", "sha256", 32)


@dataclass(frozen=True, slots=True)
class VerifiedEndorsement:
    """An endorsement whose signature and chain hold; made by `verify` alone."""

    endorsement: LaunchEndorsement
    signer: Certificate
    root: Certificate
    simulated: bool

    def vcpus_of(self, measurement: bytes) -> tuple[int, ...]:
        """The vCPU counts at which the endorsed firmware has this launch MEASUREMENT; empty when it is not endorsed."""
        snp = self.endorsement.snp
        return tuple(sorted(count for count, value in snp.measurements.items() if value == measurement)) if snp else ()

    def tdx_of(self, mrtd: bytes) -> tuple[TdxGolden, ...]:
        """The configurations at which the endorsed firmware has this MRTD; empty when it is not endorsed."""
        return tuple(golden for golden in self.endorsement.tdx if golden.mrtd == mrtd)


def verify(endorsement: LaunchEndorsement, given: Iterable[Certificate], anchors: AnchorSet, at: datetime) -> VerifiedEndorsement:
    """Signature, certificate and pinned root, at the time `at`. Raises `NotAuthentic` (``endorsement...``,
    ``x509...``), `Malformed`, and `Indeterminate` (``endorsement.root.missing``) when nobody gave the root."""
    signer = x509.parse(endorsement.certificate)
    roots = {anchor.fingerprint: anchor for anchor in anchors.for_purpose(PURPOSE)}
    bundle = x509.load_all(endorsement.ca_bundle) if pem.is_pem(endorsement.ca_bundle) else ()
    candidates = [*(anchor.certificate for anchor in roots.values()), *given, *bundle]
    named = [item for item in candidates if item.subject == signer.issuer]
    root = next((item for item in named if item.fingerprint == TCB_ROOT_SHA256 or item.fingerprint in roots), None)
    if root is None:
        raise (NotAuthentic if named else Indeterminate).of(
            f"{WHAT}.root" if named else f"{WHAT}.root.missing",
            expected=f"the pinned root GCE-cc-tcb-root_1 (SHA-256 {TCB_ROOT_SHA256})",
            found=f"{named[0].name}, SHA-256 {named[0].fingerprint}" if named else f"no certificate of {signer.issuer_cn or 'the issuer'}",
            remedy="Somebody else signed this endorsement: do not believe it."
            if named
            else f"Pass Google's root ({ROOT_URL}) as chain=PATH.",
            layer="firmware",
        )
    x509.verify_chain((signer, root), at)
    check_signature(signer.public_key, _ALGORITHM, endorsement.signature, endorsement.signed, WHAT)
    anchor = roots.get(root.fingerprint)
    return VerifiedEndorsement(endorsement, signer, root, anchor is not None and anchor.simulated)


def is_endorsed_firmware(verified: VerifiedEndorsement, firmware: bytes) -> bool:
    """Whether `firmware` is the binary that was endorsed."""
    return hashlib.sha384(firmware).digest() == verified.endorsement.firmware_digest
