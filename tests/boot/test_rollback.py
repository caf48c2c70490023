"""After a real update, on a disk that nothing encrypts: the host puts root file system and hash tree of the image before in the new one's
place (AT-12), and then that whole disk, whose own root hash goes with it (AT-14).

Under the measured root hash they do not open. With their own one they boot, as they once did; within the window of the update that machine
is accepted still, and when it is over the root hash that it measures is nobody's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evident.errors import PolicyRefused
from evident.evidence import disk as partitions
from evident.lifecycle import disks
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.platforms.qemu import launch

pytestmark = pytest.mark.life
HOUR = timedelta(hours=1)


@pytest.mark.attack("AT-12", "Root file system and hash tree of the image before, together.", "guest.verity", "refused")
@pytest.mark.attack("AT-12", "The same, with their root hash on the command line.", "boot.cmdline")
@pytest.mark.attack("AT-14", "The disk of the image before, which nothing encrypts.", "boot.cmdline")
def test_what_was_before_an_update(life: Any, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(launch.QemuPlatform, "settle", lambda *_: None)  # this machine's part is to be replaced
        target: Deployment = life.up()
    target.driver().halt(target.machine)
    (old,) = disks.made(target.at(1).home)
    life.image("two")
    life.update(HOUR)
    assert life.statement().decision == "accepted"
    (new,) = disks.made(target.at(2).home)

    target.driver().halt(target.machine)
    copy_partitions(old, new, ("root", "root-verity"))
    target.driver().start(target.machine)
    with pytest.raises(PolicyRefused, match=r"guest\.verity|qemu\.boot"):
        target.driver().settle(target.machine)
    text = (target.machine / "console.log").read_text()
    assert "evident: failed guest.verity" in text or "dm-verity device corrupted" in text
    eventually(lambda: not target.driver().parts(target.machine)["qemu"], "its end")

    shutil.copy(old, new)
    target.driver().start(target.machine)
    target.driver().settle(target.machine)
    within = life.statement()
    assert within.decision == "accepted", "for an hour both images are"
    assert "storage.rollback" in {caveat.code for layer in within.layers for caveat in layer.caveats}
    life.later += HOUR
    after = life.statement()
    assert (after.decision, target.journal.state) == ("refused", State.QUARANTINED)
    assert "boot.cmdline" in {finding.code for finding in after.findings}


def copy_partitions(source: Path, target: Path, wanted: tuple[str, ...]) -> None:
    """The content of the partitions of these names, whose names and places stay what they were."""
    raw, changed = source.read_bytes(), bytearray(target.read_bytes())
    before, after = ({each.name: each for each in partitions.read_partition_table(bytes(each))[0].partitions} for each in (raw, changed))
    _, sector = partitions.read_partition_table(raw)
    for name in wanted:
        size = (before[name].last - before[name].first + 1) * sector
        assert size == (after[name].last - after[name].first + 1) * sector
        at = after[name].first * sector
        changed[at : at + size] = raw[before[name].first * sector :][:size]
    target.write_bytes(changed)
