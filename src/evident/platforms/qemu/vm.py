"""The command line of QEMU for one machine: no default devices, no display, nothing reachable but what is named here.

Pure: words in, words out. Paths are relative to the machine's directory, in which QEMU runs; what is outside of it (disks) is absolute.
Source: QEMU's manual page and system/i386/amd-memory-encryption.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from evident.evidence import sp_channel
from evident.platforms.order import Disk
from evident.platforms.qemu import swtpm

ROLE: Final = "qemu"
CONSOLE_SOCKET: Final = "console.sock"
PROCESSOR_SOCKET: Final = "processor.sock"
QMP_SOCKET: Final = "qmp.sock"
CPU_TYPE: Final = "EPYC-v4"
"""The model of an SNP guest: its signature is measured."""


@dataclass(frozen=True, slots=True)
class Snp:
    """How this host encrypts memory, as QEMU's `query-sev-capabilities` says."""

    cbitpos: int
    reduced_phys_bits: int
    policy: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that QEMU is told."""

    accelerator: Literal["kvm", "tcg"]
    firmware: str
    kernel: str | None = None
    initrd: str | None = None
    command_line: str = ""
    vcpus: int = 1
    memory_mib: int = 1024
    disks: tuple[Disk, ...] = ()
    tpm: bool = False
    snp: Snp | None = None
    """None: no confidential guest; the simulated secure processor is attached instead."""
    reaches: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Address in the guest's network, and the command whose standard streams are what it finds there, run once per connection; none: the
    guest reaches nobody.
    """
    served: tuple[int, ...] = ()
    """TCP ports of the guest that are reachable on the host's 127.0.0.1, at ports of QEMU's choice."""
    paused: bool = False
    """Do not run until told to."""


def argv(machine: Machine, program: str = "qemu-system-x86_64") -> tuple[str, ...]:
    """The whole command line of `machine`."""
    return (
        program,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        # Not elevateprivileges=deny: it forbids setsid(2) too, and with it the relay.
        *("-sandbox", "on,obsolete=deny,resourcecontrol=deny"),
        *_platform(machine),
        *("-smp", str(machine.vcpus), "-m", f"{machine.memory_mib}M", "-bios", machine.firmware),
        *(("-kernel", machine.kernel) if machine.kernel else ()),
        *(("-initrd", machine.initrd) if machine.initrd else ()),
        *(("-append", machine.command_line) if machine.kernel else ()),
        *("-chardev", f"socket,id=qmp,path={QMP_SOCKET},server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=console,path={CONSOLE_SOCKET}", "-serial", "chardev:console"),
        *("-device", "virtio-rng-pci"),
        *(swtpm.device() if machine.tpm else ()),
        *(_processor() if machine.snp is None else ()),
        *_disks(machine.disks, boots=machine.kernel is None),
        *_network(machine),
        *(("-S",) if machine.paused else ()),
    )


def _platform(machine: Machine) -> tuple[str, ...]:
    snp = machine.snp
    if snp is None:
        # One thread per vCPU where code is translated; the model changes nothing that the simulated processor measures.
        accelerator = "kvm" if machine.accelerator == "kvm" else "tcg,thread=multi"
        return ("-machine", "q35", "-accel", accelerator, "-cpu", "host" if machine.accelerator == "kvm" else "max")
    sev = f"sev-snp-guest,id=sev,policy={snp.policy:#x},cbitpos={snp.cbitpos},reduced-phys-bits={snp.reduced_phys_bits}"
    return (
        *("-machine", "q35,confidential-guest-support=sev,memory-backend=ram", "-accel", "kvm", "-cpu", CPU_TYPE),
        *("-object", f"memory-backend-memfd,id=ram,size={machine.memory_mib}M,share=true"),
        *("-object", sev + (",kernel-hashes=on" if machine.kernel else "")),
    )


def _processor() -> tuple[str, ...]:
    return (
        *("-chardev", f"socket,id=processor,path={PROCESSOR_SOCKET}", "-device", "virtio-serial-pci"),
        *("-device", f"virtserialport,chardev=processor,name={sp_channel.PORT}"),
    )


def _disks(disks: Sequence[Disk], *, boots: bool) -> tuple[str, ...]:
    """`boots`: the first is what firmware starts, and the only thing that it tries (PCR 4 records every attempt)."""
    words: list[str] = []
    for number, disk in enumerate(disks):
        node = {
            "node-name": f"disk{number}",
            "driver": "raw",
            "read-only": disk.read_only,
            "file": {"driver": "file", "filename": disk.path, "read-only": disk.read_only},
        }
        first = ",bootindex=0" if boots and number == 0 else ""
        words += ["-blockdev", json.dumps(node, sort_keys=True), "-device", f"virtio-blk-pci,drive=disk{number},serial=disk{number}{first}"]
    return tuple(words)


def _network(machine: Machine) -> tuple[str, ...]:
    if not machine.reaches and not machine.served:
        return ()
    network: dict[str, object] = {"type": "user", "id": "net", "restrict": True, "ipv6": False, "net": "10.0.2.0/24"}
    if machine.reaches:
        network["guestfwd"] = [{"str": f"tcp:{address}-cmd:{shlex.join(command)}"} for address, command in machine.reaches]
    if machine.served:
        network["hostfwd"] = [{"str": f"tcp:127.0.0.1:0-:{port}"} for port in machine.served]
    return ("-netdev", json.dumps(network, sort_keys=True), "-device", "virtio-net-pci,netdev=net,romfile=")
