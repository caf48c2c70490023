"""A secret of a document's, from its owner's file to the page of a workload that has no disk; and to nobody once it is revoked."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.boot.owner import Owner, digest

from evident.errors import PolicyRefused
from evident.lifecycle import keyserver
from evident.platforms.qemu import console
from evident.platforms.qemu.order import read_launch
from evident.simulator.secure_processor import Chip

pytestmark = pytest.mark.life
Desk = Any  # of conftest.py
VALUE = b"a page that is in no image and on no disk\n"
SERVES = {
    "name": "pages",
    "command": ["/usr/bin/python3", "-m", "http.server", "8080", "--directory", "/run/evident/secrets/pages"],
    "secrets": ["index.html"],
}
READS = "open('/run/evident/secrets/pages/index.html').read()"
STRANGER = {"name": "stranger", "command": ["/usr/bin/python3", "-c", READS], "on_end": "nothing"}
STEPS = ["devices", "network", "key", "challenge", "evidence", "release", "secrets"]


def test_a_secret_reaches_the_workload_of_the_attested_machine_alone(desk: Desk, owner: Owner, eventually: Callable[..., None]) -> None:
    """The workload is a user's without rights, and serves what is its own; the machine is the one with the chip that the document names."""
    image = desk.build("bare", profile="microcvm", files=[], units=[STRANGER, SERVES])
    file: Path = desk.home / "page"
    file.write_bytes(VALUE)
    file.chmod(0o600)
    meant = {"chip_id": [Chip().chip_id.hex()]}
    owner.write({"path": str(image), "sha256": digest(image)}, secrets={"index.html": "page"}, identity=meant)
    owner.types("up", str(owner.path))
    assert [step.name for step in console.steps(owner.shop.machine) if step.event == "done"] == STEPS
    eventually(lambda: owner.page() == VALUE, "the secret as a page")
    eventually(lambda: any("unit stranger ended: exit code 1" in line for line in desk.console(owner.shop)), "another unit's end")
    assert any("PermissionError" in line for line in desk.console(owner.shop)), "it is that unit's alone"
    assert [(entry.event, entry.secrets) for entry in desk.log] == [("challenged", ()), ("released", ("index.html",)), ("confirmed", ())]
    assert owner.asks("attest", "shop")["decision"] == "accepted"
    forms = (VALUE, VALUE.hex().encode(), base64.b64encode(VALUE))
    for path in (path for path in owner.shop.surroundings.state.rglob("*") if path.is_file()):
        assert not any(form in path.read_bytes() for form in forms), path
    is_started_again_once_revoked(desk, owner)


def is_started_again_once_revoked(desk: Desk, owner: Owner) -> None:
    shop = owner.shop
    owner.types("revoke", "shop", "--reason", "a test")
    platform, ordered = shop.driver(), read_launch(shop.machine)
    for left in (*shop.machine.glob("*.sock"), shop.machine / console.HEAD):
        left.unlink()
    keyserver.begin(shop, shop.surroundings.state / "cache")
    platform._start(shop.machine, ordered)  # the host does, with all that it had
    with pytest.raises(PolicyRefused, match=r"guest\.denied.*keys\.revoked"):
        platform.settle(shop.machine)
    assert desk.log[-1].codes == ("keys.revoked",)
    assert not any(line.startswith("evident: unit ") for line in desk.console(shop))
