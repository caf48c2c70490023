"""`image rebuild` and what its outcomes are worth to `image inspect` and `image reproduce --count`, with the builds themselves left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.image.test_provenance import BUILDER, ENVELOPE, LOCK, ONE, TWO

from evident.audit import keys
from evident.cli import main as entry
from evident.errors import Unsupported
from evident.image import lock, rebuild
from evident.image.lock import Store
from evident.image.rebuild import Origin, Tried

ORIGIN = Origin("source", "1-2", "any")
FAILED = Unsupported.of("image.package-build", expected="the build to succeed", found="status 2", remedy="Read two.log.").findings[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    (tmp_path / "shop.lock.json").write_bytes(lock.dump(LOCK))
    (tmp_path / "manifest.json").write_bytes(ENVELOPE)
    store = Store(tmp_path / "store")
    for package in LOCK.packages:
        store.path(package.sha256).parent.mkdir(exist_ok=True)
        store.path(package.sha256).write_bytes(package.name.encode())
    return tmp_path


def built(monkeypatch: pytest.MonkeyPatch, *results: Tried) -> None:
    def stand_in(packages: tuple[object, ...], **_: object) -> Iterator[Tried]:
        return (tried for tried in results if tried.package in packages)

    monkeypatch.setattr(rebuild, "rebuild", stand_in)


def run(folder: Path, file: str, *words: str) -> int:
    return entry.main(["image", "rebuild", str(folder / file), *words, "--out", str(folder / "out"), "--store", str(folder / "store")])


def equal(name: str) -> Tried:
    package = ONE if name == "one" else TWO
    return Tried(package, ORIGIN, b"d" * 32, LOCK, name.encode())


def test_one_that_fails_is_named_and_the_others_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built(monkeypatch, equal("one"), Tried(TWO, ORIGIN, problem=FAILED))
    assert run(folder, "shop.lock.json", "--all") == 12
    printed = capsys.readouterr()
    assert "equal      one 1-2" in printed.out
    assert "NOT BUILT  two 1-2" in printed.out
    assert "image.package-build" in printed.err
    assert "1 of 2 packages" in printed.out
    assert {path.name for path in (folder / "out").iterdir()} == {"one_1-2_amd64.rebuild.json", "one_1-2_amd64.environment.json"}
    said = inspected(folder, capsys)
    assert (said["packages_rebuilt"], said["rebuilt_from_source"]) == ({"one": "you"}, {"root /etc": "you"})
    assert (said["degree"], said["other_components"]) == (3, 1)


def test_one_that_differs_is_signed_kept_and_counts_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built(monkeypatch, replace(equal("one"), made=b"another", difference="data.tar ./x: is new"))
    assert run(folder, "manifest.json", "--package", "one") == 12
    printed = capsys.readouterr()
    assert "DIFFERS    one 1-2" in printed.out
    assert "image.package-differs" in printed.err
    assert "data.tar ./x: is new" in printed.err
    assert (folder / "out" / "one_1-2_amd64.built.deb").read_bytes() == b"another"
    assert inspected(folder, capsys)["packages_rebuilt"] == {}


def test_all_of_them_raise_the_image(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Built by somebody else here: the image's own builder is named and trusted, and so is whoever built the packages."""
    built(monkeypatch, equal("one"), equal("two"))
    assert run(folder, "shop.lock.json", "--all") == 0
    capsys.readouterr()
    assert inspected(folder, capsys)["degree"] == 4
    mine, builder = folder / "home" / "state" / keys.PUBLIC_NAME, folder / "builder.pem"
    builder.write_bytes(BUILDER.public.pem)
    count = ["image", "reproduce", str(folder / "manifest.json"), "--count", "--endorsement", str(folder / "out")]
    count += ["--signer", str(builder), "--reference-out", str(folder / "reference.json")]
    for signers, strengths in ((["--signer", str(mine)], {"pcr11": 4, "launch": 3}), ([], {"pcr11": 3})):
        assert entry.main([*count, *signers]) == 0, capsys.readouterr().err
        values = json.loads((folder / "reference.json").read_text())["values"]
        assert {value["register"]: value["strength"] for value in values}.items() >= strengths.items()


def test_what_a_lock_calls_a_package_leads_nowhere_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = replace(ONE, name="../../name", version="/../../1")
    (folder / "shop.lock.json").write_bytes(lock.dump(replace(LOCK, packages=(strange,))))
    built(monkeypatch, replace(equal("one"), package=strange))
    assert run(folder, "shop.lock.json", "--all") == 0
    assert {path.name for path in (folder / "out").iterdir()} == {"one_1-2_amd64.rebuild.json", "one_1-2_amd64.environment.json"}


def test_a_package_that_the_lock_has_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "shop.lock.json", "--package", "three") == 2
    assert "image.package-unknown" in capsys.readouterr().err


def inspected(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert entry.main(["image", "inspect", str(folder / "manifest.json"), "--endorsement", str(folder / "out"), "-o", "json"]) == 0
    said: dict[str, object] = json.loads(capsys.readouterr().out)
    return said
