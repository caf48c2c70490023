"""The first process of the machine (PID 1): attests, opens the disk, verifies the root, and starts the image's units on it.

    1 devices   2 network   3 key   4 challenge   5 evidence   6 release   7 luks   8 secrets   9 verity   10 root

Mode ``encrypted`` runs all but 8, ``integrity`` leaves out 7, ``microcvm`` has no disk and leaves out 9 and 10 too. Those two ask for
nothing, and leave out 3 to 6, unless the command line has a name under which they ask for leave. A disk that reopens without the key server
(`evident.guest.steps.reopen`) leaves them out too. Step 8 is where there are any. Steps 3 to 8 run in a process of their own
(`evident.guest.apart`). Where the image attests by SPIRE, 3 to 5 are others (`evident.guest.steps.spire`). Every step says on the
console when it began and how long it took. Any failure says its code and switches the machine off: there is no shell here and no other
way in.

Everything is imported before the first step, because the initrd's files are out of reach once the root is switched.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from evident.errors import EvidentError, NotAuthentic
from evident.guest import apart, collectors, libc, login
from evident.guest.agent import Agent
from evident.guest.config import CommandLine, Configuration, check_way, parse_command_line, parse_configuration
from evident.guest.console import Console, code_of, reason
from evident.guest.http import Server
from evident.guest.source import Evidence
from evident.guest.steps import devices, disk, measure, network, reopen, root, secrets, spire
from evident.guest.supervise import Supervisor
from evident.keys.messages import Volume

COMMAND_LINE = Path("/proc/cmdline")
CONFIGURATION = Path("/etc/evident/guest.json")
CONSOLE = "/dev/console"
OPENED, VERIFIED = "evident-data", "evident-root"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the measurement says of this machine."""

    line: CommandLine
    configuration: Configuration
    initrd: int | None = None
    """The initrd's own mounts, where something goes on running among them."""


def boot(console: Console) -> Machine:
    """Steps 1 to 10. Raises `EvidentError` or `OSError` at the first that does not hold."""
    with console.step("devices"):
        devices.mount_kernel_file_systems()
        machine = Machine(parse_command_line(COMMAND_LINE.read_text()), parse_configuration(CONFIGURATION.read_bytes()))
        check_way(machine.line, machine.configuration)
        if machine.configuration.ima:
            measure.begin()
        loaded, refused = devices.load_modules()
        devices.mount_optional()
        console.say(
            f"mode {machine.line.mode}, evidence {machine.line.tee}, {loaded} kernel modules; without " + (", ".join(refused) or "none")
        )
    _network(console, machine.line)
    if machine.line.asks:
        apart.run(lambda: _released(console, machine))
    else:
        secrets.check(machine.configuration.units, ())
    if machine.configuration.svids:
        machine = replace(machine, initrd=libc.leave_mounts())
    if machine.line.mode == "microcvm":
        root.writable(machine.configuration.tmpfs, Path("/"))
    else:
        _root(console, machine)
    return machine


def _released(console: Console, machine: Machine) -> None:
    """Steps 3 to 8: everything that touches the disk's key and the secrets. A disk that reopens needs 7 alone."""
    line = machine.line
    if line.reopened and reopen.opened(console, line, OPENED):
        secrets.check(machine.configuration.units, ())
        return
    volume = spire.attest(console, line) if line.key_server else attest(console, line)
    if line.mode == "encrypted":
        check_root(line, volume)
        device = disk.partition(line.data)
        if line.reopened:
            reopen.enrol(console, line, device, volume.key)
        with console.step("luks"):
            disk.open_luks(device, OPENED, volume.key, mend=bool(line.reopened))
    if volume.secrets or any(unit.secrets for unit in machine.configuration.units):
        with console.step("secrets"):
            secrets.write(machine.configuration.units, volume.secrets)
            console.say(f"{len(volume.secrets)} in {secrets.PLACE}")


