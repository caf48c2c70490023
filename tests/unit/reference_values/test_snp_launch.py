"""Launch digests: the published cases, real hardware, and every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evident.errors import EvidentError, Malformed, Unsupported, UsageError
from evident.evidence.ovmf import Section
from evident.evidence.snp_report import parse as parse_report
from evident.reference_values import vmsa
from evident.reference_values.kernel_hashes import KernelHashes, command_line_hash
from evident.reference_values.snp_launch import (
    INITIAL_DIGEST,
    LaunchTemplate,
    Page,
    PageType,
    SnpLaunch,
    Svsm,
    extend,
    launch_pages,
    predict,
)

OVMF_CASES, SVSM_CASES = "launch/sev-snp-measure-ovmf", "launch/sev-snp-measure-svsm"


def launch_of(vectors: Any, folder: str, case: dict[str, Any]) -> SnpLaunch:
    """A case of the manifest; its kernels and initrds are empty files."""
    assert case["kernel"] in (None, "empty file")
    svsm = Svsm(vectors.read(folder, case["svsm"]), case["ovmf_vars_size"]) if "svsm" in case else None
    return SnpLaunch(
        firmware=vectors.read(folder, case["ovmf"]),
        vcpus=case["vcpus"],
        guest_features=int(case["guest_features"], 16),
        vmm=case["vmm"].lower(),
        hashes=None if case["kernel"] is None else KernelHashes.of(b"", b"", case["cmdline"]),
        svsm=svsm,
    )


def snp_cases(vectors: Any) -> list[tuple[str, dict[str, Any]]]:
    return [
        (folder, case)
        for folder in (OVMF_CASES, SVSM_CASES)
        for case in vectors.facts(folder)["cases"]
        if case["mode"] in ("SEV_SNP", "SEV_SNP_SVSM")
    ]


def test_published_cases(vectors: Any) -> None:
    seen = 0
    for folder, case in snp_cases(vectors):
        launch = launch_of(vectors, folder, case)
        if "expected_error" in case:
            with pytest.raises(UsageError) as refusal:
                predict(launch)
            assert refusal.value.code == "snp-launch.kernel-hashes"
            continue
        assert predict(launch).hex() == case["expected_launch_digest"], case["case"]
        digest = INITIAL_DIGEST
        for page in launch_pages(launch):
            digest = extend(digest, page)
        assert digest.hex() == case["expected_launch_digest"], f"{case['case']} page by page"
        template = LaunchTemplate.of(launch)
        assert LaunchTemplate.parse(template.serialize()) == template
        if "ovmf_hash_given" in case:
            assert template.firmware_digest.hex() == case["ovmf_hash_given"]
        seen += 1
    assert seen == 10


def test_real_hardware_from_hashed_inputs(vectors: Any) -> None:
    """A genuine Milan report's MEASUREMENT, from a stated firmware digest and component hashes alone.

    The case's own launch-inputs.json holds other data; the inputs are in the container of the report.
    """
    container = vectors.read("snp/dstack-milan-v3-hostdata", "container.scale")
    config = json.JSONDecoder().raw_decode(container[container.index(b'{"os_image_hash"') :].decode())[0]
    inputs = json.loads(config["sev_snp_measurement"])
    template = LaunchTemplate(
        firmware_digest=bytes.fromhex(inputs["ovmf_hash"]),
        sections=tuple(Section(item["gpa"], item["size"], item["section_type"]) for item in inputs["ovmf_sections"]),
        vmm="qemu",
        vcpus=inputs["vcpus"],
        vcpu_signature=vmsa.VCPU_TYPES[inputs["vcpu_type"]],
        guest_features=inputs["guest_features"],
        reset_eip=inputs["sev_es_reset_eip"],
        hash_table_gpa=inputs["sev_hashes_table_gpa"],
        hashes=KernelHashes(
            bytes.fromhex(inputs["kernel_hash"]), bytes.fromhex(inputs["initrd_hash"]), command_line_hash(inputs["base_cmdline"])
        ),
    )
    measured = parse_report(vectors.read("launch/dstack-snp-milan-direct-boot", "report.bin")).measurement
    assert template.digest() == measured
    assert measured.hex() == vectors.facts("launch/dstack-snp-milan-direct-boot")["expected_launch_digest"]


def test_older_ec2_revision_differs(vectors: Any) -> None:
    """virtee/sev and sev-snp-measure before 0.0.13 put 0 into RDX."""
    launch = SnpLaunch(vectors.read(OVMF_CASES, "ovmf_AmdSev_suffix.bin"), vmm="ec2")
    old = replace(launch, vmm="ec2-old")
    assert predict(launch) != predict(old)
    page, old_page = (list(launch_pages(one))[-1].contents for one in (launch, old))
    differing = [index for index in range(4096) if page[index] != old_page[index]]
    assert differing == [0x311]


def test_order_of_pages(vectors: Any) -> None:
    """Sections come in table order, except that EC2 gives the CPUID page last, and GCE leaves memory unmeasured."""
    firmware = vectors.read(OVMF_CASES, "ovmf_AmdSev_suffix.bin")

    def kinds(vmm: str) -> list[PageType]:
        pages = [page for page in launch_pages(SnpLaunch(firmware, vcpus=2, vmm=vmm)) if page.gpa < 0x1000000]
        return list(dict.fromkeys(page.type for page in pages))

    assert kinds("qemu") == [PageType.ZERO, PageType.SECRETS, PageType.CPUID]
    assert kinds("ec2") == [PageType.ZERO, PageType.SECRETS, PageType.CPUID]
    ec2 = [page for page in launch_pages(SnpLaunch(firmware, vmm="ec2")) if page.type != PageType.VMSA]
    assert ec2[-1].type == PageType.CPUID
    assert kinds("gce") == [PageType.UNMEASURED, PageType.SECRETS, PageType.CPUID, PageType.ZERO]
    pages = list(launch_pages(SnpLaunch(firmware, vcpus=3)))
    assert pages[0].gpa == 0xFFFFF000
    assert bytes(pages[0].contents) == firmware
    assert [page.type for page in pages[-3:]] == [PageType.VMSA] * 3


def test_only_hashed_pages_carry_contents() -> None:
    zero = Page(PageType.ZERO, 0x1000)
    assert extend(INITIAL_DIGEST, zero) != extend(INITIAL_DIGEST, replace(zero, type=PageType.UNMEASURED))
    assert extend(INITIAL_DIGEST, Page(PageType.NORMAL, 0, bytes(4096))) != extend(INITIAL_DIGEST, Page(PageType.ZERO, 0))


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"vmm": "xen"}, Unsupported, "snp-launch.vmm"),
        ({"vcpus": 0}, UsageError, "snp-launch.vcpus"),
        ({"vcpus": 5000}, UsageError, "snp-launch.vcpus"),
        ({"vcpu_signature": -1}, UsageError, "snp-launch.vcpu-signature"),
        ({"guest_features": 1 << 64}, UsageError, "snp-launch.guest-features"),
        ({"firmware": bytes(4096)}, Malformed, "ovmf.footer"),
        ({"svsm": "self"}, Unsupported, "snp-launch.svsm"),
        ({"svsm": "odd"}, UsageError, "snp-launch.variable-store"),
        ({"svsm": "huge"}, UsageError, "snp-launch.variable-store"),
    ],
)
def test_refuses(vectors: Any, change: dict[str, Any], kind: type[EvidentError], code: str) -> None:
    firmware = vectors.read(OVMF_CASES, "ovmf_AmdSev_suffix.bin")
    forms = {"self": Svsm(firmware, 0), "odd": Svsm(firmware, 1), "huge": Svsm(firmware, 1 << 32)}
    if "svsm" in change:
        change = {"svsm": forms[change["svsm"]]}
    with pytest.raises(kind) as refusal:
        predict(replace(SnpLaunch(firmware), **change))
    assert refusal.value.code == code


def test_refuses_templates_that_nobody_launches(vectors: Any) -> None:
    good = LaunchTemplate.of(SnpLaunch(vectors.read(OVMF_CASES, "ovmf_AmdSev_suffix.bin"), hashes=KernelHashes.of(b"k")))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"firmware_digest": bytes(47)}, "snp-launch.firmware-digest"),
        ({"sections": ()}, "snp-launch.metadata"),
        ({"sections": (Section(0, 4096, 9),)}, "snp-launch.section"),
        ({"sections": (Section(0, 4096, 1),)}, "snp-launch.kernel-hashes"),
        ({"hash_table_gpa": None}, "snp-launch.kernel-hashes"),
        ({"hash_table_gpa": 0x810FF0}, "snp-launch.hash-table"),
        ({"svsm_entry": 0x1000}, "snp-launch.kernel-hashes"),
        ({"svsm_entry": 0x1000, "hashes": None, "vmm": "gce"}, "snp-launch.svsm"),
        ({"reset_eip": None, "vcpus": 2}, "snp-launch.reset-block"),
    ]
    for change, code in changes:
        with pytest.raises(EvidentError) as refusal:
            replace(good, **change)
        assert refusal.value.code == code
    with pytest.raises(UsageError):
        KernelHashes(b"short", bytes(32), bytes(32))


def test_a_template_file_with_contradictions_is_malformed(vectors: Any) -> None:
    good = LaunchTemplate.of(SnpLaunch(vectors.read(OVMF_CASES, "ovmf_AmdSev_suffix.bin")))
    with pytest.raises(Malformed):
        LaunchTemplate.parse(good.serialize().replace(b'"vcpus":1', b'"vcpus":0'))


def test_without_the_table_every_kernel_has_the_same_digest(vectors: Any) -> None:
    """AT-10: the attack works on a launch without kernel hashes, and shows itself by exactly that digest."""
    launch = SnpLaunch(vectors.read(OVMF_CASES, "ovmf_AmdSev_suffix.bin"), vcpus=2)
    good, evil = (replace(launch, hashes=KernelHashes.of(b"kernel", initrd)) for initrd in (b"good", b"evil"))
    assert predict(good) != predict(evil)
    assert predict(replace(good, hashes=None)) == predict(replace(evil, hashes=None)) == LaunchTemplate.of(good).with_hashes(None).digest()
