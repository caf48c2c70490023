"""SEV-SNP attestation reports, versions 2 to 5, of Milan, Genoa (with Bergamo and Siena) and Turin.

Source: AMD publication 56860 "SEV Secure Nested Paging Firmware ABI Specification", revisions 1.55 to 1.58: tables
ATTESTATION_REPORT, TCB_VERSION (both layouts), guest policy and PLATFORM_INFO. All integers little endian. 1184 bytes; the
signature covers the first 0x2A0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from types import MappingProxyType

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import exact_length

WHAT = "snp.report"
REPORT_BYTES = 0x4A0
SIGNED_BYTES = 0x2A0
VERSIONS = (2, 3, 4, 5)
SIGNATURE_ALGORITHM_ECDSA_P384_SHA384 = 1
HOST_REQUESTED = 0xFFFFFFFF
COMPONENT_BYTES = 72  # R and S are 384-bit numbers in 576-bit fields

POLICY_BITS: Mapping[int, str] = MappingProxyType(
    {
        16: "smt",
        18: "migrate_ma",
        19: "debug",
        20: "single_socket",
        21: "cxl",
        22: "mem_aes_256_xts",
        23: "rapl_dis",
        24: "ciphertext_hiding",
        25: "page_swap_disable",
    }
)
POLICY_MUST_BE_ONE = 1 << 17
DEFAULT_POLICY = POLICY_MUST_BE_ONE | 1 << 16
"""What a guest is launched with that asks for nothing special: simultaneous multi-threading is allowed, and nothing else."""
PLATFORM_BITS: Mapping[int, str] = MappingProxyType(
    {0: "smt", 1: "tsme", 2: "ecc", 3: "rapl_dis", 4: "ciphertext_hiding", 5: "alias_check_complete", 7: "tio"}
)

# One table, in the order of the wire: ATTESTATION_REPORT, then R, S and the rest of the signature.
_LAYOUT = Struct("<IIQ16s16sII8sQI4s64s48s32s48s48s32s32s8s3s21s64s8s4s4s8sQQ152s72s72s368s")
_RESERVED = bytes(4 + 21 + 152 + 368)
_SIGNATURE_PADDING = bytes(COMPONENT_BYTES - 48)
_KNOWN_POLICY = 0xFFFF | POLICY_MUST_BE_ONE | sum(1 << bit for bit in POLICY_BITS)
_KNOWN_PLATFORM = sum(1 << bit for bit in PLATFORM_BITS)
_KNOWN_KEY_INFORMATION = 0b11111


class SigningKey(IntEnum):
    """Which key signed (key information bits 4:2)."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True, slots=True)
class Product:
    """A generation of EPYC with its own root and TCB layout."""

    name: str
    turin_layout: bool
    """TCB begins with FMC and the chip id has 8 bytes."""


MILAN = Product("Milan", turin_layout=False)
GENOA = Product("Genoa", turin_layout=False)
TURIN = Product("Turin", turin_layout=True)
PRODUCTS = (MILAN, GENOA, TURIN)


def product_from_cpuid(family: int, model: int) -> Product | None:
    """The product of a CPUID family and model (extended values combined), or None for an unknown part."""
    if family == 0x19 and model <= 0x0F:
        return MILAN
    if family == 0x19 and (0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF):
        return GENOA
    if family == 0x1A and model <= 0x11:
        return TURIN
    return None


@dataclass(frozen=True, slots=True)
class Tcb:
    """TCB_VERSION: security version numbers, 0-255 each. `fmc` is None on the Milan and Genoa layout."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    @classmethod
    def parse(cls, raw: bytes, *, turin_layout: bool) -> Tcb:
        """From 8 bytes; the product decides the layout (56860, TCB_VERSION)."""
        exact_length(raw, 8, WHAT + ".tcb")
        reserved = raw[4:7] if turin_layout else raw[2:6]
        if reserved.strip(b"\0"):
            raise Malformed.of(
                WHAT + ".reserved",
                expected="zero bytes in the reserved part of a TCB version",
                found=raw.hex(),
                remedy="The report belongs to another product, or was altered.",
            )
        if turin_layout:
            return cls(fmc=raw[0], bootloader=raw[1], tee=raw[2], snp=raw[3], microcode=raw[7])
        return cls(bootloader=raw[0], tee=raw[1], snp=raw[6], microcode=raw[7])

    def serialize(self) -> bytes:
        if self.fmc is None:
            return bytes((self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode))
        return bytes((self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode))

    def components(self) -> dict[str, int]:
        """Component to number, in the layout's order."""
        numbers = {"bootloader": self.bootloader, "tee": self.tee, "snp": self.snp, "microcode": self.microcode}
        return numbers if self.fmc is None else {"fmc": self.fmc, **numbers}


