"""Azure confidential VMs: what they let anyone verify, and what they let today."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Literal

from evident.appraisal.profile import Fact, LayerProfile, Profile, VtpmProfile, own_image_layers

PAPER = "Scopelliti et al., Understanding Trust Relationships in Cloud-Based Confidential Computing (2024), section 6.1 and table 1"
PONTES = "Pontes et al., Interoperable node integrity verification for confidential machines based on AMD SEV-SNP, table 1 and section 4.2"
POSTER = "Sereno et al., poster: Secure Lifecycle Management of Confidential Virtual Machines in Public Clouds, table"
OPENHCL = "github.com/microsoft/openvmm, commit 1488a37b (2026-08-21), and its issues 181 and 2247"
DESIGN = "Microsoft Learn, guest-attestation-confidential-virtual-machines-design"
CORIM = "github.com/microsoft/openvmm, commits 956539494, df8c5b767 and 79d19568f (2026-07 and 2026-08)"

Tpm = Literal["hypervisor", "paravisor", "svsm", "host", "none"]
Source = Literal["device", "vtpm", "svsm"]
Carrier = Literal["tee", "vtpm", "none"]

_PARAVISOR: Fact[Tpm] = Fact("paravisor", PAPER)
_BY_VTPM: Fact[Source] = Fact("vtpm", PAPER, "A report made at boot, in the vTPM's memory; the guest cannot reach the secure processor.")
_TEE: Fact[Carrier] = Fact("tee", DESIGN)
_INITRD = Fact(
    "Whether the vTPM measures the initrd is disputed: Pontes et al. (footnote 7) find that it does not, Scopelliti et al. booted and "
    "measured kernels of their own. The quoted PCRs (4, 9, 11) decide for each machine.",
    f"{PONTES}; {PAPER}",
    confidence="medium",
)

SNP_2024 = Profile(
    id="azure-snp",
    title="Azure confidential VM, SEV-SNP",
    as_of=date(2024, 3, 26),
    provider="Microsoft",
    technology="snp",
    report_source=_BY_VTPM,
    report_fresh=Fact(False, PAPER, "Always the same report, made at boot; freshness comes from the vTPM's quote only."),
    report_key_holder=Fact("AMD", DESIGN, "The chip's own VCEK, handed out by the provider's metadata service."),
    launch_covers=Fact(("firmware", "paravisor"), PONTES),
    launch_reproducible=Fact(False, PONTES),
    vtpm=VtpmProfile(
        kind=Fact("SVSM-vTPM", PONTES),
        location=_PARAVISOR,
        measured=Fact(True, PONTES),
        endorser=Fact("Microsoft", PAPER),
        verifiability=Fact(1, PAPER, "It is in firmware that nobody may review."),
    ),
    layers=own_image_layers(
        LayerProfile(Fact(1, PAPER, "Proprietary, and no reference value published."), Fact("Microsoft", PAPER), _TEE),
        measured_by="vtpm",
        runtime=True,
        source=PAPER,
    ),
    disk_key=Fact(("vTPM",), PONTES),
    provisioning_attested=Fact(False, DESIGN),
    residual={
        "root_of_trust": "Microsoft's paravisor vTPM is the root of whatever is fresh here, not the chip.",
        "firmware": "Microsoft wrote the paravisor inside your VM, and nobody can compare it with a source.",
        "boot_chain": "Microsoft's paravisor holds the vTPM that carries the measurement.",
        "provisioning": "Microsoft serves custom data and metadata, and its agent runs with full rights where the image has it.",
    },
    notes=(Fact("The VM's firmware, its service module included, is not available.", PONTES), _INITRD),
    published={
        "scopelliti.root_of_trust": Fact("◐", PAPER),
        "scopelliti.firmware": Fact("◐", PAPER),
        "scopelliti.boot_chain": Fact("◐", PAPER),
        "scopelliti.root_filesystem": Fact("◐", PAPER),
        "scopelliti.nominal": Fact("4", PAPER),
        "scopelliti.trustworthy": Fact("0", PAPER),
        "pontes.launch_covers": Fact("VMF, SVSM", PONTES),
        "pontes.reproducible": Fact("✗", PONTES),
        "pontes.vtpm": Fact("SVSM-vTPM", PONTES),
        "pontes.vtpm_measured": Fact("✓", PONTES),
        "pontes.report": Fact("vTPM", PONTES),
        "pontes.disk_key": Fact("vTPM", PONTES),
        "poster.root_of_trust": Fact("✗", POSTER),
        "poster.vtpm": Fact("✓ provider", POSTER),
        "poster.firmware": Fact("1, AMD-SP", POSTER, confidence="medium"),
        "poster.boot_chain": Fact("up to 4, vTPM by provider", POSTER, confidence="medium"),
        "poster.userspace": Fact("up to 4, vTPM by provider", POSTER, confidence="medium"),
    },
    column="Azure",
)

SNP_2026 = replace(
    SNP_2024,
    as_of=date(2026, 11, 22),
    report_source=Fact(
        "vtpm", DESIGN, "Still through the vTPM: write 64 bytes to NV index 0x01400002, then read a new report at 0x01400001."
    ),
    report_fresh=Fact(
        True, DESIGN, "The paravisor puts your 64 bytes under a new report's signature; older machines (HCL version 1) cannot.", "medium"
    ),
    vtpm=replace(SNP_2024.vtpm, verifiability=Fact(1, OPENHCL, "OpenHCL is open; no production measurement is mapped to a commit.")),
    layers={
        **SNP_2024.layers,
        "firmware": LayerProfile(
            Fact(
                2, OPENHCL, "Microsoft signs the paravisor with an ID key and vouches for it; it cannot be matched to a source.", "medium"
            ),
            Fact("Microsoft", OPENHCL),
            _TEE,
        ),
    },
    residual={
        **SNP_2024.residual,
        "root_of_trust": "Microsoft's paravisor passes your challenge to the chip; the chip signs it.",
    },
    notes=(
        Fact("The OpenHCL paravisor is open since 2024-10; which sizes run it, and from which commit, is not published.", OPENHCL),
        Fact("A reproducible build exists since 2026-03, from prebuilt inputs; it has not been matched to production.", OPENHCL),
        _INITRD,
    ),
)

TDX_2026 = replace(
    SNP_2026,
    id="azure-tdx",
    title="Azure confidential VM, TDX",
    technology="tdx",
    report_key_holder=Fact("Intel", DESIGN),
    layers={
        **SNP_2026.layers,
        "firmware": LayerProfile(
            Fact(2, CORIM, "Signed launch endorsements exist since 2026-08; nobody outside can retrieve them yet.", "medium"),
            Fact("Microsoft", CORIM),
            _TEE,
        ),
    },
    published={},
    column="Azure TDX",
)

PROFILES = (SNP_2024, SNP_2026, TDX_2026)
