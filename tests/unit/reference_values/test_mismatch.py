"""A wrong launch digest is explained by name (AT-06 to AT-10), and only proved explanations spare a layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evident.reference_values.kernel_hashes import KernelHashes
from evident.reference_values.mismatch import Mismatch, explain_mismatch, parameter_difference
from evident.reference_values.model import ReferenceValue
from evident.reference_values.snp_launch import SnpLaunch, predict
from evident.reference_values.snp_reference import snp_reference

LINE = "console=ttyS0 roothash=" + "ab" * 32
KERNEL, INITRD = b"kernel", b"initrd"


@pytest.fixture
def launch(vectors: Any) -> SnpLaunch:
    firmware = vectors.read("launch/sev-snp-measure-ovmf", "ovmf_AmdSev_suffix.bin")
    return SnpLaunch(firmware, vcpus=2, hashes=KernelHashes.of(KERNEL, INITRD, LINE))


@pytest.fixture
def reference(launch: SnpLaunch) -> ReferenceValue:
    return snp_reference(launch, command_line=LINE)


def codes(mismatch: Mismatch) -> list[str]:
    return [finding.code.removeprefix("launch.") for finding in mismatch.findings]


def explain(reference: ReferenceValue, launched: SnpLaunch, command_line: str | None = None, *, honest: bool = True) -> Mismatch:
    stated = launched.hashes.components() if launched.hashes and honest else None
    return explain_mismatch(reference, predict(launched), stated, command_line)


@pytest.mark.parametrize(
    ("stage", "hashes"),
    [
        ("kernel", KernelHashes.of(b"another kernel", INITRD, LINE)),
        ("initrd", KernelHashes.of(KERNEL, b"another initrd", LINE)),
        ("cmdline", KernelHashes.of(KERNEL, INITRD, LINE + " init=/bin/sh")),
    ],
)
def test_names_the_replaced_component(launch: SnpLaunch, reference: ReferenceValue, stage: str, hashes: KernelHashes) -> None:
    mismatch = explain(reference, replace(launch, hashes=hashes))
    assert codes(mismatch) == [stage]
    assert mismatch.explained
    assert mismatch.spares("firmware")
    assert not mismatch.spares("boot_chain")
    assert hashes.components()[stage].hex() in mismatch.findings[0].found


def test_prints_the_differing_parameter(launch: SnpLaunch, reference: ReferenceValue) -> None:
    line = LINE.replace("ab", "cd") + " init=/bin/sh"
    mismatch = explain(reference, replace(launch, hashes=KernelHashes.of(KERNEL, INITRD, line)), line)
    assert mismatch.findings[0].found == f"roothash={'cd' * 32} init=/bin/sh"
    assert f"roothash={'ab' * 32}" in mismatch.findings[0].expected


def test_a_stated_line_that_was_not_launched_is_not_printed(launch: SnpLaunch, reference: ReferenceValue) -> None:
    launched = replace(launch, hashes=KernelHashes.of(KERNEL, INITRD, "init=/bin/sh"))
    mismatch = explain(reference, launched, LINE)
    assert mismatch.findings[0].found == KernelHashes.of(KERNEL, INITRD, "init=/bin/sh").cmdline.hex()


def test_order_of_parameters() -> None:
    assert parameter_difference("a b", "b a") == ("'a b'", "'b a'")


def test_a_lie_about_the_components_is_not_believed(launch: SnpLaunch, reference: ReferenceValue) -> None:
    """The guest states the expected hashes while another kernel was launched."""
    launched = replace(launch, hashes=KernelHashes.of(b"evil", INITRD, LINE))
    assert launch.hashes is not None
    mismatch = explain_mismatch(reference, predict(launched), launch.hashes.components())
    assert codes(mismatch) == ["firmware"]
    assert not mismatch.explained
    assert not mismatch.spares("firmware")
    assert not mismatch.spares("boot_chain")


def test_names_missing_kernel_hashes(launch: SnpLaunch, reference: ReferenceValue) -> None:
    mismatch = explain(reference, replace(launch, hashes=None))
    assert codes(mismatch) == ["kernel-hashes-absent"]
    assert mismatch.spares("firmware")
    assert not mismatch.spares("boot_chain")


def test_names_unexpected_kernel_hashes(launch: SnpLaunch) -> None:
    mismatch = explain(snp_reference(replace(launch, hashes=None)), launch)
    assert codes(mismatch) == ["kernel-hashes-unexpected"]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"vcpus": 300}, ["vcpus"]),
        ({"vcpu_signature": 0xA10F10}, ["vcpu-type"]),
        ({"guest_features": 0x21}, ["guest-features"]),
        ({"vmm": "gce"}, ["vmm"]),
        ({"vmm": "ec2-old", "vcpus": 1}, ["vcpus", "vmm"]),
    ],
)
def test_names_the_vcpu_state(launch: SnpLaunch, reference: ReferenceValue, change: dict[str, Any], names: list[str]) -> None:
    mismatch = explain(reference, replace(launch, **change), honest=False)
    assert codes(mismatch) == names
    assert mismatch.spares("boot_chain")
    assert not mismatch.spares("firmware")


def test_several_changes_at_once(launch: SnpLaunch, reference: ReferenceValue) -> None:
    launched = replace(launch, vcpus=7, hashes=KernelHashes.of(b"evil", INITRD, LINE))
    assert codes(explain(reference, launched)) == ["kernel", "vcpus"]


def test_names_the_firmware(launch: SnpLaunch, reference: ReferenceValue) -> None:
    """With every component stated nothing else remains; without, the doubt is said."""
    launched = replace(launch, firmware=bytes(4096) + launch.firmware)
    sure, unsure = explain(reference, launched), explain(reference, launched, honest=False)
    assert codes(sure) == codes(unsure) == ["firmware"]
    assert "which nobody stated" not in sure.findings[0].found
    assert "which nobody stated" in unsure.findings[0].found


def test_without_a_template_the_firmware_is_named(launch: SnpLaunch, reference: ReferenceValue) -> None:
    mismatch = explain(replace(reference, template=b""), replace(launch, vcpus=3))
    assert codes(mismatch) == ["firmware"]
    assert not mismatch.explained


def test_one_vcpu_firmware_and_svsm(vectors: Any) -> None:
    from evident.reference_values.snp_launch import Svsm

    folder = "launch/sev-snp-measure-svsm"
    svsm = Svsm(vectors.read(folder, "svsm.bin"), 540672)
    guest = SnpLaunch(vectors.read(folder, "svsm_ovmf.fd"), vcpus=4, svsm=svsm)
    assert codes(explain(snp_reference(guest), replace(guest, vcpus=2, vcpu_signature=0xA00F11))) == ["vcpus", "vcpu-type"]
