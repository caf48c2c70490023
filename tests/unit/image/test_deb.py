"""Packages are unpacked, never run; what is no package is refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed, Unsupported
from evident.image import deb
from evident.image.lock import Store
from evident.image.stated import LockedPackage
from evident.image.toolbox import merged_usr
from evident.image.tree import Tree


def member(name: str, data: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}".encode() + b"`\n"
    return head + data + b"\n" * (len(data) % 2)


def a_deb(
    *files: tuple[str, bytes, int], links: tuple[tuple[str, str], ...] = (), name: str = "data.tar.xz", kind: bytes = tarfile.REGTYPE
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data, mode in files:
            info = tarfile.TarInfo(path)
            info.size, info.mode, info.type = len(data), mode, kind
            archive.addfile(info, io.BytesIO(data))
        for path, target in links:
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.xz", b"") + member(name, lzma.compress(out.getvalue()))


GOOD = a_deb(("./usr/bin/tool", b"x" * 9, 0o4755), ("./etc/conf", b"c", 0o666), links=(("./usr/bin/alias", "tool"),))


def test_unpacks_without_owners_and_set_user_id() -> None:
    tree = merged_usr()
    deb.lay(deb.entries(GOOD, "tool 1"), "tool 1", tree)
    assert (tree["usr/bin/tool"].mode, tree["etc/conf"].mode) == (0o755, 0o644)
    assert tree.read("bin/alias") == b"x" * 9
    deb.lay(deb.entries(GOOD, "tool 1"), "tool 1", tree)  # the same content twice is no conflict


def test_two_packages_with_one_path() -> None:
    tree = Tree()
    deb.lay(deb.entries(GOOD, "tool 1"), "tool 1", tree)
    with pytest.raises(Malformed, match=r"image.file-conflict.*tool 2"):
        deb.lay(deb.entries(a_deb(("usr/bin/tool", b"other", 0o755)), "tool 2"), "tool 2", tree)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "image.deb"),
        (b"!<arch>\nshort", "image.deb"),
        (GOOD[:-20], "image.deb"),
        (a_deb(("../../etc/passwd", b"", 0o644)), "image.path"),
        (a_deb(("/etc/passwd", b"", 0o644)), "image.path"),
        (a_deb(("dev/sda", b"", 0o644), kind=tarfile.BLKTYPE), "image.deb"),
    ],
)
def test_refuses(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        deb.lay(deb.entries(raw, "tool 1"), "tool 1", Tree())
    assert caught.value.code == code


def test_another_compression_is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"image.deb-compression"):
        deb.entries(a_deb(name="data.tar.zst"), "tool 1")


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_nothing_but_our_own(offset: int, change: int) -> None:
    raw = bytearray(GOOD)
    raw[offset] ^= change
    with contextlib.suppress(Malformed, Unsupported):
        deb.lay(deb.entries(bytes(raw), "tool 1"), "tool 1", Tree())


def test_what_is_laid_out_is_of_the_package_it_came_with(tmp_path: Path) -> None:
    raw = a_deb(("./usr/bin/tool", b"x", 0o755))
    package = LockedPackage("tool", "1", "debian/pool/tool.deb", len(raw), hashlib.sha256(raw).digest(), ("root", "initrd"))
    Store(tmp_path).path(package.sha256).write_bytes(raw)
    store, tree = Store(tmp_path), Tree()
    for _ in range(2):  # once unpacked, once remembered
        store.lay(package, tree)
        assert tree.file("usr/bin/tool").packages == {"tool"}
