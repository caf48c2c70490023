"""Azure's HCL report: a hardware report together with the paravisor's runtime claims that it binds. Little endian.

Source: Microsoft, "Azure confidential VM guest attestation design", HCL report format; microsoft/openvmm
``openhcl/openhcl_attestation_protocol/src/igvm_attest/get.rs``; the sizes as real reports of both header versions carry them.

    0x000  header, 32 bytes: "HCLA", version, report_size, request_type, status, 12 reserved bytes
    0x020  hardware report, 1184 bytes: an SNP report, or a TDREPORT of 1024 bytes and zeros
    0x4c0  runtime data, 20 bytes: data_size, version, report_type, hash_type, claims_size
    0x4d4  runtime claims (JSON), then zeros up to the size of the NV index

The report's REPORT_DATA begins with the hash of the claims' raw bytes. Nothing else here is signed: header and sizes are
believed only as far as the hash confirms them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evident import codec
from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader

WHAT = "azure.hcl"
MAGIC = b"HCLA"
HEADER_VERSIONS = (1, 2)
HARDWARE_REPORT_BYTES = 1184
TDREPORT_BYTES = 1024
CLAIMS_OFFSET = 0x4D4
MAX_BYTES = 8192
TYPE_SNP, TYPE_TDX = 2, 4
REPORT_TYPES = {1: "VBS", TYPE_SNP: "SNP", 3: "TVM", TYPE_TDX: "TDX", 5: "CCA"}
HASH_TYPES = {1: "sha256", 2: "sha384", 3: "sha512"}
USER_DATA_BYTES = 64
AK_KEY_ID = "HCLAkPub"


@dataclass(frozen=True, slots=True)
class RsaJwk:
    """One key of the claims: modulus and exponent, big endian."""

    kid: str
    key_ops: tuple[str, ...]
    n: bytes
    e: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """The runtime claims, parsed from the exact bytes that were hashed."""

    keys: Mapping[str, RsaJwk]
    vm_configuration: Mapping[str, Any]
    user_data: bytes | None
    """The 64 bytes that the guest wrote before the report was made; None on old paravisors, which know no such claim."""
    other: Mapping[str, Any]
    """Members that this version of Evident does not know, kept as they are."""


@dataclass(frozen=True, slots=True)
class HclReport:
    version: int
    report_size: int
    request_type: int
    status: int
    report_type: int
    hash_type: int
    runtime_version: int
    hardware_report: bytes
    """SNP: 1184 bytes; TDX: the TDREPORT's 1024 bytes."""
    claims_raw: bytes
    claims: Claims
    padding: int
    """Zero bytes behind the claims."""
    raw: bytes

    @property
    def claims_digest(self) -> bytes:
        """Hash of the raw claims under the report's own hash type."""
        return hashlib.new(HASH_TYPES[self.hash_type], self.claims_raw).digest()

    @property
    def expected_report_data(self) -> bytes:
        """What REPORT_DATA must be for the hardware to vouch for the claims: the digest, then zeros up to 64 bytes."""
        return self.claims_digest.ljust(64, b"\0")

    @property
    def technology(self) -> str:
        return REPORT_TYPES[self.report_type]


