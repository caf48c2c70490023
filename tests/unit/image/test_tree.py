"""Trees become archives that depend on nothing but their content."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest

from evident.errors import Malformed
from evident.evidence import cpio
from evident.image.toolbox import merged_usr
from evident.image.tree import EPOCH, Tree


def a_tree(*order: str) -> Tree:
    tree = merged_usr()
    for path in order:
        tree.add_file(path, path.encode(), 0o755 if path.startswith("bin") else 0o644)
    return tree


def test_the_order_of_addition_does_not_matter() -> None:
    one, other = a_tree("bin/a", "etc/b", "usr/lib/c"), a_tree("usr/lib/c", "etc/b", "bin/a")
    assert one.cpio() == other.cpio()
    assert one.tar() == other.tar()
    assert one.cpio() != a_tree("bin/a", "etc/b").cpio()


def test_paths_below_a_link_land_where_it_points() -> None:
    tree = a_tree("bin/a")
    assert list(tree) == ["bin", "lib", "lib64", "sbin", "usr", "usr/bin", "usr/bin/a", "usr/lib", "usr/lib64", "usr/sbin"]
    assert tree.read("bin/a") == b"bin/a"


def test_the_archive_is_one_to_other_readers() -> None:
    tree = a_tree("bin/a", "etc/b")
    assert cpio.names(tree.cpio()) == tuple(tree)
    with tarfile.open(fileobj=io.BytesIO(tree.tar())) as archive:
        members = {member.name: member for member in archive}
    assert {member.mtime for member in members.values()} == {EPOCH}
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert (members["usr/bin/a"].mode, members["bin"].linkname) == (0o755, "usr/bin")


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_the_archive() -> None:
    listed = subprocess.run(["cpio", "-t"], input=a_tree("bin/a", "etc/b").cpio(), capture_output=True, check=True).stdout.decode().split()
    assert listed == list(a_tree("bin/a", "etc/b"))


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../b", "a//b", "", "a/."])
def test_refuses_paths_that_leave_the_tree(path: str) -> None:
    with pytest.raises(Malformed, match=r"image\.path"):
        Tree().add_file(path, b"")


def test_refuses_loops_and_files_as_folders() -> None:
    tree = Tree()
    tree.add_link("a", "b")
    tree.add_link("b", "a")
    with pytest.raises(Malformed, match=r"image\.link"):
        tree.add_file("a/x", b"")
    tree.add_file("file", b"")
    with pytest.raises(Malformed, match=r"image\.path"):
        tree.add_file("file/x", b"")
    with pytest.raises(Malformed, match=r"image\.missing"):
        tree.read("nothing")


def test_links_never_lead_out() -> None:
    tree = Tree()
    tree.add_link("out", "../../../etc")
    tree.add_file("out/passwd", b"inside")
    assert tree.read("etc/passwd") == b"inside"
