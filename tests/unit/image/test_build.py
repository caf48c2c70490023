"""What a build records of its parts: one digest for each group of files, and which groups are made from source alone."""

from __future__ import annotations

from pathlib import Path

from evident.image.build import _Build
from evident.image.initrd import CONFIGURATION, OWN_CODE, PYTHON
from evident.image.lock import Store
from evident.image.spec import ImageSpec, Unit
from evident.image.stated import Lock
from evident.image.tree import Entry, Tree, origins


def recorded(tmp_path: Path, files: dict[str, bytes], own: set[str]) -> tuple[dict[str, bytes], set[str]]:
    build = _Build(
        ImageSpec(1, "shop", (Unit("shop", ("/bin/x",)),)), Lock(1, "trixie", "amd64"), Store(tmp_path), tmp_path, tmp_path, tmp_path, print
    )
    tree = Tree()
    for path, data in files.items():
        tree.add_file(path, data)
    build._record("initrd", tree, own)
    return build._components, build._from_source


CODE = f"{OWN_CODE}/guest/init.pyc"
FILES = {CODE: b"own", f"{PYTHON}/os.pyc": b"python", "srv/a/b/one": b"own", "srv/a/b/two": b"package", CONFIGURATION: b"{}"}


def test_a_group_is_made_from_source_when_every_file_of_it_is(tmp_path: Path) -> None:
    components, from_source = recorded(tmp_path, FILES, {CODE, "srv/a/b/one", CONFIGURATION})
    named = {f"initrd /{OWN_CODE}", f"initrd /{CONFIGURATION}"}
    folders = {"initrd /etc", "initrd /etc/evident", "initrd /srv", "initrd /srv/a", "initrd /usr", "initrd /usr/lib"}
    assert from_source == {"spec", "command line", *named, *folders}
    assert {*named, "initrd /srv/a/b", f"initrd /{PYTHON}"} <= components.keys()


def test_a_changed_file_changes_the_digest_of_its_group_alone(tmp_path: Path) -> None:
    before, _ = recorded(tmp_path, FILES, set())
    after, _ = recorded(tmp_path, {**FILES, CODE: b"another"}, set())
    assert [name for name in before if before[name] != after[name]] == [f"initrd /{OWN_CODE}"]


def test_a_component_is_of_the_packages_of_its_files() -> None:
    """Own files and links of none; a file of unknown origin leaves the whole unknown."""
    known = Entry("file", 0o644, b"python", frozenset({"python3"}))
    links = {f"{PYTHON}/a": Entry("link", 0o777, b"b", frozenset({"base"})), f"{PYTHON}/c": Entry("link", 0o777, b"d")}
    tree = {CODE: Entry("file", 0o644, b"own"), f"{PYTHON}/os.pyc": known, **links}
    assert origins(tree.items(), {CODE}) == {"python3", "base"}
    assert origins(tree.items(), ()) is None
    assert origins([(CODE, tree[CODE])], {CODE}) == frozenset()
