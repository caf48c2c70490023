"""Every machine of an image has a disk of its own: another name, another key, other terms (BW-21)."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.lifecycle.images import an_image, spire_spec

from evident.audit import keys
from evident.errors import NotAuthentic
from evident.evidence import disk as partitions
from evident.guest.config import parse_command_line
from evident.identity import spire_cli
from evident.image import build, inventory, manifest, names
from evident.image.manifest import Component, Manifest
from evident.image.spec import ImageSpec, SpireSpec, Unit
from evident.image.stated import Lock
from evident.image.tree import Tree
from evident.lifecycle import disks, from_image
from evident.lifecycle.deployment import deployment
from evident.lifecycle.from_image import Prepared
from evident.lifecycle.keystore import BySvid
from evident.platforms.driver import KEY_SERVER, Surroundings
from evident.platforms.order import Order
from evident.platforms.simulated.launch import SimulatedPlatform
from evident.reference_values import programs
from evident.reference_values.model import ReferenceSet, ReferenceValue

AT = datetime(2026, 11, 22, tzinfo=UTC)
SPEC = ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),), profile="encrypted")
FILES = {name: os.fsencode(name) * 1024 for name in (build.KERNEL, build.INITRD, build.UKI, build.ROOT, build.HASH, names.DISK)}
PARAMETERS = {"evident.verifier": KEY_SERVER, "evident.key": "ab" * 32, "evident.tee": "simulated"}


class Owner:
    """An image of this owner's, and machines of it."""

    def __init__(self, home: Path, *values: ReferenceValue) -> None:
        self.home = home
        self.image = home / "image"
        self.image.mkdir()
        self._key = keys.generate(os.urandom)
        for name, content in FILES.items():
            (self.image / name).write_bytes(content)
        parts = tuple(Component(name, hashlib.sha256(content).digest()) for name, content in FILES.items())
        line = f"ro evident.mode=encrypted roothash={'cd' * 32} evident.hashoffset=4096"
        taken = inventory.take(SPEC, Tree(), Tree(), parts={}, modules_offered=0, python_modules=0)
        stated = Manifest(1, SPEC, Lock(1, "trixie", "amd64"), parts, line, b"\xcd" * 32, taken, ReferenceSet(1, values, "shop"), "0", AT)
        (self.image / names.MANIFEST).write_bytes(manifest.sign(stated, self._key))

    def machine(self, name: str, sha256: bytes | None = None, **more: Any) -> Prepared:
        around = Surroundings(self.home / "state", lambda: AT, os.urandom, lambda _: None)
        return from_image.prepare(
            self.image,
            self.home / name,
            around,
            trusted=[self._key.public],
            parameters=PARAMETERS,
            machine=Order(vcpus=2),
            sha256=sha256,
            **more,
        )


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def on_disk(prepared: Prepared) -> set[str]:
    with Path(prepared.order.disks[0].path).open("rb") as stream:
        return {each.guid for each in partitions.read_partition_table(stream.read(1 << 20))[0].partitions}


def test_two_machines_of_an_image_have_disks_of_their_own(owner: Owner) -> None:
    one, two = owner.machine("one"), owner.machine("two")
    assert one.key is not None
    assert two.key is not None
    assert one.key.disk != two.key.disk
    assert one.key.key != two.key.key
    for machine in (one, two):
        assert machine.key is not None
        line = parse_command_line(machine.order.command_line or "")
        assert (line.data, machine.order.vcpus) == (machine.key.disk, 2), "the guest asks for this disk, and that is measured"
        assert machine.key.root_hash == line.root_hash, "and gets with its key what is on it (BW-09)"
        assert uuid.UUID(line.data).version == 4
        assert line.data in on_disk(machine)
    assert one.order.initrd == two.order.initrd, "what is made once serves them all"