@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """Version of the SNP firmware."""

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True)
class Cpuid:
    """CPUID 1 family and model (extended values combined) and stepping of the chip; in reports of version 3 and later."""

    family: int
    model: int
    stepping: int


@dataclass(frozen=True, slots=True)
class SnpReport:
    """One attestation report. Byte strings keep their wire order; `signature_r` and `signature_s` are integers."""

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: Tcb
    platform_info: int
    author_key_en: bool
    mask_chip_key: bool
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: Tcb
    cpuid: Cpuid | None
    chip_id: bytes
    committed_tcb: Tcb
    current_version: FirmwareVersion
    committed_version: FirmwareVersion
    launch_tcb: Tcb
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: int
    signature_s: int
    product: Product | None
    """From CPUID, or on version 2 only what the chip id tells (Turin); None where the report does not say."""
    raw: bytes

    @property
    def signed(self) -> bytes:
        """The bytes under the signature: 0x000-0x29f."""
        return self.raw[:SIGNED_BYTES]

    @property
    def policy_flags(self) -> dict[str, bool]:
        """Guest policy bits by name."""
        return {name: bool(self.policy >> bit & 1) for bit, name in POLICY_BITS.items()}

    @property
    def platform_flags(self) -> dict[str, bool]:
        """PLATFORM_INFO bits by name."""
        return {name: bool(self.platform_info >> bit & 1) for bit, name in PLATFORM_BITS.items()}

    @property
    def policy_abi(self) -> tuple[int, int]:
        """Lowest ABI version (major, minor) that the guest owner asked for."""
        return self.policy >> 8 & 0xFF, self.policy & 0xFF


def parse(raw: bytes) -> SnpReport:
    """Parse one report of exactly 1184 bytes.

    Raises `Malformed` (length, reserved bits, signature padding) and `Unsupported` (a version or key kind that this
    version of Evident does not know).
    """
    exact_length(raw, REPORT_BYTES, WHAT)
    wire = _LAYOUT.unpack(raw)
    version, guest_svn, policy, family_id, image_id, vmpl, signature_algo, current_tcb, platform_info, key_information = wire[:10]
    zeros_4c, report_data, measurement, host_data, id_key_digest, author_key_digest, report_id, report_id_ma, reported_tcb = wire[10:19]
    cpuid, zeros_18b, chip_id, committed_tcb, current_version, committed_version, launch_tcb, launch_mit, current_mit = wire[19:28]
    zeros_208, signature_r, signature_s, zeros_330 = wire[28:]
    if version not in VERSIONS:
        raise Unsupported.of(
            WHAT + ".version",
            expected="report version 2, 3, 4 or 5",
            found=str(version),
            remedy="Check that this is an SEV-SNP report (SEV and SEV-ES have none); newer versions need a newer Evident.",
        )
    product = _product(version, cpuid, chip_id)
    if vmpl > 3 and vmpl != HOST_REQUESTED:
        raise Malformed.of(WHAT + ".vmpl", expected="0 to 3, or ffffffff", found=f"{vmpl:#x}", remedy="The report was altered.")
    _check_policy(policy)
    _known_bits(platform_info, _KNOWN_PLATFORM, "platform_info")
    _known_bits(key_information, _KNOWN_KEY_INFORMATION, "key information")
    if zeros_4c + zeros_18b + zeros_208 + zeros_330 != _RESERVED:
        _refuse_reserved({0x4C: zeros_4c, 0x18B: zeros_18b, 0x208: zeros_208, 0x330: zeros_330})
    if version < 3 and cpuid != b"\0\0\0":
        _refuse_reserved({0x188: cpuid})
    if version < 5 and (launch_mit or current_mit):
        _refuse_reserved({0x1F8: raw[0x1F8:0x208]})
    tcbs: dict[bytes, Tcb] = {}  # the four are often one and the same
    for tcb in (current_tcb, reported_tcb, committed_tcb, launch_tcb):
        if tcb not in tcbs:
            tcbs[tcb] = Tcb.parse(tcb, turin_layout=product is TURIN)
    current, committed = _firmware_version(current_version, 0x1E8), _firmware_version(committed_version, 0x1EC)
    return SnpReport(
        version,
        guest_svn,
        policy,
        family_id,
        image_id,
        vmpl,
        signature_algo,
        tcbs[current_tcb],
        platform_info,
        bool(key_information & 1),
        bool(key_information & 2),
        _signing_key(key_information >> 2),
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        tcbs[reported_tcb],
        Cpuid(*cpuid) if version >= 3 else None,
        chip_id,
        tcbs[committed_tcb],
        current,
        committed,
        tcbs[launch_tcb],
        launch_mit if version >= 5 else None,
        current_mit if version >= 5 else None,
        _signature_component(signature_r, "R"),
        _signature_component(signature_s, "S"),
        product,
        raw,
    )


