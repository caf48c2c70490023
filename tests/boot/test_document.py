"""One document from nothing to a served page and back, as a user types it, with real boots.

The command is killed twice (SIGKILL) and carried on with; the host takes the machine and its key server down once; an image is built on the
way. Once another image runs, the host puts back all that it had of the one before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.boot.owner import Owner, digest

from evident import processes
from evident.endorsements import x509
from evident.errors import EvidentError, PolicyRefused
from evident.image import names
from evident.lifecycle import disks, keyserver, proving, retire
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.platforms.driver import PORT_FILE
from evident.platforms.qemu import console, launch
from evident.platforms.qemu.order import read_launch

pytestmark = pytest.mark.life
Desk = Any  # of conftest.py
MARKER = b"marker of the desk"
ANOTHER = b"another page"


@pytest.fixture
def kept(desk: Desk) -> Iterator[Path]:
    """Where the host keeps a copy of a machine; what it starts there is gone afterwards."""
    copy: Path = desk.home / "kept"
    yield copy
    if copy.exists():
        launch.stop(copy)


@pytest.mark.attack("AT-14", "All that the host had of a machine before an update, its disk among it.", "keys.disk-unknown")
def test_a_life_by_document(desk: Desk, owner: Owner, server_here: Any, kept: Path, eventually: Callable[..., None]) -> None:
    owner.write({"path": str(desk.image), "sha256": digest(desk.image)}, disks={"root_key": "key-server"}, reattest_seconds=900)
    planned = owner.asks("plan", str(owner.path))["chosen"]
    assert (planned["prospect"]["levels"], planned["unmet"]) == ({"nominal": 4, "trustworthy": 4}, [])
    comes_up_though_killed(desk, owner)
    eventually(lambda: MARKER in owner.page(), "a served page")
    statement = owner.asks("attest", "shop")
    assert (statement["decision"], statement["simulated"]) == ("accepted", True)
    assert statement["levels"] == planned["prospect"]["levels"]
    owner.types("attest", "shop", "--certificate", str(desk.home / "before.pem"))
    starts_again(desk, owner)
    eventually(lambda: MARKER in owner.page(), "a page served again")
    owner.types("attest", "shop", "--certificate", str(desk.home / "after.pem"))
    keys = {x509.load((desk.home / f"{boot}.pem").read_bytes()).spki for boot in ("before", "after")}
    assert len(keys) == 2, "EI-04: a key of its own for every boot"
    is_seen_by_its_owner(owner)
    gets_another_image(desk, owner)
    eventually(lambda: ANOTHER in owner.page(), "the other image's page")
    puts_the_old_one_back(desk, owner, server_here, kept)
    ends(owner)


def comes_up_though_killed(desk: Desk, owner: Owner) -> None:
    """Killed while it makes the machine, and while that boots: the first is made anew, the second is waited for."""
    owner.kills_up(lambda: owner.shop.journal.state is State.PLANNED)
    owner.kills_up(lambda: "challenged" in desk.events)
    row = owner.asks("status", "shop")["deployments"][0]
    assert (row["state"], set(row["processes"].values())) == ("launched", {True})
    before = running(owner.shop)
    _, said = owner.types("up", str(owner.path))
    assert "boot step 6 release" in said
    assert running(owner.shop) == before, "it is the same machine, and the same key server"
    assert desk.events == ["challenged", "released", "confirmed"]


def running(shop: Deployment) -> tuple[Any, ...]:
    return (*processes.recorded(shop.machine), *processes.recorded(shop.directory))


def starts_again(desk: Desk, owner: Owner) -> None:
    """As after a restart of the host: nothing runs, and everything that it takes is on record."""
    owner.shop.driver().halt(owner.shop.machine)
    keyserver.end(owner.shop)
    row = owner.asks("status", "shop")["deployments"][0]
    assert set(row["processes"].values()) == {False}
    assert "ended" in owner.types("status")[0]
    owner.types("up", str(owner.path))
    assert [(step.number, step.event) for step in console.steps(owner.shop.machine)][-1] == (10, "done")
    assert desk.events == ["challenged", "released", "confirmed"] * 2


def is_seen_by_its_owner(owner: Owner) -> None:
    owner.types("attest", "shop", "--every", "1s", "--times", "2")
    (member,) = owner.asks("fleet")["deployments"]
    assert (member["name"], member["platform"], member["standing"], member["simulated"]) == ("shop", "qemu", "well", True)
    assert owner.asks("status")["deployments"][0]["state"] == "attested"


def gets_another_image(desk: Desk, owner: Owner) -> None:
    """Built because it is missing, refused for its digest, and not built again once that is right."""
    spec = desk.specify("two", files=[{"path": "/srv/index.html", "text": ANOTHER.decode()}])
    folder: Path = desk.home / "two.image"
    named = {"path": str(folder), "sha256": "ab" * 32, "spec": str(spec)}
    owner.write(named, disks={"root_key": "key-server"})
    assert "the image first, from two.json" in " ".join(owner.types("plan", str(owner.path))[0].split())
    said = owner.types("update", str(owner.path), code=10)[1]
    assert "image.other-build" in said
    assert digest(folder) in said
    built = (folder / names.MANIFEST).stat().st_mtime_ns
    owner.write({**named, "sha256": digest(folder)}, disks={"root_key": "key-server"})
    owner.types("update", str(owner.path), "--window", "1h")
    assert (folder / names.MANIFEST).stat().st_mtime_ns == built
    assert (owner.shop.number, owner.shop.journal.state) == (2, State.ATTESTED)
    for number in (1, 2):
        assert proving.prove(owner.shop.at(number), desk.home / "cache").outcome.decision == "accepted", "both, while the window is open"


def puts_the_old_one_back(desk: Desk, owner: Owner, server_here: Any, kept: Path) -> None:
    """Its disk has a name of its own, and the key of that name goes with the window. Within the window it still is accepted: that is what a
    window is for, and how long the host can go back.
    """
    (old,) = disks.made(owner.shop.at(1).home)
    shutil.copytree(owner.shop.at(1).machine, kept, ignore=shutil.ignore_patterns("*.sock"))
    shutil.copy(old, desk.home / "kept.raw")
    released = desk.events.count("released")
    server_here.decide_again(0)
    assert desk.events.count("released") == released + 1, "within the window"
    later = replace(owner.shop.surroundings, clock=lambda: owner.shop.surroundings.clock() + timedelta(hours=1))
    retire.finish(replace(owner.shop, surroundings=later))
    assert not old.exists()
    shutil.copy(desk.home / "kept.raw", old)
    (kept / PORT_FILE).write_bytes((owner.shop.machine / PORT_FILE).read_bytes())
    for left in (console.HEAD, console.TAIL):
        (kept / left).unlink(missing_ok=True)
    launch.driver(owner.shop.surroundings)._start(kept, read_launch(kept))
    with pytest.raises(PolicyRefused, match=r"guest\.denied"):
        launch._follow(kept, print)
    assert desk.log[-1].codes == ("keys.disk-unknown",)
    with pytest.raises(EvidentError, match=r"keys\.disk-unknown"):
        server_here.decide_again(0)
    assert desk.events.count("released") == released + 1
    old.unlink()


def ends(owner: Owner) -> None:
    owner.types("revoke", "shop", "--reason", "a test")
    assert not any(owner.shop.driver().parts(owner.shop.machine).values())
    assert "deployment.not-running" in owner.types("attest", "shop", code=2)[1]
    directory = owner.shop.directory
    owner.types("down", "shop")
    assert not owner.shop.machine.exists()
    assert not list(directory.glob("**/disk-*.raw"))
    assert owner.asks("status")["deployments"][0]["state"] == "destroyed"
