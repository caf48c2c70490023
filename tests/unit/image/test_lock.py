"""Hashes decide: what a mirror hands out, what the store holds, and what is nowhere any more."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evident.errors import CollateralUnavailable, Malformed, NotAuthentic, UsageError
from evident.image import apt, lock
from evident.image.lock import Store
from evident.image.spec import ImageSpec, Unit
from evident.image.stated import Lock, LockedPackage

REPOSITORY = Path(__file__).resolve().parents[3]
DATA = b"a package"
PACKAGE = LockedPackage("tool", "1.0-1", "debian/pool/main/t/tool/tool_1.0-1_amd64.deb", 9, hashlib.sha256(DATA).digest(), ("root",))
LOCK = Lock(1, "trixie", "amd64", (PACKAGE,))


def mirror(folder: Path, data: bytes) -> str:
    """A mirror that is a folder: apt's transport knows file: too."""
    path = folder / PACKAGE.path
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return f"file:{folder}/debian"


def test_the_lock_round_trips_and_names_no_host() -> None:
    assert lock.load(lock.dump(LOCK)) == LOCK
    example = (REPOSITORY / "examples" / "shop.lock.json").read_bytes()
    assert lock.dump(lock.load(example)) == example
    assert b"://" not in example


@pytest.mark.parametrize("path", ["http://host/debian/pool/x.deb", "debian/pool/../../x.deb", "/etc/passwd", "pool/main/x.deb"])
def test_a_lock_with_another_path_is_refused(path: str) -> None:
    raw = lock.dump(LOCK).replace(PACKAGE.path.encode(), path.encode())
    with pytest.raises(Malformed, match=r"lock\.package"):
        lock.load(raw)


@pytest.mark.skipif(not Path("/usr/lib/apt/apt-helper").exists(), reason="apt is not installed")
def test_fetches_by_hash(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.fetch(LOCK, [mirror(tmp_path / "mirror", DATA)])
    assert store.read(PACKAGE) == DATA
    store.fetch(LOCK, [])  # nothing is asked for twice


@pytest.mark.skipif(not Path("/usr/lib/apt/apt-helper").exists(), reason="apt is not installed")
def test_a_mirror_with_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAuthentic, match=r"image\.package-hash.*tool 1\.0-1"):
        Store(tmp_path / "store").fetch(LOCK, [mirror(tmp_path / "mirror", b"evil bits")])
    assert not list((tmp_path / "store").iterdir())


def test_a_vanished_package_is_named(tmp_path: Path) -> None:
    for addresses in ([], [f"file:{tmp_path}/none/debian"]):
        with pytest.raises(CollateralUnavailable, match=r"image\.package-vanished.*tool 1\.0-1 \(SHA-256 " + PACKAGE.sha256.hex()):
            Store(tmp_path / "store").fetch(LOCK, addresses)


def test_a_changed_file_in_the_store_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path(PACKAGE.sha256).write_bytes(b"evil bits")
    with pytest.raises(NotAuthentic, match=r"image\.package-hash"):
        store.read(PACKAGE)


def test_the_mirrors_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("# deb http://old/debian x main\ndeb [arch=amd64] http://one/debian trixie main\n")
    (tmp_path / "sources.list.d" / "debian.sources").write_text("Types: deb\nURIs: http://two/debian/ http://one/debian\nSuites: trixie\n")
    (tmp_path / "sources.list.d" / "other.list").write_text("deb http://three/other stable main\n")
    assert apt.mirrors(tmp_path) == ("http://one/debian", "http://two/debian")
    with pytest.raises(UsageError, match=r"image\.mirror"):
        lock.resolve(ImageSpec(1, "x", (Unit("shop", ("/bin/x",)),)), ())
