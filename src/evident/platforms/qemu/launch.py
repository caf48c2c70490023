"""Machines on this host: QEMU, OVMF, swtpm, and SEV-SNP where the host has it; else a simulated secure processor, and labelled so.

Three processes per machine, all in its directory and all on record before they do anything (`processes`): the attendant (console,
and the simulated chip), swtpm, QEMU. They outlive the command that started them and end with QEMU.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from evident import processes
from evident.appraisal.policy import Policy, RequiredLevels
from evident.errors import EvidentError, PolicyRefused, UsageError
from evident.evidence import disk as partitions
from evident.evidence import uki
from evident.files import read_private, write_private_bytes
from evident.platforms.driver import KEY_SERVER, PORT_FILE, SPIRE_FILE, SPIRE_SERVER, Believed, Collected, Expectation, Surroundings
from evident.platforms.order import Disk, Order
from evident.platforms.qemu import attendant, collector, console, firmware, host, probe, qmp, relay, room, swtpm, vm
from evident.platforms.qemu.order import FILE as LAUNCH_FILE
from evident.platforms.qemu.order import FIRMWARE, INITRD, KERNEL, Launch, check_images, read_launch, write_launch
from evident.platforms.qemu.profile import BY_UKI
from evident.processes import Process
from evident.reference_values import pcr, programs
from evident.reference_values.model import ReferenceSet, ReferenceValue, by_tpm, level
from evident.reference_values.pcr import Prediction, SecureBootVariables
from evident.reference_values.snp_reference import snp_reference
from evident.reference_values.uki import REMOVABLE_PATH
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.verification import snp_tpm
from evident.verification.credential import NamedKey

START_SECONDS: Final = 60.0
"""How long a process may take until its socket is there."""
BOOT_SECONDS: Final = 900.0
"""How long a guest may take, emulated on a busy host."""
AGENT: Final = "evident.mode="
"""A command line with this starts Evident's guest, which says when it is ready."""
TEE: Final = "evident.tee"
VERIFIER: Final = "evident.verifier"
SPIRE: Final = "evident.spire"
BANK: Final = "sha256"
"""Of the TPM's PCRs that the guest quotes."""
READY: Final = "evident: every unit started"
_FAILED = re.compile(r"evident: failed ([a-z0-9.-]+)")
_POWERDOWN_SECONDS: Final = 3.0
_QUIT_SECONDS: Final = 5.0


