"""Reference values that come signed with the evidence: Google's launch endorsement, and what its firmware binary recomputes to."""

from __future__ import annotations

import hashlib
from typing import Any

from evident.endorsements import google
from evident.endorsements.google import VerifiedEndorsement
from evident.evidence.gce_endorsement import SnpGolden, TdxGolden
from evident.reference_values import snp_launch, tdx_mrtd, tdx_reference
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.reference_values.snp_launch import SnpLaunch
from evident.verification.gcp_tdx import GcpTdxEvidence
from evident.verification.verified import Verified

ENDORSER = "Google"
VMM = "gce"


def of(verified: Verified[Any]) -> tuple[ReferenceValue, ...]:
    """What verified evidence endorses of itself; nothing for evidence without endorsement. Raises as `snp_launch.predict`."""
    endorsement = getattr(verified.evidence, "endorsement", None)
    if not isinstance(endorsement, VerifiedEndorsement):
        return ()
    firmware = verified.evidence.firmware
    if isinstance(verified.evidence, GcpTdxEvidence):
        return tdx_values(endorsement, firmware)
    return snp_values(endorsement, firmware, measured=verified.evidence.report.measurement)


def snp_values(endorsed: VerifiedEndorsement, firmware: bytes | None, *, measured: bytes) -> tuple[ReferenceValue, ...]:
    """The endorsed launch measurements, ENDORSED by Google; with the endorsed binary, those of the vCPU counts that `measured` may
    have are RECOMPUTED here, and so rest on nobody's word but that of whoever gave the binary.
    """
    golden = endorsed.endorsement.snp
    if golden is None:
        return ()
    values = [_endorsed(endorsed, golden, vcpus, value) for vcpus, value in sorted(golden.measurements.items())]
    if firmware is not None and google.is_endorsed_firmware(endorsed, firmware):
        values += [_recomputed(endorsed, firmware, vcpus) for vcpus in endorsed.vcpus_of(measured)]
    return tuple(values)


def tdx_values(endorsed: VerifiedEndorsement, firmware: bytes | None) -> tuple[ReferenceValue, ...]:
    """The endorsed MRTDs, ENDORSED by Google; with the endorsed binary, the one without a memory size is RECOMPUTED here.

    Those that Google lists by memory size measured the memory map as well (an error of its VMM, in its own words); they stay its word.
    """
    values = [_endorsed_tdx(endorsed, golden) for golden in endorsed.endorsement.tdx]
    if values and firmware is not None and google.is_endorsed_firmware(endorsed, firmware):
        origin = "the firmware binary that Google endorsed"
        values.append(tdx_reference.mrtd_reference(firmware, tdx_mrtd.Order.GCE, origin=origin))
    return tuple(values)


def _endorsed_tdx(endorsed: VerifiedEndorsement, golden: TdxGolden) -> ReferenceValue:
    endorsement = endorsed.endorsement
    size = f", {golden.ram_gib} GiB" if golden.ram_gib else ""
    return ReferenceValue(
        layers=("firmware",),
        register="launch",
        value=golden.mrtd,
        strength=Strength.ENDORSED,
        endorser=ENDORSER,
        description=f"Google's virtual firmware, SVN {endorsement.tdx_svn}{size}{', all memory accepted' if golden.early_accept else ''}",
        provenance=_named_by_google(endorsed),
    )


def _named_by_google(endorsed: VerifiedEndorsement) -> Provenance:
    endorsement = endorsed.endorsement
    return Provenance(
        origin=f"launch endorsement signed by {endorsed.signer.name}",
        how=f"named by Google for firmware SHA-384 {endorsement.firmware_digest.hex()}",
        artifacts={"endorsement": hashlib.sha256(endorsement.raw).digest()},
        recorded_at=endorsement.timestamp,
    )


def _endorsed(endorsed: VerifiedEndorsement, golden: SnpGolden, vcpus: int, value: bytes) -> ReferenceValue:
    return ReferenceValue(
        layers=("firmware",),
        register="launch",
        value=value,
        strength=Strength.ENDORSED,
        endorser=ENDORSER,
        description=f"Google's virtual firmware, SVN {golden.svn}, {vcpus} vCPU{'s' if vcpus != 1 else ''}",
        provenance=_named_by_google(endorsed),
    )


def _recomputed(endorsed: VerifiedEndorsement, firmware: bytes, vcpus: int) -> ReferenceValue:
    return ReferenceValue(
        layers=("firmware",),
        register="launch",
        value=snp_launch.predict(SnpLaunch(firmware, vcpus=vcpus, vmm=VMM)),
        strength=Strength.RECOMPUTED,
        endorser="you",
        description=f"Google's virtual firmware, recomputed, {vcpus} vCPU{'s' if vcpus != 1 else ''}",
        provenance=Provenance(
            origin="the firmware binary that Google endorsed",
            how=f"SNP launch digest over it, {vcpus} vCPUs, as Google's VMM starts them",
            artifacts={
                "firmware": hashlib.sha256(firmware).digest(),
                "endorsement": hashlib.sha256(endorsed.endorsement.raw).digest(),
            },
        ),
    )
