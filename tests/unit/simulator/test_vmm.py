"""The TEST firmware is well formed, and two independent folds agree on every launch."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from evident.errors import UsageError
from evident.evidence import ovmf, snp_report
from evident.evidence.ovmf import SectionKind
from evident.reference_values import vmsa
from evident.reference_values.snp_launch import predict
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import sample_launch
from evident.simulator.secure_processor import SecureProcessor
from evident.simulator.vmm import LaunchDescription, boot, make_firmware

FIRMWARE = make_firmware()


@pytest.mark.parametrize("kernel_hashes", [True, False])
@pytest.mark.parametrize("size", [8192, 65536, 1 << 20])
def test_the_firmware_is_read_as_it_was_made(kernel_hashes: bool, size: int) -> None:
    firmware = ovmf.parse(make_firmware(kernel_hashes=kernel_hashes, size=size))
    assert len(firmware.raw) == size
    assert firmware.reset_eip == 0x80B004
    assert firmware.hash_table_gpa == (0x80FC00 if kernel_hashes else None)
    assert firmware.has(SectionKind.KERNEL_HASHES) is kernel_hashes
    assert firmware.raw.startswith(b"TEST FIRMWARE")


def test_another_build_is_another_image() -> None:
    assert make_firmware(build="2") != FIRMWARE
    assert make_firmware() == FIRMWARE


@pytest.mark.parametrize("vmm", sorted(vmsa.VMMS))
def test_the_secure_processor_measures_what_is_predicted(simulator_pki: SimulatorPki, vmm: str) -> None:
    for vcpus, hashes, features in itertools.product((1, 2, 5), (True, False), (0x1, 0x21)):
        description = LaunchDescription(
            FIRMWARE, b"kernel", b"initrd", "quiet", kernel_hashes=hashes, vcpus=vcpus, vmm=vmm, guest_features=features
        )
        guest = boot(SecureProcessor(simulator_pki), description)
        assert guest.measurement == predict(description.snp_launch())
        assert snp_report.parse(guest.report(bytes(64))).measurement == guest.measurement


def test_every_measured_input_changes_the_digest(simulator_pki: SimulatorPki) -> None:
    good = sample_launch()
    launches = [
        good,
        replace(good, firmware=make_firmware(build="2")),
        replace(good, kernel=good.kernel + b"\0"),
        replace(good, initrd=b""),
        replace(good, command_line=good.command_line + " "),
        replace(good, kernel_hashes=False),
        replace(good, vcpus=2),
        replace(good, vcpu_type="EPYC-Genoa"),
        replace(good, guest_features=0x21),
        replace(good, vmm="ec2"),
    ]
    digests = {boot(SecureProcessor(simulator_pki), launch).measurement for launch in launches}
    assert len(digests) == len(launches)


def test_without_the_table_two_initrds_look_alike(simulator_pki: SimulatorPki) -> None:
    """AT-10, shown to succeed: what the host does not hash, the secure processor does not see."""
    for firmware in (FIRMWARE, make_firmware(kernel_hashes=False)):
        launches = [LaunchDescription(firmware, b"kernel", initrd, kernel_hashes=False) for initrd in (b"one", b"other")]
        first, second = (boot(SecureProcessor(simulator_pki), launch).measurement for launch in launches)
        assert first == second


def test_hashes_need_a_place_in_the_firmware(simulator_pki: SimulatorPki) -> None:
    with pytest.raises(UsageError, match="kernel-hashes"):
        boot(SecureProcessor(simulator_pki), LaunchDescription(make_firmware(kernel_hashes=False), b"kernel"))


def test_host_data_and_policy_are_signed_but_not_measured(simulator_pki: SimulatorPki) -> None:
    plain, marked = sample_launch(), replace(sample_launch(), host_data=b"\x42" * 32, policy=0x30001)
    guests = [boot(SecureProcessor(simulator_pki), launch) for launch in (plain, marked)]
    assert guests[0].measurement == guests[1].measurement
    report = snp_report.parse(guests[1].report(bytes(64)))
    assert (report.host_data, report.policy) == (b"\x42" * 32, 0x30001)
