"""What an initial RAM disk holds: the names in its cpio archives, one behind the other, each plain or compressed.

Source: Linux ``Documentation/driver-api/early-userspace/buffer-format.rst`` (initramfs buffer format: archives in the formats
070701 and 070702, each header 6 + 13 * 8 ASCII characters, names and contents padded to four bytes, zeros between archives; the kernel
unpacks every one of them, and nothing that was compressed twice). Only names are read; contents are skipped. Decompression is bounded.
gzip, xz, lzma and bzip2 are in Python 3.11; zstd, lz4 and lzo are not.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from typing import Protocol

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader

WHAT = "initrd"
MAX_BYTES = 1024 * 1024 * 1024
MAX_ENTRIES = 1_000_000
MAX_NAME = 4096
MAX_COMPRESSED = 64
_ZEROS = re.compile(rb"\0*")
_MAGICS = (b"070701", b"070702")
_TRAILER = "TRAILER!!!"
_UNKNOWN = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4", b"\x89LZO": "lzo"}


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def looks_like(raw: bytes) -> bool:
    """Is this an archive, or one that is compressed?"""
    return raw[:6] in _MAGICS or _decompressor(raw) is not None or raw[:4] in _UNKNOWN


def names(raw: bytes) -> tuple[str, ...]:
    """Every path in the archives, without a leading ``/`` or ``./``; ``.`` and trailers left out.

    Raises `Malformed` (``initrd.*``) and `Unsupported` ``initrd.compression``.
    """
    found: list[str] = []
    offset, compressed, left = _behind_zeros(raw, 0), 0, MAX_BYTES
    while offset < len(raw):
        if raw[offset : offset + 6] in _MAGICS:
            offset = _archive(raw, offset, found)
        else:
            compressed += 1
            if compressed > MAX_COMPRESSED:
                raise _malformed("oversized", f"at most {MAX_COMPRESSED} compressed archives", "more")
            plain, offset = _inflate(raw, offset, left)
            left -= len(plain)
            _archives(plain, found)
        offset = _behind_zeros(raw, offset)
    return tuple(found)


def _behind_zeros(raw: bytes, offset: int) -> int:
    found = _ZEROS.match(raw, offset)
    return found.end() if found else offset


def _archives(plain: bytes, found: list[str]) -> None:
    """Append the names of the archives that were compressed together; the kernel unpacks nothing twice."""
    offset = _behind_zeros(plain, 0)
    while offset < len(plain):
        if plain[offset : offset + 6] not in _MAGICS:
            raise _malformed("format", "a cpio archive inside the compression", f"bytes {plain[offset : offset + 8].hex()}")
        offset = _behind_zeros(plain, _archive(plain, offset, found))


def _archive(raw: bytes, start: int, found: list[str]) -> int:
    """Append the names of the archive at `start`; where it ends."""
    reader = Reader(raw, WHAT)
    reader.offset = start
    while True:
        if reader.take(6, "magic") not in _MAGICS:
            raise _malformed("magic", "another file's header, 070701", "something else")
        fields = [_number(reader.take(8, "header")) for _ in range(13)]
        size, name_size = fields[6], fields[11]
        if not 1 <= name_size <= MAX_NAME:
            raise _malformed("name", f"a name of at most {MAX_NAME} bytes", f"{name_size}")
        name = reader.take(name_size, "name")
        if name[-1:] != b"\0":
            raise _malformed("name", "a name that ends with a zero", "one that does not")
        reader.take((start - reader.offset) % 4, "padding")
        text = name[:-1].decode("utf-8", "surrogateescape")
        if text == _TRAILER:
            return reader.offset
        reader.take(size, f"contents of {text[:80]!r}")
        reader.take(min((start - reader.offset) % 4, reader.remaining), "padding")
        path = text.removeprefix("./").lstrip("/")
        if path not in ("", "."):
            found.append(path)
        if len(found) > MAX_ENTRIES:
            raise _malformed("entries", f"at most {MAX_ENTRIES} files", "more")


def _number(digits: bytes) -> int:
    if digits.strip(b"0123456789abcdefABCDEF"):
        raise _malformed("header", "eight hexadecimal digits", repr(digits))
    return int(digits, 16)


def _decompressor(raw: bytes) -> _Decompressor | None:
    if raw[:2] == b"\x1f\x8b":
        return _Gzip()
    if raw[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_BYTES)
    if raw[:3] == b"\x5d\0\0":
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_BYTES)
    if raw[:3] == b"BZh":
        return bz2.BZ2Decompressor()
    return None


class _Gzip:
    """zlib's own decompressor, with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _inflate(raw: bytes, start: int, limit: int) -> tuple[bytes, int]:
    """What is compressed at `start`, of at most `limit` bytes, and where the compressed data end."""
    head = raw[start : start + 6]
    decompressor = _decompressor(head)
    if decompressor is None:
        name = _UNKNOWN.get(head[:4])
        if name is None:
            raise _malformed("format", "a cpio archive (070701), plain or compressed", f"bytes {raw[start : start + 8].hex()}")
        raise Unsupported.of(
            f"{WHAT}.compression",
            expected="an initial RAM disk in plain cpio, gzip, xz, lzma or bzip2",
            found=name,
            remedy=f"Unpack it first ({name} -d), or pass the list of its files.",
        )
    try:
        plain = decompressor.decompress(raw[start:], limit + 1)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise _malformed("compression", "a compressed archive", str(error)) from None
    if len(plain) > limit:
        raise _malformed("oversized", f"at most {MAX_BYTES} bytes unpacked", "more")
    if not decompressor.eof:
        raise _malformed("compression", "a whole compressed archive", "one that was cut short")
    if not plain.strip(b"\0"):
        raise _malformed("format", "a cpio archive inside the compression", "nothing but zeros" if plain else "nothing")
    return plain, len(raw) - len(decompressor.unused_data)


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy="Check that this is the whole initial RAM disk.")
