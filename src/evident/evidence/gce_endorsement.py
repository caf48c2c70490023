"""Google's launch endorsement of a Compute Engine virtual firmware: VMLaunchEndorsement, binary protobuf.

Source: google/gce-tcb-verifier ``proto/endorsement.proto`` (74582c07). Fields that the signed part may gain are kept out of
sight but do not stand in the way; the unsigned envelope has no room for any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from evident.evidence import protobuf
from evident.evidence.protobuf import Message, malformed

WHAT = "gce.endorsement"
MAX_BYTES = 256 * 1024
MEASUREMENT_BYTES = 48
MAX_CONFIGURATIONS = 1024


@dataclass(frozen=True, slots=True)
class SnpGolden:
    """VMSevSnp: what a report of such a machine must say."""

    svn: int
    measurements: Mapping[int, bytes]
    """vCPU count to launch MEASUREMENT."""
    family_id: bytes
    image_id: bytes
    policy: int
    ca_bundle: bytes
    svsm_measurement: bytes


@dataclass(frozen=True, slots=True)
class TdxGolden:
    """One VMTdx.Measurement."""

    ram_gib: int
    early_accept: bool
    mrtd: bytes


@dataclass(frozen=True, slots=True)
class LaunchEndorsement:
    """The endorsement: the exact signed bytes, the signature over them, and what they say."""

    signed: bytes
    signature: bytes
    timestamp: datetime | None
    changelist: int
    commit: bytes
    certificate: bytes
    """DER of the signing key's certificate."""
    firmware_digest: bytes
    """SHA-384 of the firmware binary."""
    ca_bundle: bytes
    """PEM, the root first. Only what leads to a pinned root counts."""
    snp: SnpGolden | None
    tdx_svn: int | None
    tdx: tuple[TdxGolden, ...]
    raw: bytes


def parse(raw: bytes) -> LaunchEndorsement:
    """Parse a ``.binarypb`` or ``.fd.signed`` object. Raises `Malformed`."""
    if len(raw) > MAX_BYTES:
        raise malformed(WHAT, f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    envelope = protobuf.parse(raw, WHAT).only(1, 2)
    signed, signature = envelope.one_bytes(1), envelope.one_bytes(2)
    if not signed or not signature:
        raise malformed(WHAT, "a golden measurement and its signature", f"{len(signed)} and {len(signature)} bytes")
    golden = protobuf.parse(signed, WHAT)
    digest = golden.one_bytes(5)
    if len(digest) != MEASUREMENT_BYTES:
        raise malformed(WHAT, "a SHA-384 firmware digest", f"{len(digest)} bytes")
    snp_raw, tdx_raw = golden.one_bytes(7), golden.one_bytes(8)
    tdx = protobuf.parse(tdx_raw, WHAT) if tdx_raw else None
    return LaunchEndorsement(
        signed,
        signature,
        _timestamp(golden.one_bytes(1)),
        golden.one_int(2),
        golden.one_bytes(3),
        golden.one_bytes(4),
        digest,
        golden.one_bytes(6),
        _snp(protobuf.parse(snp_raw, WHAT)) if snp_raw else None,
        tdx.one_int(1) if tdx else None,
        tuple(_tdx(item) for item in tdx.all_bytes(2)) if tdx else (),
        raw,
    )


def serialize(endorsement: LaunchEndorsement) -> bytes:
    """The wire form, built from the signed part and the signature (not from `raw`)."""
    return protobuf.encode(((1, endorsement.signed), (2, endorsement.signature)))


def _timestamp(raw: bytes) -> datetime | None:
    if not raw:
        return None
    seconds = protobuf.parse(raw, WHAT).only(1, 2).one_int(1)
    if seconds >= 1 << 34:
        raise malformed(WHAT, "a time of this era", str(seconds))
    return datetime.fromtimestamp(seconds, UTC)


def _snp(message: Message) -> SnpGolden:
    measurements: dict[int, bytes] = {}
    entries = message.all_bytes(2)
    if len(entries) > MAX_CONFIGURATIONS:
        raise malformed(WHAT, f"at most {MAX_CONFIGURATIONS} measurements", str(len(entries)))
    for entry in entries:
        pair = protobuf.parse(entry, WHAT).only(1, 2)
        vcpus, measurement = pair.one_int(1), pair.one_bytes(2)
        if vcpus in measurements:
            raise malformed(WHAT, "one measurement for each vCPU count", f"a second one for {vcpus}")
        measurements[vcpus] = _measurement(measurement, f"{vcpus} vCPUs")
    svsm = message.one_bytes(7)
    return SnpGolden(
        message.one_int(1),
        measurements,
        message.one_bytes(3),
        message.one_bytes(4),
        message.one_int(5),
        message.one_bytes(6),
        _measurement(svsm, "the SVSM") if svsm else b"",
    )


def _tdx(raw: bytes) -> TdxGolden:
    message = protobuf.parse(raw, WHAT)
    ram = message.one_int(1)
    return TdxGolden(ram, bool(message.one_int(2)), _measurement(message.one_bytes(3), f"{ram} GiB"))


def _measurement(value: bytes, which: str) -> bytes:
    if len(value) != MEASUREMENT_BYTES:
        raise malformed(WHAT, f"{MEASUREMENT_BYTES} bytes of measurement for {which}", f"{len(value)} bytes")
    return value