def _root(console: Console, machine: Machine) -> None:
    data, tree, offset = _devices(machine.line)
    with console.step("verity"):
        verified = disk.open_verity(data, tree, machine.line.root_hash, VERIFIED, offset=offset)
    with console.step("root"):
        kind = root.mount(verified)
        root.writable(machine.configuration.tmpfs, root.NEW_ROOT)
        root.switch()
        console.say(f"root is {kind} {machine.line.root_hash.hex()}, read-only")


def _network(console: Console, line: CommandLine) -> None:
    needed = bool(line.verifier[0] or line.attest)
    with console.step("network"):
        address = network.bring_up(line.network) if needed else None
        console.say(f"address {address.address}/{address.prefix}" if address else "no network wanted")


def _devices(line: CommandLine) -> tuple[Path, Path, int]:
    """Data device, device of the hash tree, and where that begins."""
    if line.mode == "encrypted":
        opened = disk.MAPPED / OPENED
        return opened, opened, line.hash_offset
    return disk.partition(line.root), disk.partition(line.hash), 0


def check_root(line: CommandLine, volume: Volume) -> None:
    """The key server and the measured command line mean the same root file system; `NotAuthentic` ``guest.root-hash`` otherwise."""
    if volume.root_hash is not None and volume.root_hash != line.root_hash:
        raise NotAuthentic.of(
            "guest.root-hash",
            expected=f"the root file system {volume.root_hash.hex()}, which belongs to this key",
            found=f"{line.root_hash.hex()} on the command line",
            remedy="The disk is another image's: register the disk of this one.",
            layer="root_filesystem",
        )


def attest(console: Console, line: CommandLine) -> Volume:
    """Steps 3 to 6: from no key at all to the disk key and secrets."""
    with console.step("key"):
        agent = Agent(Server(*line.verifier), pinned=line.key, disk=line.asks)
    with console.step("challenge"):
        agent.challenge()
    with console.step("evidence"):
        evidence, *beside = collectors.answer(collectors.sources(line.tee), agent.question)
        for item in (evidence, *beside):
            console.say(f"evidence by {item.source}: " + sizes(item))
    with console.step("release"):
        volume = agent.release(evidence, tuple(beside))
        console.say(f"released for {volume.disk}: " + ", ".join((*(("its key",) if volume.key else ()), *sorted(volume.secrets))))
    return volume


def sizes(evidence: Evidence) -> str:
    """Roles and bytes, for the console."""
    return ", ".join(f"{role} {sum(map(len, contents))} bytes" for role, contents in evidence.pieces.items())


def main() -> None:
    """Boot, then look after the units until the machine's end; every way out is the power switch."""
    console = _console()
    try:
        machine = boot(console)
        supervisor, configured = Supervisor(console, machine.line), machine.configuration
        for unit in configured.units:
            if unit.tls_names:
                supervisor.certify(unit.tls_names, unit.owner)
        keys = configured.ssh_authorized_keys
        own = (login.unit(keys, supervisor.write_host_key()),) if keys else ()
        agent = () if machine.initrd is None else (spire.unit(machine.line),)
        elsewhere = {} if machine.initrd is None else {spire.FOR_UNITS: machine.initrd}
        supervisor.run((*agent, *own, *configured.units), elsewhere)
    except (EvidentError, OSError) as error:
        console.say(f"failed {reason(error)}")
        console.say(f"no way on: switching off ({code_of(error)})")
    except BaseException as error:  # a defect of ours must not become a way in: say it, and switch off
        console.say(f"failed guest.defect: {type(error).__name__}")
        raise
    finally:
        libc.power_off()


def _console() -> Console:
    """The console device, opened anew: PID 1 may come without standard streams."""
    try:
        devices.mount_kernel_file_systems()
        descriptor = os.open(CONSOLE, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        descriptor = sys.__stderr__.fileno() if sys.__stderr__ else 2

    def write(text: str) -> None:
        try:
            os.write(descriptor, text.encode("ascii", "replace"))
        except OSError:
            return  # nobody hears us; the boot goes on, and fails closed all the same

    return Console(write)


if __name__ == "__main__":
    main()
