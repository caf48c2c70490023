"""Initial RAM disks: plain, compressed, one behind the other, and everything that is none."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evident.errors import Malformed, Unsupported
from evident.evidence import cpio


def entry(name: str, content: bytes = b"") -> bytes:
    fields = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


END = entry("TRAILER!!!")
ONE = entry(".") + entry("./init", b"abcde") + entry("/usr/bin/x") + entry(".hidden") + END
NAMES = ("init", "usr/bin/x", ".hidden")


def test_names_of_an_archive() -> None:
    assert cpio.names(ONE) == NAMES
    assert cpio.names(b"") == ()


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress, lambda raw: lzma.compress(raw, lzma.FORMAT_ALONE)])
def test_compressed(compress: Callable[[bytes], bytes]) -> None:
    assert cpio.looks_like(compress(ONE))
    assert cpio.names(compress(ONE)) == NAMES


def test_archives_behind_one_another() -> None:
    """Microcode in front, as distributions build it, with zeros between."""
    early = entry("kernel/x86/microcode/AuthenticAMD.bin", b"x" * 100) + END
    assert cpio.names(early + bytes(512) + gzip.compress(ONE)) == ("kernel/x86/microcode/AuthenticAMD.bin", *NAMES)
    assert cpio.names(early + ONE) == ("kernel/x86/microcode/AuthenticAMD.bin", *NAMES)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"not an archive", "initrd.format"),
        (ONE[:-20], "initrd.truncated"),
        (entry("init", b"abc")[:-4] + b"0707", "initrd.truncated"),
        (ONE.replace(b"070701", b"070703"), "initrd.format"),
        (entry("a") + b"070709" + END, "initrd.magic"),
        (b"070701" + b"zzzzzzzz" * 13 + END, "initrd.header"),
        (b"070701" + b"00000000" * 13 + END, "initrd.name"),
        (gzip.compress(b"no archive inside", mtime=0), "initrd.format"),
        (gzip.compress(ONE, mtime=0)[:4] + b"\xff" * 30, "initrd.compression"),
    ],
)
def test_what_is_none(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as refusal:
        cpio.names(raw)
    assert refusal.value.code == code


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bz2.compress])
def test_what_stands_behind_a_compressed_archive_is_read_too(compress: Callable[[bytes], bytes]) -> None:
    hidden = entry("usr/bin/cloud-init") + END
    for second in (hidden, compress(hidden), bytes(8) + compress(hidden) + bytes(4)):
        assert cpio.names(compress(ONE) + second) == (*NAMES, "usr/bin/cloud-init")
    with pytest.raises(Malformed):
        cpio.names(compress(ONE) + b"junk")
    with pytest.raises(Malformed):
        cpio.names(compress(ONE)[:-9])


def test_many_archives_cost_no_more_than_their_bytes() -> None:
    assert cpio.names(END * 20_000 + ONE) == NAMES
    with pytest.raises(Malformed) as refusal:
        cpio.names(gzip.compress(END, mtime=0) * (cpio.MAX_COMPRESSED + 1))
    assert refusal.value.code == "initrd.oversized"


@pytest.mark.parametrize(("magic", "name"), [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4")])
def test_compressions_that_python_lacks_are_named(magic: bytes, name: str) -> None:
    with pytest.raises(Unsupported) as refusal:
        cpio.names(magic + bytes(40))
    assert refusal.value.findings[0].found == name
    assert name in refusal.value.findings[0].remedy


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MAX_BYTES", 1 << 20)
    with pytest.raises(Malformed) as refusal:
        cpio.names(gzip.compress(entry("zeros", bytes(2 << 20)) + END))
    assert refusal.value.code == "initrd.oversized"


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio here to compare with")
def test_the_peer_writes_what_we_read(tmp_path: Path) -> None:
    for name in ("init", "usr/bin/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    written = subprocess.run(["cpio", "-o", "-H", "newc"], cwd=tmp_path, input=b"init\nusr/bin/x\n", capture_output=True, check=True)
    assert cpio.names(written.stdout) == ("init", "usr/bin/x")