def parse(raw: bytes) -> HclReport:
    """Parse the contents of NV index 0x01400001. Raises `Malformed`, or `Unsupported` for another isolation technology."""
    if len(raw) > MAX_BYTES:
        raise _malformed("size", f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    reader = Reader(raw, WHAT)
    magic = reader.take(4, "signature")
    if magic != MAGIC:
        raise _malformed("magic", "'HCLA' at offset 0", magic.hex())
    version = reader.u32("header version")
    if version not in HEADER_VERSIONS:
        raise _unsupported("version", "header version 1 or 2", str(version))
    report_size, request_type, status = reader.u32("report_size"), reader.u32("request_type"), reader.u32("status")
    reader.zeros(12, "the header")
    hardware = reader.take(HARDWARE_REPORT_BYTES, "hardware report")
    data_size, runtime_version = reader.u32("data_size"), reader.u32("runtime data version")
    report_type, hash_type, claims_size = reader.u32("report_type"), reader.u32("hash_type"), reader.u32("claims_size")
    if report_type not in (TYPE_SNP, TYPE_TDX):
        raise _unsupported("report-type", "report type 2 (SNP) or 4 (TDX)", f"{report_type} ({REPORT_TYPES.get(report_type, 'unknown')})")
    if hash_type not in HASH_TYPES:
        raise _unsupported("hash-type", "hash type 1 (SHA-256), 2 (SHA-384) or 3 (SHA-512)", str(hash_type))
    if data_size != 20 + claims_size:
        raise _malformed("data-size", f"data_size {20 + claims_size} (20 + claims_size)", str(data_size))
    claims_raw = reader.take(claims_size, "runtime claims")
    padding = reader.remaining
    reader.zeros(padding, "the padding behind the claims")
    if report_type == TYPE_TDX:
        if hardware[TDREPORT_BYTES:].strip(b"\0"):
            raise _malformed("reserved", "zeros behind the TDREPORT", hardware[TDREPORT_BYTES:].hex()[:64])
        hardware = hardware[:TDREPORT_BYTES]
    return HclReport(
        version,
        report_size,
        request_type,
        status,
        report_type,
        hash_type,
        runtime_version,
        hardware,
        claims_raw,
        parse_claims(claims_raw),
        padding,
        raw,
    )


def of_parts(report_type: int, hardware_report: bytes, claims: bytes) -> HclReport:
    """A report whose parts travelled alone, without the unsigned header (`version` 0, no `raw`). Azure hashes claims with SHA-256.

    `hardware_report` is empty for TDX, where the TD quote stands for the TDREPORT. Raises `Malformed`.
    """
    if len(claims) > MAX_BYTES:
        raise _malformed("size", f"at most {MAX_BYTES} bytes", f"{len(claims)} bytes")
    if report_type == TYPE_SNP and len(hardware_report) != HARDWARE_REPORT_BYTES:
        raise _malformed("size", f"a hardware report of {HARDWARE_REPORT_BYTES} bytes", f"{len(hardware_report)} bytes")
    raw = claims.rstrip(b"\0")
    return HclReport(0, 0, 0, 0, report_type, 1, 0, hardware_report, raw, parse_claims(raw), 0, b"")


def serialize(report: HclReport) -> bytes:
    """The wire form, built from the fields (not from `raw`)."""
    header = (report.version, report.report_size, report.request_type, report.status, 0, 0, 0)
    size = len(report.claims_raw)
    runtime = (20 + size, report.runtime_version, report.report_type, report.hash_type, size)
    return b"".join(
        (
            MAGIC,
            *(value.to_bytes(4, "little") for value in header),
            report.hardware_report.ljust(HARDWARE_REPORT_BYTES, b"\0"),
            *(value.to_bytes(4, "little") for value in runtime),
            report.claims_raw,
            bytes(report.padding),
        )
    )


def parse_claims(raw: bytes) -> Claims:
    """The runtime claims from their exact bytes. Raises `Malformed`."""
    value = codec.loads(raw, WHAT + ".claims", limit=MAX_BYTES)
    if not isinstance(value, dict):
        raise _malformed("claims", "a JSON object", type(value).__name__)
    members = dict(value)
    keys = {}
    listed = members.pop("keys", [])
    if not isinstance(listed, list):
        raise _malformed("claims", "an array of keys", type(listed).__name__)
    for item in listed:
        key = _jwk(item)
        if key.kid in keys:
            raise _malformed("claims", "every key id once", f"{key.kid!r} twice")
        keys[key.kid] = key
    configuration = members.pop("vm-configuration", {})
    if not isinstance(configuration, dict):
        raise _malformed("claims", "an object as vm-configuration", type(configuration).__name__)
    return Claims(keys, configuration, _user_data(members.pop("user-data", None)), members)


def _jwk(item: Any) -> RsaJwk:
    if not isinstance(item, dict) or item.get("kty") != "RSA" or not isinstance(item.get("kid"), str):
        raise _malformed("claims", "RSA keys with a key id", repr(item)[:80])
    operations = item.get("key_ops", [])
    if not isinstance(operations, list) or not all(isinstance(operation, str) for operation in operations):
        raise _malformed("claims", "an array of words as key_ops", repr(operations)[:80])
    return RsaJwk(item["kid"], tuple(operations), _base64url(item.get("n")), _base64url(item.get("e")))


def _base64url(value: Any) -> bytes:
    try:
        if not isinstance(value, str) or not value or "=" in value:
            raise ValueError
        decoded = base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise _malformed("claims", "base64url without padding in a key", repr(value)[:80]) from None
    return decoded


def _user_data(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        if not isinstance(value, str) or len(value) != 2 * USER_DATA_BYTES or not value.isalnum():
            raise ValueError
        return bytes.fromhex(value)
    except ValueError:
        raise _malformed("claims", f"user-data of {USER_DATA_BYTES} bytes in hex", repr(value)[:80]) from None


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Read NV index 0x01400001 again; this is no HCL report, or it was cut."
    )


def _unsupported(problem: str, expected: str, found: str) -> Unsupported:
    return Unsupported.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Azure issues this for another kind of machine, or for a newer Evident."
    )
