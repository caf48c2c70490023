"""AWS EC2 with SEV-SNP: what it let anyone verify, and what it lets today."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Literal

from evident.appraisal.profile import Fact, LayerProfile, Profile, VtpmProfile, own_image_layers

PAPER = "Scopelliti et al., Understanding Trust Relationships in Cloud-Based Confidential Computing (2024), section 6.1 and table 1"
PONTES = "Pontes et al., Interoperable node integrity verification for confidential machines based on AMD SEV-SNP, table 1 and section 4.2"
POSTER = "Sereno et al., poster: Secure Lifecycle Management of Confidential Virtual Machines in Public Clouds, table"
FIRMWARE = "github.com/aws/uefi, release 20240809 (commit 5c3ac896)"
MISMATCH = "github.com/aws/uefi issue 19 (2026-04) and github.com/virtee/sev-snp-measure pull request 60 (2026-05-22)"
NITROTPM = "github.com/aws/NitroTPM-Tools, commit c598a106 (2026-05-11)"
GUIDE = "AWS EC2 User Guide, AMD SEV-SNP: snp-attestation"

Tpm = Literal["hypervisor", "paravisor", "svsm", "host", "none"]
Source = Literal["device", "vtpm", "svsm"]
Carrier = Literal["tee", "vtpm", "none"]

_HYPERVISOR: Fact[Tpm] = Fact("hypervisor", PAPER)
_DEVICE: Fact[Source] = Fact("device", PAPER)
_TEE: Fact[Carrier] = Fact("tee", "SEV-SNP ABI specification, MEASUREMENT")

SNP_2024 = Profile(
    id="aws-snp",
    title="AWS EC2, SEV-SNP",
    as_of=date(2024, 3, 26),
    provider="AWS",
    technology="snp",
    report_source=_DEVICE,
    report_fresh=Fact(True, PAPER, "The guest's own data goes into the report through the sev-guest device."),
    report_key_holder=Fact("AWS", GUIDE, "A VLEK on shared hosts: it names the cloud, not the chip."),
    launch_covers=Fact(("firmware",), PONTES),
    launch_reproducible=Fact(True, PAPER, "The firmware is open, and its rebuild yields the measurement in the report."),
    vtpm=VtpmProfile(
        kind=Fact("Nitro", PONTES),
        location=_HYPERVISOR,
        measured=Fact(False, PONTES),
        endorser=Fact("AWS", PAPER),
        verifiability=Fact(1, PONTES, "The source of NitroTPM is not available."),
    ),
    layers=own_image_layers(
        LayerProfile(Fact(4, PAPER, "Open source with a reproducible build."), Fact("you", PAPER), _TEE),
        measured_by="vtpm",
        runtime=True,
        source=PAPER,
    ),
    disk_key=Fact(("custom initrd", "vTPM"), PONTES),
    provisioning_attested=Fact(False, "github.com/aws/uefi issue 10", "HOST_DATA is zero: nothing given at launch is in the report."),
    residual={
        "firmware": "AWS may change the initial CPU state without notice; then the measurement stops matching, which is noticed.",
        "boot_chain": "AWS runs NitroTPM in its hypervisor; neither its source nor a service module inside the VM is available.",
        "provisioning": "AWS serves user data and instance metadata.",
    },
    notes=(Fact("NitroTPM's source and deployment of an SVSM are not available.", PONTES),),
    published={
        "scopelliti.root_of_trust": Fact("●", PAPER),
        "scopelliti.firmware": Fact("●", PAPER),
        "scopelliti.boot_chain": Fact("◐", PAPER),
        "scopelliti.root_filesystem": Fact("◐", PAPER),
        "scopelliti.nominal": Fact("4", PAPER),
        "scopelliti.trustworthy": Fact("2", PAPER),
        "pontes.launch_covers": Fact("VMF", PONTES),
        "pontes.reproducible": Fact("✓", PONTES),
        "pontes.vtpm": Fact("Nitro", PONTES),
        "pontes.vtpm_measured": Fact("✗", PONTES),
        "pontes.report": Fact("SNP device", PONTES),
        "pontes.disk_key": Fact("custom initrd, vTPM", PONTES),
        "poster.root_of_trust": Fact("✓ AMD", POSTER),
        "poster.vtpm": Fact("✓ provider", POSTER),
        "poster.firmware": Fact("4, AMD-SP", POSTER),
        "poster.boot_chain": Fact("up to 4, vTPM by provider", POSTER, confidence="medium"),
        "poster.userspace": Fact("up to 4, vTPM by provider", POSTER, confidence="medium"),
    },
    column="AWS",
)

SNP_2026 = replace(
    SNP_2024,
    as_of=date(2026, 11, 22),
    report_key_holder=Fact("AWS", GUIDE, "A VLEK on shared hosts; Dedicated Hosts sign with the chip's own VCEK."),
    launch_reproducible=Fact(True, MISMATCH, "From the released binary, with the CPU state that AWS has used since 2026-04."),
    vtpm=replace(
        SNP_2024.vtpm,
        verifiability=Fact(
            1, NITROTPM, "Attestation documents since 2025; PCR0 and PCR1 are constants, so they say nothing of the firmware."
        ),
    ),
    layers={
        **SNP_2024.layers,
        "firmware": LayerProfile(
            Fact(
                3,
                MISMATCH,
                "The released binary reproduces the measurement again; a public rebuild from source gave another binary, never explained.",
                "medium",
            ),
            Fact("you", FIRMWARE),
            _TEE,
        ),
    },
    notes=(
        *SNP_2024.notes,
        Fact("In 2026-04 measurements stopped matching until the changed CPU state became known; accept a set of values.", MISMATCH),
        Fact("KMS can gate keys on NitroTPM documents, not on the SNP report.", "AWS KMS Developer Guide, conditions-nitro-tpm"),
    ),
)

PROFILES = (SNP_2024, SNP_2026)
