"""Simulated deployments ready to be verified: one that is good at every layer, and named attacks on it.

    scenario = good(pki)                              # nominal AL4, trustworthy AL4
    pieces = scenario.collect(nonce)                  # what the guest answers: kind `snp`
    context = scenario.context(nonce)                 # clock, TEST anchors, simulated KDS; simulated-root allowed
    verified = snp.verify(pieces, context)
    appraise(verified, scenario.reference, scenario.policy)

    bad = ATTACKS["swap-kernel"].on(scenario)         # the same deployment with the host cheating in one way
    custom = replace(scenario, kds=Mode(outage=True)) # or change any field of the frozen dataclass yourself

`owner` is what the VM's owner asked for, holds the binaries of and has reference values for; `launched` is what the host
really started. Every `Attack` says in words what is done and which finding must name it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from evident.appraisal.policy import Policy, RequiredLevels, TechnologyRules
from evident.endorsements.anchors import AnchorSet
from evident.evidence.snp_report import DEFAULT_POLICY, GENOA, Tcb
from evident.reference_values.model import ReferenceSet
from evident.reference_values.snp_reference import snp_reference
from evident.simulator.guest import SimulatedVm, VmState, stated_launch
from evident.simulator.kds import KdsFetcher, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import DEFAULT_TCB, Chip
from evident.simulator.vmm import LaunchDescription, make_firmware
from evident.verification.context import Context
from evident.verification.facts import StatedLaunch
from evident.verification.pieces import Pieces

PLATFORM = "simulated"
TEST_ROOT_HASH = hashlib.sha256(b"TEST root file system").hexdigest()
_REPORT_MEASUREMENT = 0x90


def _test_image(name: str, size: int) -> bytes:
    banner = f"TEST {name} of the Evident simulator: boots nowhere. ".encode()
    return banner + hashlib.shake_256(banner).digest(size)


def sample_launch() -> LaunchDescription:
    """TEST firmware, kernel and initrd with a dm-verity root hash on the measured command line: complete up to AL4."""
    return LaunchDescription(
        firmware=make_firmware(),
        kernel=_test_image("kernel", 16 * 1024),
        initrd=_test_image("initrd", 32 * 1024),
        command_line=f"console=ttyS0 ro root=/dev/mapper/root roothash={TEST_ROOT_HASH}",
    )


@dataclass(frozen=True, slots=True)
class Scenario:
    """One deployment on the simulated platform and how its host behaves; change fields with `dataclasses.replace`."""

    pki: SimulatorPki
    at: datetime
    """The verifier's clock."""
    owner: LaunchDescription
    launched: LaunchDescription
    chip: Chip = field(default_factory=Chip)
    certificates_of: Chip | None = None
    """The chip whose certificates the host hands out; None: the right one's."""
    stated: Callable[[Scenario], StatedLaunch | None] = lambda scenario: stated_launch(scenario.launched)
    """What the guest says was launched."""
    kds: Mode = field(default_factory=Mode)
    vmpl: int = 0
    state: VmState = field(default_factory=lambda: VmState(bytes(range(32))))
    replayed_nonce: bytes | None = None
    """Answer this old challenge whatever the verifier asks."""
    alter: Callable[[bytes], bytes] = lambda report: report
    """The host's last word on the report's bytes."""
    minimum_tcb: Tcb = DEFAULT_TCB

    def start(self) -> SimulatedVm:
        """Launch the VM; raises what the secure processor refuses."""
        return SimulatedVm(self.pki, self.chip, self.launched, self.state, stated=self.stated(self), certificates_of=self.certificates_of)

    def collect(self, nonce: bytes) -> Pieces:
        """Launch, and answer `nonce`."""
        pieces = dict(self.start().collect(self.replayed_nonce or nonce, vmpl=self.vmpl))
        return {**pieces, "report": tuple(self.alter(report) for report in pieces["report"])}

    def context(
        self, nonce: bytes | None, *, anchors: AnchorSet | None = None, unsafe: frozenset[str] = frozenset({"simulated-root"})
    ) -> Context:
        """What verification depends on; `anchors` default to the TEST roots alone."""
        kds = SimulatedKds(self.pki, clock=lambda: self.at, mode=self.kds)
        fetcher = KdsFetcher(kds, clock=lambda: self.at)
        return Context(at=self.at, anchors=anchors or AnchorSet(self.pki.anchors()), fetcher=fetcher, nonce=nonce, unsafe=unsafe)

    @property
    def reference(self) -> ReferenceSet:
        """Reference values recomputed from the binaries that the owner holds."""
        hashes = self.owner.hashes()
        value = snp_reference(
            self.owner.snp_launch(), command_line=self.owner.command_line if hashes else None, origin="binaries of the simulated deployment"
        )
        return ReferenceSet(1, (value,), "simulated deployment")

    @property
    def policy(self) -> Policy:
        """Strict, but for simulated hardware; demands AL4 without trusting the provider, and the TCB of a good chip."""
        floor = {name: number for name, number in self.minimum_tcb.components().items() if name != "fmc"}
        rules = TechnologyRules(minimum_tcb={"any": floor}, maximum_privilege_level=0)
        return Policy(
            version=1,
            name="simulated deployment",
            levels=RequiredLevels(nominal=4, trustworthy=4),
            allow_simulated=True,
            technologies={"snp": rules},
        )


