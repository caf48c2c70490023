"""`evident up DOCUMENT` builds the image that the document names where it is missing, once, and holds it against its digest (BW-22)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.lifecycle.images import an_image, digest

from evident.audit import keys
from evident.cli import image_build
from evident.cli.main import main
from evident.image import build as builder
from evident.image import names
from evident.simulator.pki import SimulatorPki


class Desk:
    """A home with an image specification and no image; what stands in for the builder makes one that the test knows beforehand."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.built: list[Path] = []
        self.name = "shop"
        (home / "image.yaml").write_text("version: 1\n")
        (home / "image.lock.json").write_text("{}")
        self._key = keys.load_or_create(home / "state", os.urandom)
        self.make(home / "elsewhere")
        self.write(image={"path": "shop.image", "sha256": digest(home / "elsewhere").hex(), "spec": "image.yaml"})

    def make(self, folder: Path) -> None:
        an_image(folder, self._key, name=self.name, at=datetime(2026, 11, 22, tzinfo=UTC))

    def build(self, spec: Path, out: Path) -> None:
        assert spec == self.home / "image.yaml"
        self.built.append(out)
        shutil.rmtree(out, ignore_errors=True)
        self.make(out)

    def write(self, name: str = "shop", **changes: Any) -> None:
        path = self.home / f"{name}.yaml"
        before = json.loads((self.home / "shop.yaml").read_text()) if (self.home / "shop.yaml").exists() else {"version": 1}
        path.write_text(json.dumps({**before, "name": name, "platform": "simulated", **changes}))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator_pki: SimulatorPki) -> Desk:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    simulator_pki.save(tmp_path / "state" / "simulator")
    made = Desk(tmp_path)
    monkeypatch.setattr(image_build, "from_document", made.build)
    return made


def test_it_is_built_once(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "shop.yaml"]) == 0
    assert "the image first, from image.yaml" in " ".join(capsys.readouterr().out.split())
    assert desk.built == []
    assert main(["up", "shop.yaml"]) == 0
    assert "building it from" in capsys.readouterr().err
    assert main(["up", "shop.yaml"]) == 0
    desk.write("another")
    assert main(["up", "another.yaml"]) == 0
    assert desk.built == [desk.home / "shop.image"]
    assert main(["attest", "another"]) == 0


def test_an_update_builds_too(desk: Desk) -> None:
    assert main(["up", "shop.yaml"]) == 0
    desk.name = "two"
    desk.make(desk.home / "elsewhere-two")
    desk.write(image={"path": "two.image", "sha256": digest(desk.home / "elsewhere-two").hex(), "spec": "image.yaml"})
    assert main(["update", "shop.yaml"]) == 0
    assert desk.built == [desk.home / "shop.image", desk.home / "two.image"]


def test_another_digest_is_refused_and_the_image_stays(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {"path": "shop.image", "sha256": "ab" * 32, "spec": "image.yaml"}
    desk.write(image=wrong)
    assert main(["up", "shop.yaml"]) == 10
    said = capsys.readouterr().err
    right = digest(desk.home / "elsewhere").hex()
    for expected in ("image.other-build", "ab" * 32, right, "write its digest into image.sha256"):
        assert expected in said
    assert not (desk.home / "state" / "deployments").exists()
    assert main(["up", "shop.yaml"]) == 11
    assert "plan.image" in capsys.readouterr().err
    desk.write(image={**wrong, "sha256": right})
    assert main(["up", "shop.yaml"]) == 0
    assert len(desk.built) == 1


def test_a_build_that_was_cut_short_is_done_again(desk: Desk) -> None:
    desk.make(desk.home / "shop.image")
    (desk.home / "shop.image" / names.MANIFEST).unlink()
    assert main(["up", "shop.yaml"]) == 0
    assert desk.built == [desk.home / "shop.image"]


def test_what_the_image_turns_out_to_be_is_planned_again(desk: Desk) -> None:
    """The document says that the disk is encrypted; that the image is not is known only once it is built."""
    desk.write(disks={"root_key": "key-server"})
    assert main(["plan", "shop.yaml"]) == 0
    assert main(["up", "shop.yaml"]) == 11
    assert len(desk.built) == 1


def test_the_manifest_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which an image was begun holds none until it is whole."""

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / names.MANIFEST).write_text("of an earlier image")
    monkeypatch.setattr(builder, "build", cut)
    call: Callable[..., object] = image_build._produce
    with pytest.raises(KeyboardInterrupt):
        call(None, None, None, str(tmp_path), lambda _: None)
    assert not (tmp_path / names.MANIFEST).exists()
