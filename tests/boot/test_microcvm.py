"""A microCVM that boots its own disk, by document: firmware, UKI, and an initrd that is all there is.

Its root file system is the measured initrd, so level 4 needs no disk; without the word of whoever runs the TPM it is level 2. A machine
that booted something else is refused, and destroyed where the document says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.boot.owner import Owner, digest
from tests.boot.test_uki import on_the_disk, with_another_command_line

from evident.evidence import disk as partitions
from evident.lifecycle import disks
from evident.lifecycle.journal import State
from evident.platforms.qemu import console
from evident.platforms.qemu.order import read_launch
from evident.verification.snp_tpm import OPERATOR

pytestmark = pytest.mark.life
Desk = Any  # of conftest.py
PAGE = b"a page of the initrd's"
TRUSTING = {"version": 1, "levels": {"nominal": 4, "trustworthy": 2}, "accepted_trust": [OPERATOR], "allow_simulated": True}


def test_a_microcvm(desk: Desk, owner: Owner, eventually: Callable[..., None]) -> None:
    image = desk.build("micro", profile="microcvm", files=[{"path": "/srv/index.html", "text": PAGE.decode()}])
    named = {"path": str(image), "sha256": digest(image)}
    by_uki: dict[str, Any] = {"where": {"qemu": {"boot": "uki"}}, "on_refusal": "destroy"}
    owner.write(named, **by_uki)
    unmet = {each["finding"]["code"] for each in owner.asks("plan", str(owner.path), code=11)["chosen"]["unmet"]}
    assert unmet == {"plan.trustworthy", "plan.party"}, "what a TPM of the host's says, nobody has accepted yet"
    owner.write(named, policy=TRUSTING, **by_uki)
    planned = owner.asks("plan", str(owner.path))["chosen"]
    owner.types("up", str(owner.path))
    assert [step.name for step in console.steps(owner.shop.machine) if step.event == "done"] == ["devices", "network"]
    eventually(lambda: PAGE in owner.page(), "a served page")
    (disk,) = disks.made(owner.shop.home)
    (only,) = partitions.read_partition_table(disk.read_bytes())[0].partitions
    assert only.type == partitions.SYSTEM_PARTITION

    statement = owner.asks("attest", "shop")
    assert statement["decision"] == "accepted"
    assert statement["levels"] == planned["prospect"]["levels"] == {"nominal": 4, "trustworthy": 2}
    layers = {layer["name"]: layer for layer in statement["layers"]}
    assert planned["trust"] == [OPERATOR]
    assert OPERATOR in layers["root_filesystem"]["trusted_parties"]
    assert "the measured initrd" in json.dumps(layers["root_filesystem"])
    boots_something_else(owner)


def boots_something_else(owner: Owner) -> None:
    """The host changes the UKI on the disk, and lets the machine start again."""
    shop = owner.shop
    shop.driver().halt(shop.machine)
    on_the_disk(with_another_command_line)(shop, read_launch(shop.machine))
    assert "boot.cmdline" in owner.types("up", str(owner.path), code=11)[0]
    assert shop.journal.state is State.DESTROYED
    assert not shop.machine.exists()
    assert [path.name for path in shop.directory.glob("farewell-*")] == ["farewell-1.json"]
