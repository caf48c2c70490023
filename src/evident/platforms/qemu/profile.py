"""Your own host with QEMU: direct boot, an SVSM, TDX; and the research designs that run there."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Literal

from evident.appraisal.profile import Fact, LayerProfile, Profile, VtpmProfile, own_image_layers

PONTES = "Pontes et al., Interoperable node integrity verification for confidential machines based on AMD SEV-SNP, table 1 and section 4"
POSTER = "Sereno et al., poster: Secure Lifecycle Management of Confidential Virtual Machines in Public Clouds, table"
QEMU = "QEMU documentation, system/i386/amd-memory-encryption; github.com/virtee/sev-snp-measure, commit 8f2b3373 (2026-05-27)"
UPSTREAM = "Linux 6.11 (KVM SEV-SNP hosts) and QEMU 9.1 (sev-snp-guest), both 2024"
SVSM = "github.com/coconut-svsm/svsm, commit f4bc4bcd (2026-08-20), INSTALL.md and kernel attest.rs"
TDX = "QEMU documentation, system/i386/tdx"
SNPGUARD = "github.com/SNPGuard/snp-guard: integrity and encrypted workflows"
EVTPM = "Narayanan et al., Remote attestation of confidential VMs using ephemeral vTPMs (ACSAC 2023)"
FIRMWARE = "github.com/tianocore/edk2, OvmfPkg/Tcg: its measurements go to a TPM device that QEMU attaches; systemd-stub(7) for the rest"
EARLY = date(2024, 3, 26)
LATE = date(2026, 11, 22)

Tpm = Literal["hypervisor", "paravisor", "svsm", "host", "none"]
Source = Literal["device", "vtpm", "svsm"]
Carrier = Literal["tee", "vtpm", "none"]

BY_UKI = "qemu-uki"
OPERATOR = "whoever runs the host"
"""As `evident.verification.snp_tpm.OPERATOR` has it, whose room is not loaded for a profile."""

_NO_TPM: Fact[Tpm] = Fact("none", QEMU)
_HOST_TPM: Fact[Tpm] = Fact("host", PONTES, "Software on the host: nothing may rest on it.")
_IN_SVSM: Fact[Tpm] = Fact("svsm", SVSM)
_DEVICE: Fact[Source] = Fact("device", QEMU)
_TEE: Fact[Carrier] = Fact("tee", QEMU)
_OWN_FIRMWARE = LayerProfile(Fact(4, QEMU, "Your own build of the firmware."), Fact("you", QEMU), _TEE)
_HOST = "Whoever runs the host serves ACPI tables and devices."

DIRECT_2024 = Profile(
    id="qemu-snp",
    title="Your own host, SEV-SNP, direct boot with kernel hashes",
    as_of=EARLY,
    provider="you",
    technology="snp",
    report_source=_DEVICE,
    report_fresh=Fact(True, QEMU),
    report_key_holder=Fact("AMD", QEMU),
    launch_covers=Fact(("firmware", "initrd", "kernel", "cmdline"), PONTES, "With kernel-hashes=on and a firmware that checks them."),
    launch_reproducible=Fact(True, PONTES),
    vtpm=VtpmProfile(Fact("custom", PONTES), _HOST_TPM, Fact(False, PONTES), Fact("you", PONTES), Fact(1, PONTES)),
    layers=own_image_layers(_OWN_FIRMWARE, measured_by="tee", runtime=False, source=QEMU),
    disk_key=Fact(("custom initrd", "vTPM"), PONTES),
    provisioning_attested=Fact(True, QEMU, "HOST_DATA or an ID block binds 32 bytes of your choice; nothing else."),
    residual={"provisioning": _HOST},
    notes=(Fact("Needed the vendor's own kernel and QEMU branches at this date.", UPSTREAM),),
    published={
        "pontes.launch_covers": Fact("VMF, initrd, kernel", PONTES),
        "pontes.reproducible": Fact("✓", PONTES),
        "pontes.vtpm": Fact("custom", PONTES),
        "pontes.vtpm_measured": Fact("✗", PONTES),
        "pontes.report": Fact("SNP device", PONTES),
        "pontes.disk_key": Fact("custom initrd, vTPM", PONTES),
    },
    column="on-prem A",
)
DIRECT_2026 = replace(DIRECT_2024, as_of=LATE, notes=(Fact("Upstream since Linux 6.11 and QEMU 9.1.", UPSTREAM),))

UKI_2026 = replace(
    DIRECT_2026,
    id=BY_UKI,
    title="Your own host, SEV-SNP, boot from the machine's own disk (UKI)",
    launch_covers=Fact(("firmware",), FIRMWARE, "What firmware starts from the disk goes into PCRs."),
    vtpm=VtpmProfile(Fact("swtpm", FIRMWARE), _HOST_TPM, Fact(False, FIRMWARE), Fact(OPERATOR, FIRMWARE), Fact(1, FIRMWARE)),
    layers=own_image_layers(_OWN_FIRMWARE, measured_by="vtpm", runtime=True, source=FIRMWARE),
    residual={**DIRECT_2026.residual, "boot_chain": "The TPM is software on the host: whoever runs the host can have it quote any boot."},
    published={},
    column="",
)

SVSM_2024 = replace(
    DIRECT_2024,
    id="qemu-svsm",
    title="Your own host, SEV-SNP with an SVSM",
    report_source=Fact("vtpm", PONTES, "The report that binds the vTPM's key, asked for at privilege level 0."),
    launch_covers=Fact(("firmware", "svsm"), PONTES),
    vtpm=VtpmProfile(Fact("SVSM-vTPM", PONTES), _IN_SVSM, Fact(True, PONTES), Fact("AMD-SP", SVSM), Fact(4, SVSM)),
    layers=own_image_layers(_OWN_FIRMWARE, measured_by="vtpm", runtime=True, source=SVSM),
    notes=(Fact("Needs the project's own host kernel and QEMU.", SVSM),),
    published={
        "pontes.launch_covers": Fact("VMF, SVSM", PONTES),
        "pontes.reproducible": Fact("✓", PONTES),
        "pontes.vtpm": Fact("SVSM-vTPM", PONTES),
        "pontes.vtpm_measured": Fact("✓", PONTES),
        "pontes.report": Fact("vTPM", PONTES),
        "pontes.disk_key": Fact("custom initrd, vTPM", PONTES),
    },
    column="on-prem B",
)
SVSM_2026 = replace(
    SVSM_2024, as_of=LATE, notes=(Fact("Guest side upstream since Linux 6.16; the host side still is on the project's forks.", SVSM),)
)

TDX_2026 = replace(
    DIRECT_2026,
    id="qemu-tdx",
    title="Your own host, TDX",
    technology="tdx",
    report_key_holder=Fact("Intel", TDX),
    launch_covers=Fact(("firmware",), TDX, "MRTD; RTMR0 to RTMR3 continue it through kernel, initrd and command line."),
    vtpm=VtpmProfile(Fact("none", TDX), _NO_TPM, Fact(False, TDX), Fact("nobody", TDX), Fact(0, TDX)),
    disk_key=Fact(("custom initrd",), TDX),
    provisioning_attested=Fact(True, TDX, "MRCONFIGID and MROWNERCONFIG bind 48 bytes each."),
    notes=(Fact("Needs a quote generation service on the host.", TDX),),
    published={},
    column="on-prem TDX",
)

_RESEARCH = {"poster.root_of_trust": Fact("✓ AMD", POSTER), "poster.vtpm": Fact("n/a", POSTER)}

SNPGUARD_2024 = replace(
    DIRECT_2024,
    id="snpguard",
    title="SNPGuard: measured direct boot with a verified or encrypted root",
    vtpm=VtpmProfile(Fact("none", SNPGUARD), _NO_TPM, Fact(False, SNPGUARD), Fact("nobody", SNPGUARD), Fact(0, SNPGUARD)),
    layers=own_image_layers(_OWN_FIRMWARE, measured_by="tee", runtime=False, source=SNPGUARD),
    disk_key=Fact(("custom initrd",), SNPGUARD),
    notes=(Fact("The poster prints userspace as not verifiable; the project's own dm-verity workflow verifies it at rest.", SNPGUARD),),
    published={
        **_RESEARCH,
        "poster.firmware": Fact("4, AMD-SP", POSTER, confidence="medium"),
        "poster.boot_chain": Fact("4, AMD-SP", POSTER, confidence="medium"),
        "poster.userspace": Fact("○ 0", POSTER),
    },
    column="SNPGuard",
)
SNPGUARD_2026 = replace(SNPGUARD_2024, as_of=LATE)

MICROCVM_2024 = replace(
    SNPGUARD_2024,
    id="microcvm",
    title="microCVM: one minimal measured boot image",
    launch_covers=Fact(("firmware", "initrd", "kernel", "cmdline"), POSTER),
    layers=own_image_layers(
        LayerProfile(
            Fact(3, POSTER, "4 for its authors; its code is not public, so nobody else can rebuild it.", "medium"),
            Fact("you", POSTER),
            _TEE,
        ),
        measured_by="tee",
        runtime=False,
        source=POSTER,
    ),
    notes=(Fact("The code is not public; Evident re-creates the design from its description.", POSTER),),
    published={
        **_RESEARCH,
        "poster.firmware": Fact("4, AMD-SP", POSTER, "3 while the code is closed to others.", "medium"),
        "poster.boot_chain": Fact("4, AMD-SP", POSTER, confidence="medium"),
        "poster.userspace": Fact("○ 0", POSTER),
    },
    column="microCVM",
)
MICROCVM_2026 = replace(MICROCVM_2024, as_of=LATE)

EVTPM_2024 = replace(
    SVSM_2024,
    id="evtpm",
    title="e-vTPM: an ephemeral vTPM in a service module",
    vtpm=VtpmProfile(Fact("SVSM-vTPM", EVTPM), Fact("svsm", EVTPM), Fact(True, EVTPM), Fact("AMD-SP", EVTPM), Fact(4, EVTPM)),
    layers=own_image_layers(_OWN_FIRMWARE, measured_by="vtpm", runtime=True, source=EVTPM),
    notes=(Fact("A fresh vTPM at every boot, its key's digest in a report of privilege level 0.", EVTPM),),
    published={
        "poster.root_of_trust": Fact("✓ AMD", POSTER, confidence="medium"),
        "poster.vtpm": Fact("✓ AMD-SP", POSTER),
        "poster.firmware": Fact("4, AMD-SP", POSTER, confidence="medium"),
        "poster.boot_chain": Fact("4, vTPM by AMD-SP", POSTER, confidence="medium"),
        "poster.userspace": Fact("up to 4, vTPM by AMD-SP", POSTER, confidence="medium"),
    },
    column="e-vTPM",
)
EVTPM_2026 = replace(EVTPM_2024, as_of=LATE)

PROFILES = (
    DIRECT_2024,
    DIRECT_2026,
    UKI_2026,
    SVSM_2024,
    SVSM_2026,
    TDX_2026,
    SNPGUARD_2024,
    SNPGUARD_2026,
    MICROCVM_2024,
    MICROCVM_2026,
    EVTPM_2024,
    EVTPM_2026,
)
