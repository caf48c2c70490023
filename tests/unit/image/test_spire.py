"""An image that attests by SPIRE: what its specification, lock, store, initrd and inventory say of agent, configuration and bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from evident import codec
from evident.cli.main import main
from evident.errors import CollateralUnavailable, Malformed, NotAuthentic
from evident.image import build, initrd, inventory, lock, spire
from evident.image.initrd import INTERPRETER
from evident.image.lock import Store
from evident.image.spec import ImageSpec, SpireSpec
from evident.image.stated import Lock, LockedPackage
from evident.image.toolbox import merged_usr
from evident.image.tree import Tree

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
STATIC = b"\x7fELF\x02\x01".ljust(64, b"\0")
PLAIN: dict[str, Any] = {"version": 1, "name": "shop", "units": [{"name": "shop", "command": ["/usr/bin/python3"]}]}
WITH_SVID: dict[str, Any] = {"name": "web", "command": ["/usr/bin/python3"], "svid": True}
SPIRE = {"agent_sha256": hashlib.sha256(STATIC).hexdigest(), "trust_domain": "example.org", "bundle": PEM}


def decode(**changes: Any) -> ImageSpec:
    return codec.decode(ImageSpec, {**PLAIN, "spire": {**SPIRE, **changes}}, "image")


def spec() -> SpireSpec:
    found = decode().spire
    assert found is not None
    return found


def packed() -> Tree:
    tree = merged_usr()
    tree.add_file(INTERPRETER, b"python", 0o755)
    tree.add_file(f"{initrd.PYTHON}/evident/guest/fetch_key.pyc", b"code")
    return tree


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agent_sha256": "00"}, "image.spire-agent"),
        ({"trust_domain": "Example.org"}, "spiffe.id"),
        ({"trust_domain": 'example.org" '}, "spiffe.id"),
        ({"bundle": ""}, "image.spire-bundle"),
        ({"bundle": PEM.replace("CERTIFICATE", "PRIVATE KEY")}, "image.spire-bundle"),
        ({"bundle": PEM + "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"}, "image.spire-bundle"),
        ({"bundle": "/etc/bundle.pem"}, "image.spire-bundle"),
    ],
)
def test_a_specification_that_cannot_attest_is_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Malformed, match=code.replace(".", r"\.")):
        decode(**changes)


def test_two_bundles_are_two_images() -> None:
    """SP-17, AT-43: whom the agent believes is in the image's digest."""
    assert decode(bundle=PEM + PEM).digest() != decode().digest()


def test_the_configuration_says_whom_to_believe_and_what_to_start() -> None:
    """BW-03, SP-17, AT-42: no bootstrap without the bundle, keys in memory, and the plug-in's program by its hash."""
    tree = packed()
    size = spire.lay(tree, spec(), STATIC)
    said = tree.read(spire.CONFIGURATION).decode()
    assert size == len(STATIC) + len(said) + len(PEM)
    assert tree[spire.AGENT].mode == 0o755
    assert tree.read(spire.BUNDLE).decode() == PEM
    assert f'plugin_checksum = "{hashlib.sha256(b"python").hexdigest()}"' in said
    assert 'trust_bundle_path = "/etc/spire/bundle.pem"' in said
    assert 'KeyManager "memory"' in said
    assert not any(word in said for word in ("insecure", "join_token", "server_address", "bundle_url"))


def test_an_agent_that_would_not_start_in_the_initrd_is_refused() -> None:
    dynamic = Path("/bin/true").resolve().read_bytes()
    for program, found in ((b"#!/bin/sh\n", "ELF"), (dynamic, "library")):
        with pytest.raises(Malformed, match=rf"image\.spire-agent.*{found}"):
            spire.lay(packed(), spec(), program)


def test_the_inventory_lists_the_four_and_the_interpreter() -> None:
    """BW-03."""
    tree = packed()
    spire.lay(tree, spec(), STATIC)
    taken = inventory.take(decode(), tree, Tree(), parts={}, modules_offered=0, python_modules=0)
    names = {Path(path).name for path in taken.spire}
    assert names == {"spire-agent", "agent.conf", "bundle.pem", "fetch_key.pyc", "python3.13"}
    assert taken.spire["/usr/bin/spire-agent"].hex() == SPIRE["agent_sha256"]
    without = inventory.take(codec.decode(ImageSpec, PLAIN, "image"), tree, Tree(), parts={}, modules_offered=0, python_modules=0)
    assert without.spire == {}


def test_the_guest_is_told_only_where_the_image_has_it() -> None:
    assert json.loads(initrd.configuration(decode()))["spire"] is True
    assert b"spire" not in initrd.configuration(codec.decode(ImageSpec, PLAIN, "image"))
    assert b"svid" not in initrd.configuration(decode())
    made = codec.decode(ImageSpec, {**PLAIN, "units": [WITH_SVID, *PLAIN["units"]], "spire": SPIRE}, "image")
    assert [unit.get("svid") for unit in json.loads(initrd.configuration(made))["units"]] == [True, None]
    assert made.svids == {"web": 1000}


@pytest.mark.parametrize("changes", [{"spire": None}, {"user": "root"}, {"name": "c++"}, {"name": "spire-agent"}])
def test_a_unit_that_can_have_no_svid_is_refused(changes: dict[str, Any]) -> None:
    said = {**PLAIN, "units": [{**WITH_SVID, **{name: value for name, value in changes.items() if name != "spire"}}]}
    with pytest.raises(Malformed, match=r"image\.(svid|unit)"):
        codec.decode(ImageSpec, {**said, "spire": changes.get("spire", SPIRE)}, "image")


def test_the_store_holds_the_agent_that_is_named(tmp_path: Path) -> None:
    store, digest = Store(tmp_path / "store"), spec().agent_sha256
    with pytest.raises(CollateralUnavailable, match=r"image\.program-missing.*--spire-agent"):
        store.program(digest)
    with pytest.raises(NotAuthentic, match=r"image\.program-hash"):
        store.put(STATIC + b"!", digest)
    assert not list(tmp_path.rglob("*.*"))
    store.put(STATIC, digest)
    assert store.program(digest) == STATIC
    store.path(digest).write_bytes(STATIC + b"!")
    with pytest.raises(NotAuthentic, match=r"image\.program-hash.*Delete"):
        store.program(digest)


def test_without_its_check_another_agent_would_be_built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AT-41: what the check of the hash is for."""
    monkeypatch.setattr(lock, "_check", lambda *_: None)
    store = Store(tmp_path)
    store.put(STATIC + b"!", spec().agent_sha256)
    assert store.program(spec().agent_sha256) == STATIC + b"!"


def test_a_lock_from_before_is_no_lock_of_this_image(tmp_path: Path) -> None:
    """The packages that a guest needs to speak with an agent."""
    old = Lock(1, "trixie", "amd64", (LockedPackage("python3-cryptography", "1", "debian/pool/x.deb", 1, bytes(32), ("initrd",)),))
    with pytest.raises(Malformed, match=r"image\.lock.*python3-grpcio.*--update-lock"):
        build.build(decode(), old, Store(tmp_path), tmp_path / "out")


def test_an_agent_for_an_image_without_one_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specification = tmp_path / "shop.json"
    specification.write_text(json.dumps(PLAIN))
    words = ["image", "build", str(specification), "--out", str(tmp_path / "out"), "--spire-agent", str(specification)]
    assert main([*words, "--store", str(tmp_path / "store"), "--mirror", "file:/nowhere/debian"]) == 2
    assert "usage.spire-agent" in capsys.readouterr().err
