"""A kernel of Debian's boots on the machine that `evident up` makes, and is gone when `evident down` says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from evident import processes
from evident.errors import Malformed
from evident.lifecycle.deployment import Deployment, up
from evident.lifecycle.farewell import down
from evident.platforms.order import Order
from evident.platforms.qemu import console
from evident.reference_values.kernel_hashes import KernelHashes

Named = Callable[[str], Deployment]
SAYS = b"evident: step 1 devices start\nevident: step 1 devices done 0.5\n\x1b[2Jnot yours to clear\n"
COMMAND_LINE = "console=ttyS0 ro evident.tee=simulated"


def test_a_boot_from_power_on_to_power_off(
    named: Named, kernel: bytes, speaking_initrd: Callable[[bytes], bytes], eventually: Callable[..., None]
) -> None:
    initrd = speaking_initrd(SAYS)
    desk = named("desk")
    up(desk, "qemu", Order(kernel=kernel, initrd=initrd, command_line=COMMAND_LINE))
    assert desk.journal.state == "launched"
    assert desk.driver().parts(desk.machine) == {"attendant": True, "qemu": True, "swtpm": True}
    eventually(lambda: not any(desk.driver().parts(desk.machine).values()), "power off")

    assert [(step.number, step.name, step.event) for step in console.steps(desk.machine)] == [
        (1, "devices", "start"),
        (1, "devices", "done"),
    ]
    text = (desk.machine / console.HEAD).read_text()
    assert "\x1b" not in text
    assert "reboot: Power down" in text
    assert f"Command line: {COMMAND_LINE}" in text
    value = desk.references.values[0]
    assert value.components.items() >= KernelHashes.of(kernel, initrd, COMMAND_LINE).components().items()
    assert value.layers == ("firmware", "boot_chain")
    assert down(desk)
    assert not desk.machine.exists()


def test_a_machine_that_has_ended_is_started_again(named: Named, kernel: bytes, eventually: Callable[..., None]) -> None:
    desk = named("desk")
    up(desk, "qemu", Order(kernel=kernel, command_line=COMMAND_LINE, memory_mib=256))
    before = processes.recorded(desk.machine)
    desk.driver().start(desk.machine)
    assert processes.recorded(desk.machine) == before, "it runs"
    desk.driver().halt(desk.machine)
    eventually(lambda: not any(desk.driver().parts(desk.machine).values()), "power off")
    desk.driver().start(desk.machine)
    assert all(desk.driver().parts(desk.machine).values())
    desk.driver().halt(desk.machine)
    (desk.machine / "kernel").write_bytes(b"another")
    with pytest.raises(Malformed, match=r"qemu\.image"):
        desk.driver().start(desk.machine)
    down(desk)


def test_a_guest_that_crashes_leaves_nothing_running(
    named: Named, kernel: bytes, overlay: Callable[[Mapping[str, bytes]], bytes], eventually: Callable[..., None]
) -> None:
    desk = named("desk")
    up(desk, "qemu", Order(kernel=kernel, initrd=overlay({"init": b"no program"}), command_line=f"{COMMAND_LINE} panic=-1"))
    before = processes.recorded(desk.machine)
    eventually(lambda: not any(desk.driver().parts(desk.machine).values()), "the end of a machine whose kernel panicked")
    assert "Kernel panic" in (desk.machine / console.HEAD).read_text()
    assert down(desk)
    assert not any(process.alive for process in before)


@pytest.mark.parametrize("killed", ["attendant", "qemu", "swtpm"])
def test_whichever_process_is_killed_down_removes_the_others(named: Named, kernel: bytes, killed: str) -> None:
    desk = named(f"desk-{killed}")
    up(desk, "qemu", Order(kernel=kernel, command_line=COMMAND_LINE, memory_mib=256))
    before = processes.recorded(desk.machine)
    victim = next(process for process in before if process.role == killed)
    victim.stop(grace=0.0)
    assert desk.driver().parts(desk.machine)[killed] is False
    assert down(desk)
    assert not any(process.alive for process in before)
    assert not Path(desk.machine).exists()
