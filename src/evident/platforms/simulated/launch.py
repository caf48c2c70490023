"""Confidential VMs that exist only in this program: launched on the simulator's secure processor, and worth as much.

A machine is a directory: ``machine.json`` and the images its owner ordered. Nothing runs between two questions; the simulated
chip's keys make the answers consistent. What the *host* really launches may differ: that is what `Order.attack` is for.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from evident import codec
from evident.appraisal.policy import Policy, RequiredLevels
from evident.errors import Malformed, UsageError
from evident.files import read_private, write_private, write_private_bytes
from evident.platforms.driver import Believed, Collected, Expectation, Surroundings
from evident.platforms.order import Order
from evident.platforms.simulated import collector
from evident.reference_values.model import LAYERS
from evident.simulator.guest import VmState
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import ATTACKS, Scenario, sample_launch
from evident.simulator.vmm import LaunchDescription
from evident.verification.credential import NamedKey

IMAGES = ("firmware", "kernel", "initrd")


@dataclass(frozen=True, slots=True)
class _Machine:
    """``machine.json``: the owner's order, by digest, and what makes this launch unique."""

    version: Literal[1]
    images: dict[str, bytes]
    """Image to SHA-256 of the file beside this one."""
    command_line: str
    vcpus: int
    report_id: bytes
    attack: str | None = None


class SimulatedPlatform:
    """The driver; see `evident.platforms.driver.Driver`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @cached_property
    def _pki(self) -> SimulatorPki:
        around = self._surroundings
        return SimulatorPki.load_or_generate(around.state / "simulator", made_at=around.clock(), progress=around.progress)

    def profile(self, machine: Path) -> str:  # noqa: ARG002  # the same for all
        return "simulated"

    def parameters(self, machine: Path) -> Mapping[str, str]:  # noqa: ARG002  # the same for all
        return {"evident.tee": "simulated"}

    def room(self, machine: Path, order: Order) -> bool:  # noqa: ARG002  # nothing runs here
        return True

    def launch(self, machine: Path, order: Order) -> Expectation:
        if order.attack is not None and order.attack not in ATTACKS:
            raise UsageError.of(
                "simulated.attack",
                expected="an attack among " + ", ".join(ATTACKS),
                found=repr(order.attack),
                remedy="Choose one of them, or leave it out for an honest host.",
            )
        wanted = _description(order)
        images = {"firmware": wanted.firmware, "kernel": wanted.kernel, "initrd": wanted.initrd}
        for name, content in images.items():
            write_private_bytes(machine / name, content)
        stored = _Machine(
            version=1,
            images={name: hashlib.sha256(content).digest() for name, content in images.items()},
            command_line=wanted.command_line,
            vcpus=wanted.vcpus,
            report_id=self._surroundings.randomness(32),
            attack=order.attack,
        )
        write_private(machine / "machine.json", codec.encode(stored))
        running = self._scenario(machine)
        running.start()  # refusals of the secure processor belong here, not to the first question
        return Expectation(running.reference, _policy(running))

    def settle(self, machine: Path) -> None:
        """Nothing boots here."""

    def start(self, machine: Path) -> None:
        """Nothing runs here, so nothing has stopped."""

    def halt(self, machine: Path) -> None:
        """Nothing runs here."""

    def parts(self, machine: Path) -> Mapping[str, bool]:  # noqa: ARG002  # nothing runs between two questions
        return {}

    def addresses(self, machine: Path) -> Mapping[int, str]:  # noqa: ARG002  # nothing serves
        return {}

    def collect(self, machine: Path, nonce: bytes) -> Collected:
        return collector.collect(self._scenario(machine), nonce)

    def believed(self, machine: Path) -> Believed:
        running = self._scenario(machine)
        kds = SimulatedKds(running.pki, clock=self._surroundings.clock, mode=running.kds)
        fetcher = KdsFetcher(kds, clock=self._surroundings.clock)
        return Believed(running.pki.anchors(), frozenset({"simulated-root"}), fetcher)

    def endorsement_key(self, machine: Path) -> NamedKey | None:  # noqa: ARG002  # no simulated machine has a TPM
        return None

    def destroy(self, machine: Path) -> None:
        if machine.exists():
            shutil.rmtree(machine)

    def _scenario(self, machine: Path) -> Scenario:
        stored = codec.decode(_Machine, codec.loads(read_private(machine / "machine.json"), "simulated"), "simulated")
        images = {name: _image(machine, stored, name) for name in IMAGES}
        launch = LaunchDescription(
            firmware=images["firmware"],
            kernel=images["kernel"],
            initrd=images["initrd"],
            command_line=stored.command_line,
            kernel_hashes=bool(images["kernel"]),
            vcpus=stored.vcpus,
        )
        now = self._surroundings.clock()
        honest = Scenario(pki=self._pki, at=now, owner=launch, launched=launch, state=VmState(stored.report_id))
        return honest if stored.attack is None else ATTACKS[stored.attack].on(honest)


def driver(surroundings: Surroundings) -> SimulatedPlatform:
    return SimulatedPlatform(surroundings)


def _description(order: Order) -> LaunchDescription:
    """The order, completed: all of the TEST images, or none when the owner brings a kernel."""
    sample = sample_launch()
    own_kernel = order.kernel is not None
    if not own_kernel and (order.initrd is not None or order.command_line is not None):
        raise UsageError.of(
            "simulated.images",
            expected="a kernel with the initrd or command line",
            found="none",
            remedy="Pass the kernel too, or leave all of them out for TEST images.",
        )
    return LaunchDescription(
        firmware=sample.firmware if order.firmware is None else order.firmware,
        kernel=order.kernel or sample.kernel,
        initrd=(order.initrd or b"") if own_kernel else sample.initrd,
        command_line=(order.command_line or "") if own_kernel else sample.command_line,
        vcpus=order.vcpus,
    )


def _policy(running: Scenario) -> Policy:
    """Demand every level that the reference values settle; on simulated hardware and nowhere else."""
    settled = {layer for value in running.reference.values for layer in value.layers}
    level = max(LAYERS.index(layer) for layer in settled) + 1
    strict = running.policy
    return Policy(
        version=1,
        name="simulated, strict",
        levels=RequiredLevels(nominal=level, trustworthy=level),
        allow_simulated=True,
        technologies=strict.technologies,
    )


def _image(machine: Path, stored: _Machine, name: str) -> bytes:
    content = read_private(machine / name)
    if hashlib.sha256(content).digest() != stored.images.get(name):
        raise Malformed.of(
            "simulated.image",
            expected=f"{name} as it was ordered",
            found="another file",
            remedy="Destroy this deployment (evident down) and create it anew.",
        )
    return content
