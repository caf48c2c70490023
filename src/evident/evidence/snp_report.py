"""SEV-SNP attestation reports, versions 2 to 5, of Milan, Genoa (with Bergamo and Siena) and Turin.

Source: AMD publication 56860 "SEV Secure Nested Paging Firmware ABI Specification", revisions 1.55 to 1.58: tables
ATTESTATION_REPORT, TCB_VERSION (both layouts), guest policy and PLATFORM_INFO. All integers little endian. 1184 bytes; the
signature covers the first 0x2A0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader, exact_length

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
PLATFORM_BITS: Mapping[int, str] = MappingProxyType(
    {0: "smt", 1: "tsme", 2: "ecc", 3: "rapl_dis", 4: "ciphertext_hiding", 5: "alias_check_complete", 7: "tio"}
)


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
    reader = Reader(raw, WHAT)
    version = reader.u32("version")
    if version not in VERSIONS:
        raise Unsupported.of(
            WHAT + ".version",
            expected="report version 2, 3, 4 or 5",
            found=str(version),
            remedy="Check that this is an SEV-SNP report (SEV and SEV-ES have none); newer versions need a newer Evident.",
        )
    product = _product(raw, version)
    turin = product is TURIN
    guest_svn = reader.u32("guest_svn")
    policy = _policy(reader.u64("policy"))
    family_id, image_id = reader.take(16, "family_id"), reader.take(16, "image_id")
    vmpl = reader.u32("vmpl")
    if vmpl > 3 and vmpl != HOST_REQUESTED:
        raise Malformed.of(WHAT + ".vmpl", expected="0 to 3, or ffffffff", found=f"{vmpl:#x}", remedy="The report was altered.")
    signature_algo = reader.u32("signature_algo")
    current_tcb = Tcb.parse(reader.take(8, "current_tcb"), turin_layout=turin)
    platform_info = _known_bits(reader.u64("platform_info"), sum(1 << bit for bit in PLATFORM_BITS), "platform_info")
    author_key_en, mask_chip_key, signing_key = _key_information(reader.u32("key information"))
    reader.zeros(4, "0x4c")
    report_data, measurement = reader.take(64, "report_data"), reader.take(48, "measurement")
    host_data, id_key_digest = reader.take(32, "host_data"), reader.take(48, "id_key_digest")
    author_key_digest = reader.take(48, "author_key_digest")
    report_id, report_id_ma = reader.take(32, "report_id"), reader.take(32, "report_id_ma")
    reported_tcb = Tcb.parse(reader.take(8, "reported_tcb"), turin_layout=turin)
    cpuid = _cpuid(reader, version)
    reader.zeros(21, "0x18b")
    chip_id = reader.take(64, "chip_id")
    committed_tcb = Tcb.parse(reader.take(8, "committed_tcb"), turin_layout=turin)
    current_version, committed_version = _firmware_version(reader), _firmware_version(reader)
    launch_tcb = Tcb.parse(reader.take(8, "launch_tcb"), turin_layout=turin)
    launch_mit_vector, current_mit_vector = _mitigations(reader, version)
    reader.zeros(152, "0x208")
    signature_r, signature_s = _signature_component(reader, "R"), _signature_component(reader, "S")
    reader.zeros(368, "the rest of the signature")
    reader.end()
    return SnpReport(
        version,
        guest_svn,
        policy,
        family_id,
        image_id,
        vmpl,
        signature_algo,
        current_tcb,
        platform_info,
        author_key_en,
        mask_chip_key,
        signing_key,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        reported_tcb,
        cpuid,
        chip_id,
        committed_tcb,
        current_version,
        committed_version,
        launch_tcb,
        launch_mit_vector,
        current_mit_vector,
        signature_r,
        signature_s,
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


def _product(raw: bytes, version: int) -> Product | None:
    if version >= 3:
        family, model = raw[0x188], raw[0x189]
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
    chip_id = raw[0x1A0:0x1E0]
    return TURIN if chip_id[:8].strip(b"\0") and not chip_id[8:].strip(b"\0") else None


def _policy(policy: int) -> int:
    if not policy & POLICY_MUST_BE_ONE:
        raise Malformed.of(WHAT + ".reserved", expected="guest policy bit 17 set", found=f"{policy:#x}", remedy="The report was altered.")
    return _known_bits(policy, 0xFFFF | POLICY_MUST_BE_ONE | sum(1 << bit for bit in POLICY_BITS), "guest policy")


def _known_bits(value: int, known: int, field: str) -> int:
    if value & ~known:
        raise Malformed.of(
            WHAT + ".reserved",
            expected=f"no reserved bit set in {field}",
            found=f"{value:#x}",
            remedy="The format is newer than this version of Evident, or the evidence was altered.",
        )
    return value


def _key_information(value: int) -> tuple[bool, bool, SigningKey]:
    _known_bits(value, 0b11111, "key information")
    kind = value >> 2 & 0b111
    try:
        signing_key = SigningKey(kind)
    except ValueError:
        raise Malformed.of(
            WHAT + ".signing-key",
            expected="signing key 0 (VCEK), 1 (VLEK) or 7 (none)",
            found=str(kind),
            remedy="The report was altered.",
        ) from None
    return bool(value & 1), bool(value & 2), signing_key


def _cpuid(reader: Reader, version: int) -> Cpuid | None:
    if version < 3:
        reader.zeros(3, "0x188")
        return None
    return Cpuid(reader.u8("cpuid family"), reader.u8("cpuid model"), reader.u8("cpuid stepping"))


def _firmware_version(reader: Reader) -> FirmwareVersion:
    build, minor, major = reader.u8("build"), reader.u8("minor"), reader.u8("major")
    reader.zeros(1, "the byte after a firmware version")
    return FirmwareVersion(major, minor, build)


def _version_bytes(version: FirmwareVersion) -> bytes:
    return bytes((version.build, version.minor, version.major, 0))


def _mitigations(reader: Reader, version: int) -> tuple[int | None, int | None]:
    if version < 5:
        reader.zeros(16, "0x1f8")
        return None, None
    return reader.u64("launch_mit_vector"), reader.u64("current_mit_vector")


def _signature_component(reader: Reader, name: str) -> int:
    component = reader.take(COMPONENT_BYTES, f"signature {name}")
    if component[48:].strip(b"\0"):
        raise Malformed.of(
            WHAT + ".signature",
            expected=f"zero in the upper 24 bytes of {name}",
            found=component[48:].hex(),
            remedy="The report was altered.",
        )
    return int.from_bytes(component, "little")