def good(pki: SimulatorPki, *, at: datetime | None = None, chip: Chip | None = None, owner: LaunchDescription | None = None) -> Scenario:
    """An honest deployment in which every layer up to the root file system is proven (nominal AL4, trustworthy AL4)."""
    launch = owner or sample_launch()
    return Scenario(pki=pki, at=at or pki.made_at + timedelta(days=1), owner=launch, launched=launch, chip=chip or Chip())


@dataclass(frozen=True, slots=True)
class Attack:
    """One way in which a host cheats."""

    title: str
    """What is done, for people."""
    change: Callable[[Scenario], Scenario]
    caught_by: str
    """Prefix of the code of the finding that names it."""
    requirement: str = ""
    """The attack's id in the requirements."""

    def on(self, scenario: Scenario) -> Scenario:
        """`scenario` under this attack."""
        return self.change(scenario)


def _host(**changes: Any) -> Callable[[Scenario], Scenario]:
    """The host launches something else than the owner asked for."""
    return lambda scenario: replace(scenario, launched=replace(scenario.launched, **changes))


def _chip(**changes: Any) -> Callable[[Scenario], Scenario]:
    return lambda scenario: replace(scenario, chip=replace(scenario.chip, **changes))


def _lowered(scenario: Scenario) -> Tcb:
    tcb = scenario.chip.current_tcb
    return replace(tcb, snp=tcb.snp - 1)


def _tcb(name: str) -> Callable[[Scenario], Scenario]:
    return lambda scenario: _chip(**{name: _lowered(scenario)})(
        # A chip whose current TCB is rolled back keeps the others where they were, so that one field alone differs.
        _chip(
            reported_tcb=scenario.chip.tcb("reported"), committed_tcb=scenario.chip.tcb("committed"), launch_tcb=scenario.chip.tcb("launch")
        )(scenario)
    )


def _altered(report: bytes) -> bytes:
    return report[:_REPORT_MEASUREMENT] + bytes((report[_REPORT_MEASUREMENT] ^ 1,)) + report[_REPORT_MEASUREMENT + 1 :]


def _other_chip(chip: Chip) -> Chip:
    return replace(chip, chip_id=bytes(reversed(chip.chip_id)))