def serialize(report: SnpReport) -> bytes:
    """The wire form of `report`, built from its fields (not from `raw`)."""
    key_information = int(report.author_key_en) | int(report.mask_chip_key) << 1 | report.signing_key << 2
    cpuid = bytes((report.cpuid.family, report.cpuid.model, report.cpuid.stepping)) if report.cpuid else bytes(3)
    parts = (
        report.version.to_bytes(4, "little"),
        report.guest_svn.to_bytes(4, "little"),
        report.policy.to_bytes(8, "little"),
        report.family_id,
        report.image_id,
        report.vmpl.to_bytes(4, "little"),
        report.signature_algo.to_bytes(4, "little"),
        report.current_tcb.serialize(),
        report.platform_info.to_bytes(8, "little"),
        key_information.to_bytes(4, "little"),
        bytes(4),
        report.report_data,
        report.measurement,
        report.host_data,
        report.id_key_digest,
        report.author_key_digest,
        report.report_id,
        report.report_id_ma,
        report.reported_tcb.serialize(),
        cpuid,
        bytes(21),
        report.chip_id,
        report.committed_tcb.serialize(),
        _version_bytes(report.current_version),
        _version_bytes(report.committed_version),
        report.launch_tcb.serialize(),
        (report.launch_mit_vector or 0).to_bytes(8, "little"),
        (report.current_mit_vector or 0).to_bytes(8, "little"),
        bytes(152),
        report.signature_r.to_bytes(COMPONENT_BYTES, "little"),
        report.signature_s.to_bytes(COMPONENT_BYTES, "little"),
        bytes(368),
    )
    wire = b"".join(parts)
    exact_length(wire, REPORT_BYTES, WHAT)
    return wire


def _product(version: int, cpuid: bytes, chip_id: bytes) -> Product | None:
    if version >= 3:
        family, model = cpuid[0], cpuid[1]
        product = product_from_cpuid(family, model)
        if product is None:
            raise Unsupported.of(
                WHAT + ".product",
                expected="CPUID family and model of Milan, Genoa, Bergamo, Siena or Turin",
                found=f"family {family:#x}, model {model:#x}",
                remedy="This processor needs a newer Evident.",
            )
        return product
    # A version 2 report does not name its product; only Turin's short chip id gives it away (56860, CHIP_ID).
    return TURIN if chip_id[:8].strip(b"\0") and not chip_id[8:].strip(b"\0") else None


def _check_policy(policy: int) -> None:
    if not policy & POLICY_MUST_BE_ONE:
        raise Malformed.of(WHAT + ".reserved", expected="guest policy bit 17 set", found=f"{policy:#x}", remedy="The report was altered.")
    _known_bits(policy, _KNOWN_POLICY, "guest policy")


def _known_bits(value: int, known: int, field: str) -> None:
    if value & ~known:
        raise Malformed.of(
            WHAT + ".reserved",
            expected=f"no reserved bit set in {field}",
            found=f"{value:#x}",
            remedy="The format is newer than this version of Evident, or the evidence was altered.",
        )


def _refuse_reserved(ranges: Mapping[int, bytes]) -> None:
    """Refuse ranges (by offset) of which at least one byte is not zero."""
    offset, content = next((offset, content) for offset, content in ranges.items() if content.strip(b"\0"))
    raise Malformed.of(
        WHAT + ".reserved",
        expected=f"zero bytes at {offset:#x}-{offset + len(content) - 1:#x}",
        found=content[:32].hex(),
        remedy="The format is newer than this version of Evident, or the evidence was altered.",
    )


def _signing_key(kind: int) -> SigningKey:
    try:
        return SigningKey(kind)
    except ValueError:
        raise Malformed.of(
            WHAT + ".signing-key",
            expected="signing key 0 (VCEK), 1 (VLEK) or 7 (none)",
            found=str(kind),
            remedy="The report was altered.",
        ) from None


def _firmware_version(raw: bytes, offset: int) -> FirmwareVersion:
    build, minor, major, reserved = raw
    if reserved:
        _refuse_reserved({offset + 3: raw[3:]})
    return FirmwareVersion(major, minor, build)


def _version_bytes(version: FirmwareVersion) -> bytes:
    return bytes((version.build, version.minor, version.major, 0))


def _signature_component(component: bytes, name: str) -> int:
    if component[48:] != _SIGNATURE_PADDING:
        raise Malformed.of(
            WHAT + ".signature",
            expected=f"zero in the upper 24 bytes of {name}",
            found=component[48:].hex(),
            remedy="The report was altered.",
        )
    return int.from_bytes(component, "little")
