"""What a real boot needs: QEMU, OVMF, swtpm and a kernel of Debian's; without them these tests are skipped, and say so.

Debian: qemu-system-x86 ovmf swtpm linux-image-cloud-amd64 (its kernel is only read; set EVIDENT_KERNEL to use another).
"""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.lifecycle.deployment import Deployment, deployment, deployments
from evident.lifecycle.farewell import down
from evident.platforms.driver import Surroundings
from evident.platforms.qemu import probe
from evident.simulator.pki import SimulatorPki

BOOT_SECONDS = 180.0
PROGRAMS = (probe.PROGRAM, probe.SWTPM)


def kernel_path() -> Path | None:
    named = os.environ.get("EVIDENT_KERNEL")
    found = [Path(named)] if named else sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64")) or sorted(Path("/boot").glob("vmlinuz-*-amd64"))
    return found[-1] if found and os.access(found[-1], os.R_OK) else None


def missing() -> list[str]:
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    absent += [] if any(Path(path).is_file() for path in probe.FIRMWARE) else ["OVMF.fd"]
    return absent + ([] if kernel_path() else ["a kernel in /boot"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.boot)
            if absent:
                item.add_marker(pytest.mark.skip(reason=f"no real boot: {', '.join(absent)} not installed"))


@pytest.fixture(scope="session")
def kernel() -> bytes:
    path = kernel_path()
    assert path is not None
    return path.read_bytes()


@pytest.fixture
def around(tmp_path: Path, simulator_pki: SimulatorPki) -> Iterator[Surroundings]:
    """A state directory with TEST keys; whatever was launched in it is gone afterwards."""
    simulator_pki.save(tmp_path / "state" / "simulator")
    surroundings = Surroundings(tmp_path / "state", lambda: datetime.now(UTC), os.urandom, print)
    yield surroundings
    for each in deployments(surroundings):
        down(each)


@pytest.fixture
def named(around: Surroundings) -> Callable[[str], Deployment]:
    return lambda name: deployment(name, around)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    def wait(condition: Callable[[], bool], what: str, *, seconds: float = BOOT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
            time.sleep(0.1)

    return wait


@pytest.fixture(scope="session")
def speaking_initrd() -> Callable[[bytes], bytes]:
    """An initrd that writes a text to the console and turns the machine off."""
    return lambda text: initrd_of(speaking_init(text))


def speaking_init(text: bytes) -> bytes:
    """An ELF program that writes `text` and turns the machine off: the smallest thing a kernel can run."""
    code = b""
    for number, arguments in ((1, (1, None, len(text))), (169, (0xFEE1DEAD, 0x28121969, 0x4321FEDC))):
        registers = (0xB8, number), *zip((0xBF, 0xBE, 0xBA), arguments, strict=True)  # eax, edi, esi, edx
        for opcode, value in registers:
            code += bytes((opcode,)) + struct.pack("<I", 0x400000 + 120 + 46 if value is None else value)
        code += b"\x0f\x05"
    code += b"\xeb\xfe"
    assert len(code) == 46
    size = 120 + len(code) + len(text)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096) + code + text


def initrd_of(init: bytes) -> bytes:
    """A cpio archive (newc) with ``/init`` alone."""
    archive = b""
    for name, mode, data in (("init", 0o100755, init), ("TRAILER!!!", 0, b"")):
        fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return archive
