"""The SEV-SNP launch digest, predicted: which pages a VMM gives the secure processor, in which order, and what they hash to.

Source: AMD publication 56860 (SNP firmware ABI), section 8.17 SNP_LAUNCH_UPDATE: the digest starts as 48 zero bytes and every
page replaces it by SHA-384 over PAGE_INFO (0x70 bytes: digest, page contents' digest, length, page type, IMI flag, VMPL permissions, guest
address). The order of pages is the VMM's: firmware (and SVSM) image, metadata sections, one save area per vCPU.

`SnpLaunch` describes a launch by bytes, `launch_pages` yields its pages, `predict` the digest; `LaunchTemplate` keeps what is
needed to predict it again for another kernel or vCPU count when the firmware binary is gone.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from evident import codec
from evident.errors import Malformed, Unsupported, UsageError
from evident.evidence import ovmf
from evident.evidence.ovmf import SectionKind
from evident.reference_values import vmsa
from evident.reference_values.kernel_hashes import PADDED_BYTES, KernelHashes

WHAT = "snp-launch"
PAGE = 4096
FOUR_GIB = 1 << 32
VMSA_GPA = 0xFFFFFFFFF000
"""The address under which a save area is measured: all ones, cut to 52 bits and to a page (56860, 8.17)."""
MAX_VCPUS = 4096
SNP_ACTIVE = 0x1
INITIAL_DIGEST = bytes(48)


class PageType(IntEnum):
    """PAGE_TYPE of SNP_LAUNCH_UPDATE."""

    NORMAL = 1
    VMSA = 2
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


HASHED = frozenset({PageType.NORMAL, PageType.VMSA})
"""Page types whose contents are measured; of the others only the place is."""


@dataclass(frozen=True, slots=True)
class Page:
    """One launch update. `contents` are 4096 bytes for NORMAL and VMSA pages and empty for the others."""

    type: PageType
    gpa: int
    contents: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class Svsm:
    """A COCONUT-SVSM image, placed below the firmware and its variable store (QEMU only)."""

    image: bytes
    variable_store_bytes: int


@dataclass(frozen=True, slots=True)
class SnpLaunch:
    """Everything that the launch digest depends on."""

    firmware: bytes
    """The firmware binary, mapped to end at 4 GiB."""
    vcpus: int = 1
    vcpu_signature: int = vmsa.VCPU_TYPES["EPYC-v4"]
    """CPUID 1 EAX; the EC2 and GCE register state does not depend on it."""
    guest_features: int = SNP_ACTIVE
    """SEV_FEATURES of every save area (0x21 with debug swap)."""
    vmm: str = vmsa.QEMU.name
    """A key of `vmsa.VMMS`."""
    hashes: KernelHashes | None = None
    svsm: Svsm | None = None


@dataclass(frozen=True, slots=True)
class LaunchTemplate:
    """A launch after its firmware pages: a few hundred bytes from which the digest is predicted without the binary."""

    firmware_digest: bytes
    """The launch digest after the firmware (and SVSM) pages, 48 bytes."""
    sections: tuple[ovmf.Section, ...]
    vmm: str
    vcpus: int
    vcpu_signature: int
    guest_features: int
    reset_eip: int | None
    """Where application processors start; None in an image that does not say (one vCPU only)."""
    hash_table_gpa: int | None
    hashes: KernelHashes | None = None
    svsm_entry: int | None = None
    """Address at which every vCPU of an SVSM guest starts."""

    def __post_init__(self) -> None:
        _check_template(self)

    @classmethod
    def of(cls, launch: SnpLaunch) -> LaunchTemplate:
        """Hash the images of `launch`. Raises `Malformed`, `Unsupported` or `UsageError` with what to do."""
        layout = _layout(launch)
        digest = INITIAL_DIGEST
        for gpa, image in layout.images:
            digest = _extend_image(digest, gpa, image)
        return layout.template(launch, digest)

    def section_pages(self) -> Iterator[Page]:
        """The pages of the metadata sections, in the VMM's order."""
        family = vmsa.VMMS[self.vmm].family
        late = []
        for section in self.sections:
            if section.kind == SectionKind.CPUID and family == "ec2":
                late.append(section)
            else:
                yield from self._pages_of(section, family)
        for section in late:
            yield from self._pages_of(section, family)

    def _pages_of(self, section: ovmf.Section, family: vmsa.VmmFamily) -> Iterator[Page]:
        if section.kind == SectionKind.KERNEL_HASHES and self.hashes is not None:
            yield Page(PageType.NORMAL, section.gpa, self.hashes.page((self.hash_table_gpa or 0) % PAGE))
            return
        page_type = _SECTION_PAGE_TYPE[SectionKind(section.kind)]
        if section.kind == SectionKind.SEC_MEMORY and family == "gce":
            page_type = PageType.UNMEASURED
        for offset in range(0, section.size, PAGE):
            yield Page(page_type, section.gpa + offset)

    def vcpu_pages(self) -> Iterator[Page]:
        """One save area per vCPU, the boot processor first."""
        first, others = self._save_areas()
        for index in range(self.vcpus):
            yield Page(PageType.VMSA, VMSA_GPA, first if index == 0 else others)

    def _save_areas(self) -> tuple[bytes, bytes]:
        if self.svsm_entry is not None:
            page = vmsa.svsm_vmsa_page(self.svsm_entry, self.vcpu_signature)
            return page, page
        vmm = vmsa.VMMS[self.vmm]
        first = vmsa.vmsa_page(vmm, vmsa.RESET_EIP, self.vcpu_signature, self.guest_features)
        if not self.reset_eip:
            return first, b""
        return first, vmsa.vmsa_page(vmm, self.reset_eip, self.vcpu_signature, self.guest_features)

    def digest(self) -> bytes:
        """The launch digest, 48 bytes: MEASUREMENT of the report."""
        *_, last = self.digests_by_vcpus(self.vcpus)
        return last

    def digests_by_vcpus(self, up_to: int) -> Iterator[bytes]:
        """The digests of this launch with 1, 2, ... `up_to` vCPUs."""
        digest = self.firmware_digest
        for page in self.section_pages():
            digest = extend(digest, page)
        first, others = (hashlib.sha384(page).digest() for page in self._save_areas())
        for index in range(up_to):
            digest = _chain(digest, first if index == 0 else others, PageType.VMSA, VMSA_GPA)
            yield digest

    def with_hashes(self, hashes: KernelHashes | None) -> LaunchTemplate:
        return replace(self, hashes=hashes)

    def with_vcpus(self, vcpus: int) -> LaunchTemplate:
        return replace(self, vcpus=vcpus)

    def serialize(self) -> bytes:
        """For `ReferenceValue.template`; `parse` is its inverse."""
        return json.dumps(codec.encode(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> LaunchTemplate:
        """Raises `Malformed` (not a template, or of a launch that cannot be) or `Unsupported`."""
        try:
            return codec.decode(cls, codec.loads(data, WHAT + ".template"), WHAT + ".template")
        except UsageError as error:  # here the contradiction is in the bytes, not in a call
            raise Malformed(*error.findings) from None


_SECTION_PAGE_TYPE = {
    SectionKind.SEC_MEMORY: PageType.ZERO,
    SectionKind.SECRETS: PageType.SECRETS,
    SectionKind.CPUID: PageType.CPUID,
    SectionKind.SVSM_CALLING_AREA: PageType.ZERO,
    SectionKind.KERNEL_HASHES: PageType.ZERO,  # the page as it is when the VMM has no table to put there
}


def launch_pages(launch: SnpLaunch) -> Iterator[Page]:
    """Every page of `launch` in the exact order in which the VMM gives it to the secure processor.

    Raises `Malformed` (not a firmware image), `Unsupported` (no SEV-SNP metadata, unknown section or VMM) or `UsageError` (inputs that
    contradict each other, such as a kernel for a firmware that does not check it).
    """
    layout = _layout(launch)
    template = layout.template(launch, INITIAL_DIGEST)  # of a template that yields pages the digest is not used
    for gpa, image in layout.images:
        view = memoryview(image)
        for offset in range(0, len(image), PAGE):
            yield Page(PageType.NORMAL, gpa + offset, view[offset : offset + PAGE])
    yield from template.section_pages()
    yield from template.vcpu_pages()


def predict(launch: SnpLaunch) -> bytes:
    """The launch digest of `launch`, 48 bytes. Errors as `launch_pages`."""
    return LaunchTemplate.of(launch).digest()


def extend(digest: bytes, page: Page) -> bytes:
    """The launch digest after `page`."""
    contents = hashlib.sha384(page.contents).digest() if page.type in HASHED else INITIAL_DIGEST
    return _chain(digest, contents, page.type, page.gpa)


# PAGE_INFO after the two digests: length, page type, is_imi, permissions of VMPL3..1, reserved, guest address
_PAGE_INFO_TAIL = struct.Struct("<HB5xQ")


def _chain(digest: bytes, contents: bytes, page_type: PageType, gpa: int) -> bytes:
    return hashlib.sha384(digest + contents + _PAGE_INFO_TAIL.pack(0x70, page_type, gpa)).digest()


def _extend_image(digest: bytes, gpa: int, image: bytes) -> bytes:
    """`extend` over all pages of an image, without an object per page: this loop is nearly all of the time."""
    sha384, tail, view, normal = hashlib.sha384, _PAGE_INFO_TAIL.pack, memoryview(image), int(PageType.NORMAL)
    for offset in range(0, len(image), PAGE):
        contents = sha384(view[offset : offset + PAGE]).digest()
        digest = sha384(digest + contents + tail(0x70, normal, gpa + offset)).digest()
    return digest


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which image is mapped where, and the image whose metadata counts."""

    images: tuple[tuple[int, bytes], ...]
    governing: ovmf.Firmware
    svsm_entry: int | None

    def template(self, launch: SnpLaunch, digest: bytes) -> LaunchTemplate:
        return LaunchTemplate(
            firmware_digest=digest,
            sections=self.governing.sections,
            vmm=launch.vmm,
            vcpus=launch.vcpus,
            vcpu_signature=launch.vcpu_signature,
            guest_features=launch.guest_features,
            reset_eip=self.governing.reset_eip,
            hash_table_gpa=self.governing.hash_table_gpa,
            hashes=launch.hashes,
            svsm_entry=self.svsm_entry,
        )


def _layout(launch: SnpLaunch) -> _Layout:
    firmware = ovmf.parse(launch.firmware)
    base = FOUR_GIB - len(launch.firmware)
    if launch.svsm is None:
        return _Layout(((base, launch.firmware),), firmware, None)
    svsm = ovmf.parse(launch.svsm.image)
    end = base - launch.svsm.variable_store_bytes
    if launch.svsm.variable_store_bytes < 0 or launch.svsm.variable_store_bytes % PAGE or end < len(launch.svsm.image):
        raise UsageError.of(
            WHAT + ".variable-store",
            expected="a variable store of whole pages that leaves room below it for the SVSM image",
            found=f"{launch.svsm.variable_store_bytes} bytes",
            remedy="Give the size in bytes of the OVMF_VARS file that the guest is launched with.",
        )
    if svsm.svsm_entry is None:
        raise Unsupported.of(
            WHAT + ".svsm",
            expected="an SVSM image with an SVSM info entry in its table",
            found="none",
            remedy="Pass the SVSM image in flat form (svsm.bin); IGVM files are not supported.",
        )
    start = end - len(launch.svsm.image)
    return _Layout(((base, launch.firmware), (start, launch.svsm.image)), svsm, start + svsm.svsm_entry)


def _check_template(template: LaunchTemplate) -> None:
    """Refuse what no VMM would launch, or what would be predicted wrongly in silence."""
    if template.vmm not in vmsa.VMMS:
        raise Unsupported.of(
            WHAT + ".vmm", expected="one of " + ", ".join(vmsa.VMMS), found=template.vmm, remedy="Choose a VMM from the list."
        )
    if len(template.firmware_digest) != 48:
        raise Malformed.of(
            WHAT + ".firmware-digest",
            expected="48 bytes, the launch digest after the firmware pages",
            found=f"{len(template.firmware_digest)} bytes",
            remedy="Measure the firmware again.",
        )
    if not template.sections:
        raise Unsupported.of(
            WHAT + ".metadata",
            expected="a firmware with SEV metadata",
            found="none",
            remedy="Use an OVMF build with SEV-SNP support (OvmfX64 or AmdSev of edk2-stable202202 or later).",
        )
    ovmf.check_sections(template.sections)
    for section in template.sections:
        if section.kind not in set(SectionKind):
            raise Unsupported.of(
                WHAT + ".section",
                expected="metadata sections of kind 1, 2, 3, 4 or 16",
                found=f"kind {section.kind} at {section.gpa:#x}",
                remedy="The firmware is newer than this version of Evident.",
            )
    _check_vcpus(template)
    _check_hashes(template)


def _check_vcpus(template: LaunchTemplate) -> None:
    if not 1 <= template.vcpus <= MAX_VCPUS:
        raise UsageError.of(
            WHAT + ".vcpus", expected=f"1 to {MAX_VCPUS} vCPUs", found=str(template.vcpus), remedy="Correct the vCPU count."
        )
    if template.vcpus > 1 and not template.reset_eip and template.svsm_entry is None:
        raise Unsupported.of(
            WHAT + ".reset-block",
            expected="an SEV-ES reset block in the firmware, which says where further vCPUs start",
            found="none",
            remedy="Use a firmware with SEV-ES support, or launch with one vCPU.",
        )
    for name, value, bits in (
        ("vcpu-signature", template.vcpu_signature, 32),
        ("guest-features", template.guest_features, 64),
        ("reset-eip", template.reset_eip or 0, 32),
        ("svsm-entry", template.svsm_entry or 0, 32),
        ("hash-table", template.hash_table_gpa or 0, 32),
    ):
        if value >> bits:  # also true of every negative number
            raise UsageError.of(f"{WHAT}.{name}", expected=f"an unsigned number of {bits} bits", found=f"{value:#x}", remedy="Correct it.")
    if template.svsm_entry is not None and template.vmm != vmsa.QEMU.name:
        raise Unsupported.of(WHAT + ".svsm", expected="an SVSM guest under QEMU", found=template.vmm, remedy="Predict without SVSM.")


def _check_hashes(template: LaunchTemplate) -> None:
    if template.hashes is None:
        return
    if template.svsm_entry is not None:
        raise Unsupported.of(
            WHAT + ".kernel-hashes",
            expected="an SVSM guest without kernel hashes",
            found="a kernel",
            remedy="Direct kernel boot is not measured under this SVSM; boot a UKI and appraise its vTPM.",
        )
    if template.hash_table_gpa is None or not any(section.kind == SectionKind.KERNEL_HASHES for section in template.sections):
        raise UsageError.of(
            WHAT + ".kernel-hashes",
            expected="a firmware with a page for kernel hashes",
            found="a kernel, and a firmware that would start any kernel the host gives it",
            remedy="Use OVMF's AmdSev build, or predict without the kernel and appraise the boot chain by other means.",
        )
    if template.hash_table_gpa % PAGE + PADDED_BYTES > PAGE:
        raise Malformed.of(
            WHAT + ".hash-table",
            expected="a hash table that fits into its page",
            found=f"address {template.hash_table_gpa:#x}",
            remedy="Check the firmware binary.",
        )
