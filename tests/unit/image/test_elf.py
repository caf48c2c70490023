"""Shared libraries and module information, against the tools that everybody uses."""

from __future__ import annotations

import contextlib
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed
from evident.image import elf

PROGRAM = Path(shutil.which("true") or sys.executable).resolve().read_bytes()


def a_module(info: bytes) -> bytes:
    """An ELF file with the sections that a kernel module has, as far as they are read."""
    names = b"\0.modinfo\0.shstrtab\0"
    body = info + names
    table = 64 + len(body)
    sections = struct.pack("<IIQQQQIIQQ", *[0] * 10)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(info), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    return head + body + sections


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
def test_needed_as_objdump_says() -> None:
    path = str(Path(shutil.which("objdump") or "").resolve())
    said = subprocess.run(["objdump", "-p", path], capture_output=True, text=True, check=True).stdout
    assert list(elf.needed(Path(path).read_bytes())) == re.findall(r"NEEDED\s+(\S+)", said)


def test_modinfo() -> None:
    info = elf.modinfo(a_module(b"depends=a,b\0softdep=pre: c\0softdep=post: d\0name=m\0"))
    assert (info["depends"], info["softdep"], info["name"]) == (("a,b",), ("pre: c", "post: d"), ("m",))


@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8))
def test_damage_raises_malformed_alone(offset: int, noise: bytes) -> None:
    for whole in (PROGRAM, a_module(b"depends=a\0")):
        raw = whole[: offset % len(whole)] + noise + whole[offset % len(whole) + len(noise) :]
        for read in (elf.needed, elf.modinfo):
            with contextlib.suppress(Malformed):
                read(raw)
