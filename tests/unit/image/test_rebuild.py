"""From which source a package is, what its build needs, and in what two packages differ; real builds are tests/boot/test_rebuild.py."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.image.test_elf import a_module

from evident.errors import EvidentError, Unsupported
from evident.image import rebuild
from evident.image.difference import first_difference
from evident.image.lock import Store
from evident.image.rebuild import Origin, Tried
from evident.image.stated import LockedPackage

CHANGE = b"tool (1-2+b1) sid; urgency=low, binary-only=yes\n\n  * Rebuild.\n\n -- A <a@b>  Sun, 01 Jun 2025 10:00:00 +0000\n"


def archive(files: dict[str, bytes], mode: int = 0o644, mtime: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for path, data in files.items():
            info = tarfile.TarInfo(f"./{path}")
            info.size, info.mode, info.mtime = len(data), mode, mtime
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def a_deb(control: str, files: dict[str, bytes] | None = None, *, mode: int = 0o644, mtime: int = 0, preset: int = 6) -> bytes:
    raw = b"!<arch>\n"
    data = {"tool": b"program"} if files is None else files
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(archive({"control": control.encode(), "md5sums": repr(data).encode()})),
        "data.tar.xz": lzma.compress(archive(data, mode, mtime), preset=preset),
    }
    for name, content in parts.items():
        raw += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}".encode() + b"`\n" + content + b"\n" * (len(content) % 2)
    return raw


def locked(raw: bytes, version: str = "1-2") -> LockedPackage:
    return LockedPackage("tool", version, f"debian/pool/main/t/tool/tool_{version}_amd64.deb", len(raw), hashlib.sha256(raw).digest(), ())


@pytest.mark.parametrize(
    ("version", "control", "expected"),
    [
        ("1-2", "Package: tool\nArchitecture: amd64", Origin("tool", "1-2", "any")),
        ("1-2", "Package: tool\nArchitecture: all", Origin("tool", "1-2", "all")),
        ("2:5-1", "Package: tool\nSource: kit (3-1)\nArchitecture: amd64", Origin("kit", "3-1", "any")),
        ("1-2+b7", "Package: tool\nSource: kit (1-2+b7)\nArchitecture: amd64", Origin("kit", "1-2+b7", "any")),
        ("1-2+b1", "Package: tool\nSource: tool (1-2)\nArchitecture: amd64", Origin("tool", "1-2", "any", CHANGE + b"\n")),
    ],
)
def test_the_source_is_what_the_package_says(version: str, control: str, expected: Origin) -> None:
    raw = a_deb(control, {"usr/share/doc/tool/changelog.Debian.amd64.gz": gzip.compress(CHANGE)})
    assert rebuild.origin(locked(raw, version), raw) == expected


@pytest.mark.parametrize(
    ("version", "control", "code"),
    [
        ("1-2", "Package: tool\nBuilt-Using: linux (= 6.12-1)", "image.package-built-using"),
        ("1-2", "Package: tool\nSource: ../tool", "image.package-source"),
        ("1-2+b1", "Package: tool\nSource: tool (1-2)", "image.package-binnmu"),
    ],
)
def test_what_no_build_of_its_own_source_makes_is_refused_by_name(version: str, control: str, code: str) -> None:
    raw = a_deb(control)
    with pytest.raises(Unsupported, match=r"tool") as caught:
        rebuild.origin(locked(raw, version), raw)
    assert caught.value.code == code


def test_a_name_of_the_locks_own_making_is_no_source() -> None:
    raw = a_deb("Architecture: amd64")
    with pytest.raises(Unsupported, match=r"image\.package-source.*--option"):
        rebuild.origin(replace(locked(raw), name="--option"), raw)


def test_a_build_needs_what_its_kind_needs() -> None:
    description = b"Source: tool\nBuild-Depends: a,\n b <!nocheck>,\nBuild-Depends-Arch: c\nBuild-Depends-Indep: d\nBuild-Conflicts: e\n"
    assert rebuild.depends(description, "any", "tool.dsc") == ("a, b <!nocheck>", "c", "Conflicts: e")
    assert rebuild.depends(description, "all", "tool.dsc") == ("a, b <!nocheck>", "d", "Conflicts: e")


def test_the_first_difference_is_named() -> None:
    control = "Package: tool"
    good = a_deb(control)
    assert first_difference(good, good) is None
    for other, said in (
        (a_deb(control, {"tool": b"program", "more": b""}), "data.tar ./more: is new"),
        (a_deb(control, {}), "data.tar ./tool: is missing"),
        (a_deb(control, {"tool": b"proGram"}), "data.tar ./tool: content, from byte 3 of 7 (built: 7)"),
        (a_deb(control, mode=0o755), "data.tar ./tool: mode 493 for 420"),
        (a_deb(control, mtime=1), "data.tar ./tool: mtime 1 for 0"),
        (a_deb("Package: tool\nDepends: x"), "control.tar ./control: content, from byte 13 of 13 (built: 24)"),
        (a_deb(control, {"tool": b"program"}, preset=0), "data.tar.xz: only the way in which it is packed"),
        (b"not a package", "not a package that can be read: package: no ar archive"),
    ):
        assert first_difference(good, other) == said


def test_sections_of_programs_are_named() -> None:
    control = "Package: tool"
    one, other = (a_deb(control, {"tool": a_module(info)}) for info in (b"name=a\0", b"name=b\0"))
    assert first_difference(one, other) == "data.tar ./tool: content, in .modinfo"


def test_packages_that_cannot_be_rebuilt_stop_nothing_and_need_no_root(tmp_path: Path) -> None:
    raw = a_deb("Package: tool\nBuilt-Using: linux (= 6.12-1)")
    package, gone = locked(raw), locked(b"")
    Store(tmp_path).path(package.sha256).write_bytes(raw)
    tried = list(rebuild.rebuild([package, gone], suite="trixie", store=Store(tmp_path), addresses=(), logs=tmp_path))
    assert [one.package for one in tried] == [package, gone]
    assert [one.problem and one.problem.code for one in tried] == ["image.package-built-using", "image.package-vanished"]
    assert not any(one.equal for one in tried)


def test_without_a_mirror_nothing_is_built(tmp_path: Path) -> None:
    raw = a_deb("Package: tool\nArchitecture: amd64")
    Store(tmp_path).path(locked(raw).sha256).write_bytes(raw)
    with pytest.raises(EvidentError, match=r"image\.mirror"):
        list(rebuild.rebuild([locked(raw)], suite="trixie", store=Store(tmp_path), addresses=(), logs=tmp_path))


def test_what_was_not_built_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="nothing was built"):
        rebuild.sign(Tried(locked(b"")), at=None, key=None)  # type: ignore[arg-type]  # neither is reached
