"""Room for a second machine on this host: memory for both, and no disk that both would write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evident.platforms.order import Disk, Order
from evident.platforms.qemu import room
from evident.platforms.qemu.order import Launch

OWN, NEXT, DATA = Disk("/disk-1.raw"), Disk("/disk-2.raw"), Disk("/data.raw")
RUNNING = Launch(1, {}, "", 1, 1024, "tcg", bytes(32), (OWN,), (), None)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:        8000000 kB\nMemFree:           10000 kB\nMemAvailable:    2097152 kB\n")
    return path


def test_both_need_their_memory(memory: Path) -> None:
    assert room.beside(RUNNING, Order(memory_mib=2048 - room.OVERHEAD_MIB, disks=(NEXT,)), memory)
    assert not room.beside(RUNNING, Order(memory_mib=2049 - room.OVERHEAD_MIB, disks=(NEXT,)), memory)


def test_where_the_kernel_does_not_say_there_is_none(tmp_path: Path) -> None:
    assert not room.beside(RUNNING, Order(memory_mib=1, disks=(NEXT,)), tmp_path / "none")


def test_two_do_not_write_to_one_disk(memory: Path) -> None:
    running = replace(RUNNING, disks=(OWN, DATA))
    assert not room.beside(running, Order(memory_mib=1, disks=(NEXT, DATA)), memory)
    shared = replace(DATA, read_only=True)
    assert room.beside(replace(RUNNING, disks=(OWN, shared)), Order(memory_mib=1, disks=(NEXT, shared)), memory)
