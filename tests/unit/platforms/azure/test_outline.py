"""What is shown before anything is made is what is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from evident.errors import UsageError
from evident.platforms.azure.machine import machine_spec
from evident.platforms.azure.outline import OUTLINE
from evident.platforms.opening import Opening
from evident.platforms.order import Disk, Order

WHERE = {"subscription": "s", "group": "g", "region": "westeurope", "type": "Standard_DC2as_v5"}


def order(tmp_path: Path, *openings: Opening) -> Order:
    file = tmp_path / "disk.raw"
    file.write_bytes(b"x")
    return Order(disks=(Disk(str(file)),), where=WHERE, openings=openings)


def test_every_kind_that_can_be_left_there_is_shown(tmp_path: Path) -> None:
    from evident.platforms.azure.executor import Azure

    shown = {item.kind for item in OUTLINE.items(order(tmp_path, Opening("in", "tcp", 8442, "203.0.113.0/24")))}
    assert shown == set(Azure.removal)


@pytest.mark.parametrize(
    ("peer", "public"), [("203.0.113.0/24", True), ("10.0.0.0/8", False), ("192.168.1.0/24", False), ("0.0.0.0/0", True)]
)
def test_a_public_address_only_for_what_is_beyond_private_networks(tmp_path: Path, peer: str, public: bool) -> None:
    wanted = order(tmp_path, Opening("in", "tcp", 8442, peer))
    assert machine_spec(wanted).exposed is public
    assert ("public-address" in {item.kind for item in OUTLINE.items(wanted)}) is public


def test_settings_are_checked_by_name_and_value() -> None:
    OUTLINE.check("azure", {**WHERE, "zone": "2", "encryption": "DiskWithVMGuestState"})
    for wrong in ({**WHERE, "zone": "4"}, {**WHERE, "encryption": "None"}, {**WHERE, "subnet": "s"}, {"region": "westeurope"}):
        with pytest.raises(UsageError):
            OUTLINE.check("azure", wrong)
