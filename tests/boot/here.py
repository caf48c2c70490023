"""This host as one more platform of the lifecycle suite: the owner of ``tests/contract/lifecycle``, on QEMU, with images that really boot.

The images are of profile integrity, and their machines boot their own disks, as in a cloud.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.boot.owner import digest
from tests.contract.lifecycle.conftest import Life, Stage

from evident import processes
from evident.cli import image_build
from evident.lifecycle import disks
from evident.lifecycle.deployment import Deployment
from evident.verification.snp_tpm import OPERATOR

Desk = Any  # of conftest.py


def _of_a_cloud(*_: object) -> Any:
    raise AssertionError("this host is no cloud")


STAGE = Stage({"boot": "uki"}, OPERATOR, (4, 2), _of_a_cloud, _of_a_cloud, _of_a_cloud, "")


@dataclass
class Asked:
    """Whoever answers challenges."""

    asked: int = 0


@dataclass
class Host:
    """In the place of a cloud."""

    desk: Desk

    def live(self) -> list[str]:
        """What there is of machines: files, disks, processes."""
        shop: Deployment = self.desk.shop("shop")
        machines = [each.machine for each in shop.machines()]
        running = [each.role for machine in (*machines, shop.directory) for each in processes.recorded(machine) if each.alive]
        return sorted([*map(str, machines), *(str(disk) for each in shop.machines() for disk in disks.made(each.home)), *running])


@dataclass
class Here(Life):
    """On this host, at this time, with real randomness."""

    def __post_init__(self) -> None:
        self.path = self.home / "shop.yaml"
        self.answering = Asked()
        self.image("one")

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later

    @property
    def machine(self) -> Any:
        return self.answering

    def randomness(self, count: int) -> bytes:
        return os.urandom(count)

    def image(self, name: str) -> None:
        folder: Path = self.home / f"{name}.image"
        if not folder.exists():
            self.cloud.desk.build(name, profile="integrity", files=[{"path": "/srv/index.html", "text": f"page {name}"}])
        self.write(image={"path": str(folder), "sha256": digest(folder)})

    def build(self, spec: Path, out: Path) -> None:
        image_build.from_document(spec, out)

    def document(self) -> dict[str, Any]:
        written = super().document() | {"size": {"memory_mib": 512}}
        written["network"]["inbound"][1]["port"] = 8080
        return {key: value for key, value in written.items() if key != "references"}