class QemuPlatform:
    """The driver; see `evident.platforms.driver.Driver`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @property
    def _simulator(self) -> Path:
        return self._surroundings.state / "simulator"

    @cached_property
    def _pki(self) -> SimulatorPki:
        around = self._surroundings
        return SimulatorPki.load_or_generate(self._simulator, made_at=around.clock(), progress=around.progress)

    def profile(self, machine: Path) -> str:
        return "qemu-snp" if KERNEL in read_launch(machine).images else BY_UKI

    def parameters(self, machine: Path) -> Mapping[str, str]:
        machine.mkdir(mode=0o700, parents=True, exist_ok=True)
        runs = (machine / LAUNCH_FILE).exists()  # then its monitor has the probe's place, and this host has been probed
        snp = read_launch(machine).snp if runs else probe.snp(machine)
        return {TEE: "simulated" if snp is None else "hardware"}

    def room(self, machine: Path, order: Order) -> bool:
        return room.beside(read_launch(machine), order)

    def launch(self, machine: Path, order: Order) -> Expectation:
        order = _with_firmware(order)
        _check(order)
        self._clear(machine)
        launch = self._prepare(machine, order)
        expectation = _expectation(machine, launch, _measured(order))  # of what was ordered, before anybody has a hand on the files
        self._start(machine, launch)
        return expectation

    def settle(self, machine: Path) -> None:
        if AGENT in read_launch(machine).command_line:
            _follow(machine, self._surroundings.progress)

    def collect(self, machine: Path, nonce: bytes) -> Collected:
        return collector.collect(machine, nonce)

    def believed(self, machine: Path) -> Believed:
        if read_launch(machine).snp is not None:
            return Believed()
        kds = SimulatedKds(self._pki, clock=self._surroundings.clock)
        return Believed(self._pki.anchors(), frozenset({"simulated-root"}), KdsFetcher(kds, clock=self._surroundings.clock))

    def endorsement_key(self, machine: Path) -> NamedKey | None:  # noqa: ARG002  # the host's own TPM: its word is the owner's already
        return None

    def parts(self, machine: Path) -> Mapping[str, bool]:
        return {process.role: process.alive for process in processes.recorded(machine)}

    def addresses(self, machine: Path) -> Mapping[int, str]:
        with qmp.monitor(machine) as talk:
            reached = talk.forwarded()
        return {port: f"127.0.0.1:{reached[port]}" for port in read_launch(machine).published if port in reached}

    def start(self, machine: Path) -> None:
        if self.parts(machine).get(vm.ROLE):
            return
        launch = read_launch(machine)
        check_images(machine, launch)
        stop(machine)  # what has not ended with it
        for left in (vm.CONSOLE_SOCKET, vm.PROCESSOR_SOCKET, vm.QMP_SOCKET, swtpm.SOCKET, console.HEAD, console.TAIL):
            (machine / left).unlink(missing_ok=True)  # they would say that everything is there, and has booted
        self._start(machine, launch)

    def halt(self, machine: Path) -> None:
        stop(machine)

    def destroy(self, machine: Path) -> None:
        self._clear(machine)

    def _clear(self, machine: Path) -> None:
        """Stop whatever runs in `machine`, and remove it."""
        if machine.exists():
            stop(machine)
            shutil.rmtree(machine)

    def _prepare(self, machine: Path, order: Order) -> Launch:
        """Everything on disk that the processes need."""
        around = self._surroundings
        image = order.firmware or probe.firmware()
        machine.mkdir(mode=0o700, parents=True, exist_ok=True)
        snp = probe.snp(machine)
        if snp is None:
            self._pki  # noqa: B018  # made now, with its progress shown; the attendant only reads it
            image = firmware.with_hash_page(image) if order.kernel else image
        elif order.kernel and not firmware.enforces_hashes(image):
            raise _no_hashes()
        line = _command_line(order)
        _check_label(line, simulated=snp is None)
        kvm = probe.kvm(machine, image)
        around.progress(f"KVM {'works' if kvm.works else 'is not used'}: {kvm.why}")
        images = {FIRMWARE: image, **({KERNEL: order.kernel} if order.kernel else {}), **({INITRD: order.initrd} if order.initrd else {})}
        for name, content in images.items():
            write_private_bytes(machine / name, content)
        (machine / swtpm.STATE).mkdir(mode=0o700, exist_ok=True)
        launch = Launch(
            version=1,
            images={name: hashlib.sha256(content).digest() for name, content in images.items()},
            command_line=line,
            vcpus=order.vcpus,
            memory_mib=order.memory_mib,
            accelerator="kvm" if kvm.works else "tcg",
            report_id=around.randomness(32),
            disks=order.disks,
            published=order.published,
            snp=snp,
        )
        write_launch(machine, launch)
        return launch

    def _start(self, machine: Path, launch: Launch) -> None:
        """Attendant, TPM, QEMU, in the order in which they need one another."""
        simulator = self._simulator if launch.snp is None else None
        self._surroundings.progress("starting " + ("a simulated secure processor, " if simulator else "") + "swtpm and QEMU")
        self._run(machine, attendant.ROLE, attendant.argv(sys.executable, simulator), vm.CONSOLE_SOCKET)
        self._run(machine, swtpm.ROLE, swtpm.argv(probe.program(host.SWTPM)), swtpm.SOCKET)
        self._run(machine, vm.ROLE, vm.argv(described(launch), probe.program(host.PROGRAM)), vm.QMP_SOCKET)
        with qmp.monitor(machine) as talk:
            talk.command("query-status")

    def _run(self, machine: Path, role: str, argv: tuple[str, ...], socket: str) -> None:
        """Start `role` and wait until its socket is there. Raises `UsageError` ``qemu.start``."""
        process = processes.start(machine, role, argv)
        deadline = time.monotonic() + START_SECONDS
        while not (machine / socket).exists():
            if time.monotonic() > deadline or process.wait(0.02):
                raise UsageError.of(
                    "qemu.start",
                    expected=f"{role} to start",
                    found=processes.output(machine, role) or "that it ended, or said nothing",
                    remedy=f"See {machine / role}.log; `evident down` removes what was started.",
                )


def stop(machine: Path) -> None:
    """End the machine's processes: power button, QEMU's own exit, and what a process cannot refuse; then all the others."""
    found = {process.role: process for process in processes.recorded(machine)}
    qemu = found.pop(vm.ROLE, None)
    if qemu is not None and qemu.alive:
        _leave(machine, qemu)
    for process in (*((qemu,) if qemu else ()), *found.values()):
        process.stop()


def _leave(machine: Path, qemu: Process) -> None:
    for command, seconds in (("system_powerdown", _POWERDOWN_SECONDS), ("quit", _QUIT_SECONDS)):
        try:
            with qmp.monitor(machine) as talk:
                if command == "system_powerdown" and talk.command("query-status")["status"] != "running":
                    continue  # nobody is there to see the button
                talk.command(command)
        except EvidentError:
            return  # its monitor does not answer: only signals are left
        if qemu.wait(seconds):
            return


def _follow(machine: Path, progress: Callable[[str], None]) -> None:
    """Tell of each step of the guest's boot until its units run. Raises `PolicyRefused` with the code that ended the boot."""
    deadline, told = time.monotonic() + BOOT_SECONDS, 0
    while True:
        running = any(process.role == vm.ROLE and process.alive for process in processes.recorded(machine))
        for step in console.steps(machine)[told:]:
            told += 1
            if step.event != "start":
                progress(f"boot step {step.number} {step.name}: {step.event} {step.rest}")
        text = [line for _, line in console.lines(machine)]
        if any(READY in line for line in text):
            return
        failure = next((line for line in text if _FAILED.search(line)), None)
        if failure is not None or not running or time.monotonic() > deadline:
            raise _boot_ended(machine, failure)
        time.sleep(0.2)


