"""What is left of a disk's key in the memory of a machine whose disk is open (BW-16), where its agent copies what it should wipe.

Twice the same image: the kernel clears what the process that had the key leaves behind, or is told not to. `test_encrypted.py` looks into
the memory of the machine as it is built.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.boot import memory

import evident

pytestmark = pytest.mark.life
Desk = Any  # of conftest.py


@pytest.fixture
def careless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on images are built whose agent makes 65,536 copies of what it should wipe."""
    source = tmp_path / "evident"
    shutil.copytree(Path(evident.__file__).parent, source, ignore=shutil.ignore_patterns("__pycache__"))
    library = source / "guest" / "libc.py"
    before, wipe, _ = library.read_text().partition("def wipe(secret: bytes) -> None:\n")
    assert wipe
    library.write_text(f"{before}{wipe}    KEPT.append(secret * (1 << 16))\n\n\nKEPT: list[bytes] = []\n")
    monkeypatch.setattr(evident, "__file__", str(source / "__init__.py"))


@pytest.mark.usefixtures("careless")
@pytest.mark.attack("BW-16", "Whoever reads the machine's memory looks for the key that opened its disk.", "init_on_free=1")
@pytest.mark.parametrize("cleared", [False, True], ids=["check off", "check on"])
def test_the_kernel_clears_what_nobody_wiped(desk: Desk, tmp_path: Path, registered: list[bytes], cleared: bool) -> None:
    image = desk.build("careless", command_line=[] if cleared else ["init_on_free=0"])
    machine = replace(desk, image=image)
    assert machine.up("shop") == 0
    shop = desk.shop("shop")
    found = memory.copies(shop, {**memory.forms(registered[0]), "a word of the command line": b"roothash="}, tmp_path)
    assert "a word of the command line" in found
    assert bool(found.keys() & memory.forms(registered[0]).keys()) is not cleared
