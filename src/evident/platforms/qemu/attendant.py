"""The host process that attends to one machine: keeps its console, and plays its secure processor where hardware has none.

    python -m evident.platforms.qemu.attendant [--simulator DIRECTORY]

in the machine's directory. QEMU connects to the sockets that it listens on; it ends when QEMU has ended, or never came. What it
simulates is the chip of one launch: the measurement is taken from the very files that QEMU is given (`order.Launch`).
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from pathlib import Path
from typing import Final

from evident.errors import EvidentError
from evident.platforms.qemu import vm
from evident.platforms.qemu.console import ConsoleLog
from evident.platforms.qemu.order import read_launch
from evident.simulator.channel import SecureProcessorChannel
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import Chip, SecureProcessor
from evident.simulator.vmm import boot

ROLE: Final = "attendant"
_PATIENCE: Final = 60.0
"""Seconds to wait for QEMU."""


def argv(python: str, simulator: Path | None) -> tuple[str, ...]:
    """Its command line; `simulator` holds the TEST keys, None for a machine on real hardware."""
    simulated = ("--simulator", str(simulator)) if simulator else ()
    return (python, "-P", "-m", "evident.platforms.qemu.attendant", *simulated)


def attend(machine: Path, simulator: Path | None) -> None:
    """Serve until QEMU's console closes."""
    began = time.monotonic()
    channel = None if simulator is None else _processor(machine, simulator)
    # The console's socket is the last to appear: whoever sees it knows that everything is there.
    processor = _listen(machine / vm.PROCESSOR_SOCKET) if channel else None
    console = _listen(machine / vm.CONSOLE_SOCKET)
    if processor is not None and channel is not None:
        threading.Thread(target=_answer, args=(processor, channel), daemon=True).start()
    stream, _ = console.accept()
    stream.settimeout(None)
    with ConsoleLog(machine, began=began, clock=time.monotonic) as log, stream:
        while chunk := stream.recv(65536):
            log.write(chunk)


def _processor(machine: Path, simulator: Path) -> SecureProcessorChannel:
    stored = read_launch(machine)
    processor = SecureProcessor(SimulatorPki.load(simulator), Chip(), randomness=lambda count: stored.report_id[:count])
    launched = stored.description(machine)
    return SecureProcessorChannel(boot(processor, launched), processor.certificate_table(), launched)


def _answer(listener: socket.socket, channel: SecureProcessorChannel) -> None:
    stream, _ = listener.accept()
    stream.settimeout(None)
    with stream:
        try:
            channel.serve(stream)
        except (EvidentError, OSError) as error:
            print(f"secure processor: {error}", flush=True)  # noqa: T201  # its standard output is its log


def _listen(path: Path) -> socket.socket:
    """A listening Unix socket in the working directory, so that its address is short."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(_PATIENCE)
    listener.bind(path.name)
    listener.listen(1)
    return listener


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulator", type=Path)
    attend(Path(), parser.parse_args().simulator)