def test_the_disk_of_a_running_machine_stays_until_another_one_is_launched(owner: Owner) -> None:
    """An update may be refused after its disk was made: the machine that runs can be started again all the same."""
    first = owner.machine("one")
    before = Path(first.order.disks[0].path).read_bytes()
    second = owner.machine("one")
    assert Path(first.order.disks[0].path).read_bytes() == before
    assert first.key is not None
    assert first.key.disk not in on_disk(second)
    folder = Path(second.order.disks[0].path).parent
    assert len(disks.made(folder)) == 2
    disks.sweep(folder, second.order.disks)
    assert disks.made(folder) == (Path(second.order.disks[0].path),)


def test_what_an_image_can_load_becomes_a_reference_value_of_the_deployment(tmp_path: Path) -> None:
    loaded = programs.reference({"/usr/bin/python3": bytes(32)}, of="the root", origin="a build")
    order = Owner(tmp_path, loaded).machine("one").order
    assert order.references is not None
    assert order.references.values == (loaded,)


def test_an_image_that_measures_nothing_brings_none(owner: Owner) -> None:
    assert owner.machine("one").order.references is None


def test_another_image_than_the_one_meant_is_refused(owner: Owner) -> None:
    assert owner.machine("one", hashlib.sha256(FILES[names.DISK]).digest()).key is not None
    with pytest.raises(NotAuthentic, match=r"specification\.image"):
        owner.machine("one", bytes(32))


def test_a_file_that_was_not_signed_is_refused(owner: Owner) -> None:
    (owner.image / build.INITRD).write_bytes(b"another")
    with pytest.raises(NotAuthentic, match=r"image\.file"):
        owner.machine("one")
    (owner.image / build.INITRD).write_bytes(FILES[build.INITRD])
    (owner.image / build.ROOT).write_bytes(b"another")
    with pytest.raises(NotAuthentic, match=r"image\.file"):
        owner.machine("one")


def test_secrets_go_under_the_name_of_the_disk(owner: Owner) -> None:
    """One name on the command line, one exchange: the guest takes no second one."""
    made = owner.machine("one", secrets={"db": b"a value"})
    assert made.key is not None
    assert made.key.secrets == {"db": b"a value"}
    line = parse_command_line(made.order.command_line or "")
    assert (line.asks, line.machine) == (made.key.disk, "")
    assert "a value" not in repr(made)


@pytest.mark.parametrize(("spire", "svid"), [(spire_spec("example.org"), False), (spire_spec("example.org"), True), (None, False)])
def test_a_guest_is_told_of_one_way_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spire: SpireSpec | None, svid: bool) -> None:
    """By whom it knows its key server is the image's to say, and measured: an SVID's name, or the releaser's key. Where a unit has an SVID,
    it asks though nobody said that it has to.
    """
    monkeypatch.setattr(spire_cli, "program", lambda: "spire-server")
    monkeypatch.setattr(from_image, "driver", lambda *_: SimulatedPlatform(around))
    said = {"trust_domain": "example.org", "key_server": "spiffe://example.org/k", "server_socket": "s", "workload_socket": "w"}
    (tmp_path / "spire.json").write_text(json.dumps({"version": 1, **said, "server": "127.0.0.1:8081"}))
    around = Surroundings(tmp_path / "state", lambda: AT, os.urandom, lambda _: None, spire=tmp_path / "spire.json")
    key = keys.generate(os.urandom)
    an_image(tmp_path / "image", key, name="shop", at=AT, spire=spire, svid=svid)
    prepared = from_image.ordered(
        deployment("shop", around), "qemu", tmp_path / "image", trusted=[key.public], machine=Order(), attest_first=not svid
    )
    partitions_too = f"evident.root={uuid.UUID(int=1)} evident.hash={uuid.UUID(int=2)}"
    line = parse_command_line(f"{prepared.order.command_line} {partitions_too}")
    assert prepared.key is not None
    assert (str(line.key_server), line.spire) == (("spiffe://example.org/k", ("10.0.2.101", 8081)) if spire else ("None", ("", 0)))
    assert bool(line.key) is (spire is None)
    assert prepared.key.by_svid == (BySvid("example.org", b"\xee" * 32, {"shop": 1000} if svid else {}) if spire else None)