def _swap_command_line(scenario: Scenario) -> Scenario:
    other = hashlib.sha256(b"TEST root file system of the host").hexdigest()
    return _host(command_line=scenario.owner.command_line.replace(TEST_ROOT_HASH, other) + " init=/bin/sh")(scenario)


ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        "swap-firmware": Attack(
            "The host launches firmware of its own.", _host(firmware=make_firmware(build="host")), "launch.firmware", "AT-06"
        ),
        "swap-kernel": Attack(
            "The host launches a kernel of its own.", _host(kernel=_test_image("host's kernel", 4096)), "launch.kernel", "AT-07"
        ),
        "swap-initrd": Attack(
            "The host launches an initrd of its own.", _host(initrd=_test_image("host's initrd", 4096)), "launch.initrd", "AT-08"
        ),
        "swap-command-line": Attack("The host changes the root hash and adds init=/bin/sh.", _swap_command_line, "launch.cmdline", "AT-09"),
        "no-kernel-hashes": Attack(
            "The host hands the firmware no kernel hashes.", _host(kernel_hashes=False), "launch.kernel-hashes-absent", "AT-10"
        ),
        "extra-vcpu": Attack("The host starts one more vCPU.", _host(vcpus=2), "launch.vcpus"),
        "debug": Attack("The host may read the guest's memory.", _host(policy=DEFAULT_POLICY | 1 << 19), "policy.debug", "AT-29"),
        "migration-agent": Attack(
            "A migration agent may export the guest.",
            _host(policy=DEFAULT_POLICY | 1 << 18, migration_agent=bytes(range(32))),
            "policy.migration",
            "AT-30",
        ),
        **{
            f"old-{name}-tcb": Attack(f"The {name} TCB is rolled back.", _tcb(f"{name}_tcb"), "policy.tcb-minimum", "AT-32")
            for name in ("current", "reported", "committed", "launch")
        },
        "altered-report": Attack(
            "One bit of the signed measurement is changed.", lambda scenario: replace(scenario, alter=_altered), "snp.signature", ""
        ),
        "other-chips-certificate": Attack(
            "The host hands out another chip's certificate.",
            lambda scenario: replace(scenario, certificates_of=_other_chip(scenario.chip)),
            "snp.chip-id",
        ),
        "wrong-product": Attack(
            "The host hands out certificates of another product.",
            lambda scenario: replace(scenario, certificates_of=replace(scenario.chip, product=GENOA)),
            "snp.product",
            "AT-40",
        ),
        "wrong-key-kind": Attack(
            "The host hands out a VLEK for a VCEK's report.",
            lambda scenario: replace(scenario, certificates_of=replace(scenario.chip, vlek_csp="CN=cc-test.invalid")),
            "snp.certificate-kind",
            "AT-40",
        ),
        "unsigned": Attack("The host masks the chip's key: nobody signs.", _chip(mask_chip_key=True, mask_chip_id=True), "snp.signing-key"),
        "replay": Attack(
            "An old answer is given again.",
            lambda scenario: replace(scenario, replayed_nonce=b"an old challenge"),
            "snp.challenge",
            "AT-05",
        ),
        "low-privilege": Attack(
            "The report is asked for at VMPL 2.", lambda scenario: replace(scenario, vmpl=2), "policy.privilege-level", "AT-20"
        ),
        "revoked": Attack(
            "The TEST-ASK has been revoked.", lambda scenario: replace(scenario, kds=Mode(revoked=("ask",))), "crl.revoked", "AT-27"
        ),
        "forged-crl": Attack(
            "The CRL is signed by somebody else.", lambda scenario: replace(scenario, kds=Mode(crl_signer="asvk")), "crl.signature", "AT-28"
        ),
        "stale-crl": Attack(
            "The CRL is out of date.",
            lambda scenario: replace(scenario, kds=Mode(crl_age=timedelta(days=60))),
            "snp.revocation.unknown",
            "AT-28",
        ),
        "no-crl": Attack(
            "The key distribution service is down.",
            lambda scenario: replace(scenario, kds=Mode(outage=True)),
            "snp.revocation.unknown",
            "AT-28",
        ),
    }
)
"""Name to attack; each must be refused, or where no decision is possible, indeterminate."""


def masked_chip(scenario: Scenario) -> Scenario:
    """An honest host that hides which chip it is: accepted, with a caveat."""
    return _chip(mask_chip_id=True)(scenario)


def vlek(scenario: Scenario, csp_id: str = "CN=cc-test.invalid") -> Scenario:
    """An honest cloud that signs with its VLEK: it names the cloud, and no chip (AT-61)."""
    return _chip(mask_chip_id=True, vlek_csp=csp_id)(scenario)
