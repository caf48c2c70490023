"""What no cloud boots, or nobody could attest there, is refused before a cloud is asked for anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evident.errors import EvidentError
from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Surroundings
from evident.platforms.opening import Opening
from evident.platforms.order import AGENT_PORT, Disk, Order


class Asked(Exception):
    """A cloud would be asked now."""


def connect(_where: Mapping[str, str], _patience: Patience) -> Any:
    raise Asked


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """One that a cloud is asked for."""
    image = tmp_path / "disk.raw"
    image.write_bytes(b"image")
    return Order(disks=(Disk(str(image)),), openings=(Opening("in", "tcp", AGENT_PORT, "203.0.113.0/24"),))


def launch(home: Path, order: Order) -> None:
    driver = CloudDriver(Surroundings(home, lambda: datetime.now(UTC), bytes, print), "aws", connect)
    driver.launch(home / "shop" / "machine", order)


def test_what_a_cloud_can_boot_it_is_asked_for(tmp_path: Path, order: Order) -> None:
    with pytest.raises(Asked):
        launch(tmp_path, order)


@pytest.mark.parametrize(
    ("changes", "code", "exit_code"),
    [
        ({"attack": "swap-kernel"}, "cloud.attack", 2),
        ({"firmware": b"x"}, "cloud.direct-boot", 20),
        ({"kernel": b"x"}, "cloud.direct-boot", 20),
        ({"initrd": b"x"}, "cloud.direct-boot", 20),
        ({"command_line": "quiet"}, "cloud.direct-boot", 20),
        ({"disks": ()}, "cloud.disk", 2),
        ({"disks": (Disk("/nowhere/disk.raw"),)}, "cloud.disk", 2),
        ({"openings": ()}, "cloud.agent-port", 2),
        ({"openings": (Opening("out", "tcp", AGENT_PORT, "203.0.113.0/24"),)}, "cloud.agent-port", 2),
        ({"openings": (Opening("in", "udp", AGENT_PORT, "203.0.113.0/24"),)}, "cloud.agent-port", 2),
    ],
)
def test_what_no_cloud_boots_is_not_asked_for(tmp_path: Path, order: Order, changes: dict[str, Any], code: str, exit_code: int) -> None:
    with pytest.raises(EvidentError) as caught:
        launch(tmp_path, replace(order, **changes))
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert not (tmp_path / "shop").exists()


def test_a_second_disk_is_not_left_out_in_silence(tmp_path: Path, order: Order) -> None:
    with pytest.raises(EvidentError, match=r"cloud\.data-disk"):
        launch(tmp_path, replace(order, disks=order.disks * 2))