def _boot_ended(machine: Path, failure: str | None) -> EvidentError:
    found = _FAILED.search(failure) if failure else None
    return PolicyRefused.of(
        found[1] if found else "qemu.boot",
        expected="a guest that boots, gets its key and starts its units",
        found=failure or "that it ended, or took too long, without a word",
        remedy=f"Read {machine / console.HEAD}; where a key was denied, the release log says why.",
        layer="boot_chain",
    )


def described(launch: Launch) -> vm.Machine:
    """What QEMU is told of `launch`."""
    return vm.Machine(
        accelerator=launch.accelerator,
        firmware=FIRMWARE,
        kernel=KERNEL if KERNEL in launch.images else None,
        initrd=INITRD if INITRD in launch.images else None,
        command_line=launch.command_line,
        vcpus=launch.vcpus,
        memory_mib=launch.memory_mib,
        disks=launch.disks,
        tpm=launch.tpm,
        snp=launch.snp,
        reaches=tuple(
            (address, relay.argv(sys.executable, file))
            for parameter, address, file in ((VERIFIER, KEY_SERVER, PORT_FILE), (SPIRE, SPIRE_SERVER, SPIRE_FILE))
            if _said(launch.command_line, parameter)
        ),
        served=tuple(dict.fromkeys((*launch.published, *((asked,) if (asked := collector.agent_port(launch.command_line)) else ())))),
    )


def driver(surroundings: Surroundings) -> QemuPlatform:
    return QemuPlatform(surroundings)


def _said(command_line: str, parameter: str) -> str | None:
    """Value of a kernel parameter; None where it does not occur."""
    found = [word.partition("=")[2] for word in command_line.split() if word.partition("=")[0] == parameter]
    return found[-1] if found else None


def _with_firmware(order: Order) -> Order:
    """With the firmware that its settings name, unless it brings another."""
    named = order.where.get("firmware")
    return replace(order, firmware=read_private(Path(named))) if named and order.firmware is None else order


def _command_line(order: Order) -> str:
    """The kernel's, whichever way it is started."""
    return order.command_line or "" if order.kernel else disk_command_line(order.disks)


