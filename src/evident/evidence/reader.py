"""A cursor over untrusted bytes that checks every length before it slices.

Python slices never raise, so parsers in this package read through `Reader` and never index raw input.
"""

from __future__ import annotations

from evident.errors import Malformed


class Reader:
    """Reads forward through `data`; every failure is a `Malformed` whose code starts with `what`."""

    __slots__ = ("_data", "_what", "offset")

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        self._data = bytes(data)
        self._what = what
        self.offset = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self.offset

    def take(self, length: int, field: str) -> bytes:
        """The next `length` bytes."""
        start = self.offset
        end = start + length
        if length < 0 or end > len(self._data):
            raise Malformed.of(
                f"{self._what}.truncated",
                expected=f"{length} bytes of {field} at offset {self.offset:#x}",
                found=f"{self.remaining} bytes left of {len(self._data)}",
                remedy="Collect the evidence again; it was cut short or is of another format.",
            )
        self.offset = end
        return self._data[start:end]

    def unsigned(self, size: int, field: str, *, order: str = "little") -> int:
        """An unsigned integer of `size` bytes, ``little`` or ``big`` endian."""
        return int.from_bytes(self.take(size, field), "big" if order == "big" else "little")

    def u8(self, field: str) -> int:
        return self.unsigned(1, field)

    def u16(self, field: str, *, order: str = "little") -> int:
        return self.unsigned(2, field, order=order)

    def u32(self, field: str, *, order: str = "little") -> int:
        return self.unsigned(4, field, order=order)

    def u64(self, field: str, *, order: str = "little") -> int:
        return self.unsigned(8, field, order=order)

    def zeros(self, length: int, field: str) -> None:
        """`length` bytes that the format says are reserved and zero."""
        start = self.offset
        value = self.take(length, field)
        if value.strip(b"\0"):
            raise Malformed.of(
                f"{self._what}.reserved",
                expected=f"zero bytes in {field} ({start:#x}-{start + length - 1:#x})",
                found=value.hex() if length <= 32 else f"{value[:32].hex()}...",
                remedy="The format is newer than this version of Evident, or the evidence was altered.",
            )

    def end(self) -> None:
        """Refuse trailing bytes."""
        if self.remaining:
            raise Malformed.of(
                f"{self._what}.trailing",
                expected=f"exactly {self.offset} bytes",
                found=f"{len(self._data)} bytes",
                remedy="Pass the evidence alone, without header, padding or a second copy.",
            )


def exact_length(data: bytes, length: int, what: str) -> None:
    """Refuse `data` of any other length before any field of it is looked at."""
    if len(data) != length:
        raise Malformed.of(
            f"{what}.length",
            expected=f"exactly {length} bytes",
            found=f"{len(data)} bytes",
            remedy="Pass the evidence alone, without header, padding or a second copy.",
        )
