"""Google Cloud confidential VMs: what they let anyone verify, and what they let today."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Literal

from evident.appraisal.profile import Fact, LayerProfile, Profile, VtpmProfile, own_image_layers

PAPER = "Scopelliti et al., Understanding Trust Relationships in Cloud-Based Confidential Computing (2024), section 6.1 and table 1"
POTENTIAL = "Scopelliti et al. (2024), section 6.2"
PONTES = "Pontes et al., Interoperable node integrity verification for confidential machines based on AMD SEV-SNP, table 1 and section 4.2"
POSTER = "Sereno et al., poster: Secure Lifecycle Management of Confidential Virtual Machines in Public Clouds, table"
ENDORSEMENT = "github.com/google/gce-tcb-verifier, commit 74582c07 (2025-11-18), and its issue 38"
SHIELDED = "github.com/google/gce-tcb-verifier issue 64 (2024-12-28)"
TDX_LOG = "github.com/google/go-tpm-tools, commit 67670e5c (2026-08-20)"
STUB = "github.com/systemd/systemd, pull requests 30996 and 31939 (systemd 256), and Linux, commit ac93cbfc (6.9)"

Tpm = Literal["hypervisor", "paravisor", "svsm", "host", "none"]
Source = Literal["device", "vtpm", "svsm"]
Carrier = Literal["tee", "vtpm", "none"]

_HYPERVISOR: Fact[Tpm] = Fact("hypervisor", PAPER)
_DEVICE: Fact[Source] = Fact("device", PAPER)
_TEE: Fact[Carrier] = Fact("tee", ENDORSEMENT)

SNP_2024 = Profile(
    id="gcp-snp",
    title="Google Cloud confidential VM, SEV-SNP",
    as_of=date(2024, 3, 26),
    provider="Google",
    technology="snp",
    report_source=_DEVICE,
    report_fresh=Fact(True, PAPER, "The guest's own data goes into the report."),
    report_key_holder=Fact("AMD", PAPER, "The chip's own VCEK."),
    launch_covers=Fact(("firmware",), PONTES),
    launch_reproducible=Fact(False, PONTES),
    vtpm=VtpmProfile(
        kind=Fact("IBM SWTPM fork", PONTES),
        location=_HYPERVISOR,
        measured=Fact(False, PONTES),
        endorser=Fact("Google", PAPER),
        verifiability=Fact(1, PONTES, "Its sources are not available."),
    ),
    layers=own_image_layers(
        LayerProfile(Fact(1, PAPER, "Proprietary, and no reference value published at that date."), Fact("Google", PAPER), _TEE),
        measured_by="vtpm",
        runtime=True,
        source=PAPER,
    ),
    disk_key=Fact(("custom initrd", "vTPM"), PONTES),
    provisioning_attested=Fact(False, PAPER),
    residual={
        "firmware": "Google wrote the firmware, and its source is not published.",
        "boot_chain": "Google runs the vTPM in its hypervisor, as for any shielded VM.",
        "provisioning": "Google serves metadata, and its guest agent acts on it where the image has it.",
    },
    notes=(Fact("Sources of firmware and vTPM, and deployment of an SVSM, are not available.", PONTES),),
    published={
        "scopelliti.root_of_trust": Fact("●", PAPER),
        "scopelliti.firmware": Fact("◐", PAPER),
        "scopelliti.boot_chain": Fact("◐", PAPER),
        "scopelliti.root_filesystem": Fact("◐", PAPER),
        "scopelliti.nominal": Fact("4", PAPER),
        "scopelliti.trustworthy": Fact("1", PAPER),
        "pontes.launch_covers": Fact("VMF", PONTES),
        "pontes.reproducible": Fact("✗", PONTES),
        "pontes.vtpm": Fact("IBM SWTPM fork", PONTES),
        "pontes.vtpm_measured": Fact("✗", PONTES),
        "pontes.report": Fact("SNP device", PONTES),
        "pontes.disk_key": Fact("custom initrd, vTPM", PONTES),
        "poster.root_of_trust": Fact("✓ AMD", POSTER),
        "poster.vtpm": Fact("✓ provider", POSTER),
        "poster.firmware": Fact("3, AMD-SP", POSTER, "Read with the authors' later code; the symbol was lost.", "medium"),
        "poster.boot_chain": Fact("up to 4, vTPM by provider", POSTER, confidence="medium"),
        "poster.userspace": Fact("up to 4, vTPM by provider", POSTER, confidence="medium"),
    },
    column="GCP",
)

SNP_2026 = replace(
    SNP_2024,
    as_of=date(2026, 11, 22),
    vtpm=replace(SNP_2024.vtpm, location=Fact("hypervisor", SHIELDED), measured=Fact(False, SHIELDED)),
    layers={
        **SNP_2024.layers,
        "firmware": LayerProfile(
            Fact(3, ENDORSEMENT, "Signed launch endorsements, and the binary to recompute them from; the source stays closed."),
            Fact("you", ENDORSEMENT, "From Google's own binary: recomputed, not read."),
            _TEE,
        ),
    },
    notes=(
        *SNP_2024.notes,
        Fact("With the launch endorsements the paper expected trustworthy level 2; recomputing from the binary reaches it.", POTENTIAL),
    ),
)

TDX_2026 = replace(
    SNP_2026,
    id="gcp-tdx",
    title="Google Cloud confidential VM, TDX",
    technology="tdx",
    report_key_holder=Fact("Intel", ENDORSEMENT),
    launch_covers=Fact(("firmware",), ENDORSEMENT, "MRTD, keyed by memory size; RTMR0 to RTMR3 continue it."),
    layers=own_image_layers(SNP_2026.layers["firmware"], measured_by="tee", runtime=False, source=TDX_LOG),
    residual={**SNP_2024.residual, "boot_chain": "Google's firmware extends the run-time registers; its source is not published."},
    notes=(
        Fact("RTMR1 and RTMR2 in the quote measure boot loader and kernel: no vTPM is needed.", TDX_LOG),
        Fact("There is a vTPM all the same, and into that alone measure Linux, and systemd-stub before 256: then RTMR2 stays zero.", STUB),
    ),
    published={},
    column="GCP TDX",
)

PROFILES = (SNP_2024, SNP_2026, TDX_2026)