def disk_command_line(disks: Sequence[Disk]) -> str:
    """What the UKI says that firmware starts from the first disk; empty where there is none."""
    if not disks or not Path(disks[0].path).stat().st_size:
        return ""
    with Path(disks[0].path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as raw:
        try:
            return uki.parse(partitions.open_system_partition(raw).read(REMOVABLE_PATH)).command_line or ""
        except EvidentError:
            return ""  # a disk of data, or another boot loader's


def _check_label(command_line: str, *, simulated: bool) -> None:
    """The command line of Evident's guest says, and so measures, whether its secure processor is real."""
    right, said = "simulated" if simulated else "hardware", _said(command_line, TEE)
    if AGENT in command_line and said != right:
        raise UsageError.of(
            "qemu.tee",
            expected=f"{TEE}={right}: " + ("this host has no SEV-SNP that works" if simulated else "this host has SEV-SNP"),
            found=f"{TEE}={said}" if said else f"no {TEE}",
            remedy="Correct the command line, or launch the image again: `evident up` adds what is right on this host.",
        )


def _check(order: Order) -> None:
    if order.attack is not None:
        raise UsageError.of(
            "qemu.attack",
            expected="no attack: this platform starts real machines",
            found=repr(order.attack),
            remedy="Attacks by name are for --platform simulated; here, change the files yourself.",
        )
    if order.kernel is None and (order.initrd is not None or order.command_line is not None):
        raise UsageError.of(
            "qemu.images",
            expected="a kernel with the initrd or command line",
            found="none",
            remedy="Pass --kernel too, or boot from a disk that holds a UKI.",
        )
    for disk in order.disks:
        if not Path(disk.path).is_file():
            raise UsageError.of("qemu.disk", expected=f"a raw disk image at {disk.path}", found="none", remedy="Correct the path.")
    _check_reached("qemu.verifier", order, VERIFIER, KEY_SERVER)
    _check_reached("qemu.spire", order, SPIRE, SPIRE_SERVER)


def _check_reached(code: str, order: Order, parameter: str, address: str) -> None:
    found = _said(_command_line(order), parameter)
    if found not in (None, address):
        raise UsageError.of(
            code,
            expected=f"{parameter}={address}, where this platform lets a machine reach it",
            found=f"{parameter}={found}",
            remedy="Correct the command line.",
        )


def _measured(order: Order) -> tuple[ReferenceValue, ...]:
    """What was predicted; for a boot from the disk also what the distribution's firmware, which has no keys, measures of Secure Boot."""
    given = order.references.values if order.references else ()
    if not by_tpm(given) or order.kernel is not None or order.firmware is not None:
        return given
    off = Prediction(pcr.secure_boot_policy(SecureBootVariables(False), (BANK,)), assumptions=("firmware without Secure Boot keys",))
    return (*given, *pcr.references(off, bank=BANK, origin="the distribution's OVMF"))


def _expectation(machine: Path, launch: Launch, measured: Sequence[ReferenceValue]) -> Expectation:
    """Reference values recomputed from what is launched, and a policy that demands what they settle.

    What is `measured` by the TPM is the host's word, and counts for no trustworthy level.
    """
    loaded = bool(programs.among(measured))
    description = launch.description(machine)
    value = snp_reference(
        description.snp_launch(),
        command_line=description.command_line if description.hashes() else None,
        origin="images given to evident up",
    )
    policy = Policy(
        version=1,
        name="qemu, strict",
        levels=RequiredLevels(
            nominal=level((value, *measured)),
            trustworthy=level((value,)),
            verifiability={**RequiredLevels().verifiability, **({"userspace": 2} if loaded else {})},
        ),
        accepted_trust=(snp_tpm.OPERATOR,) if loaded or by_tpm(measured) else (),
        allow_simulated=launch.snp is None,
    )
    return Expectation(ReferenceSet(1, (value, *measured), "images given to evident up"), policy)


def _no_hashes() -> UsageError:
    return UsageError.of(
        "qemu.firmware-hashes",
        expected="firmware that compares the kernel with the measured hashes (OVMF's AmdSev build)",
        found="firmware without a page for them",
        remedy="Pass such firmware with --firmware, or boot a UKI from a disk.",
    )
