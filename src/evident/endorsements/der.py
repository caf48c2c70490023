"""A cursor over DER that refuses everything that is not DER.

Source: ITU-T X.690 (02/2021) sections 8 and 10. Definite, minimal lengths; tag numbers below 31; no trailing bytes where
the schema ends. The caller walks the schema, so nesting is bounded by code and not by input.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from evident.errors import Malformed

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
T61_STRING = 0x14
IA5_STRING = 0x16
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
BMP_STRING = 0x1E
SEQUENCE = 0x30
SET = 0x31

MAX_OID_BYTES = 64
MAX_INTEGER_BYTES = 1024


def context(number: int, *, constructed: bool = True) -> int:
    """The tag byte of context-specific ``[number]``."""
    return 0x80 | (0x20 if constructed else 0) | number


@lru_cache(maxsize=256)  # a pure function; certificates repeat the same few identifiers
def _dotted(content: bytes) -> str | None:
    """The dotted form of an identifier's content, None when an arc is not in its shortest form."""
    arcs: list[int] = []
    value, fresh = 0, True
    for byte in content:
        if fresh and byte == 0x80:
            return None
        value, fresh = value << 7 | byte & 0x7F, not byte & 0x80
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


class Der:
    """Reads elements from ``data[offset:end]``; every failure is a `Malformed` whose code starts with `what`."""

    __slots__ = ("_data", "_end", "_what", "offset")

    def __init__(self, data: bytes, what: str, offset: int = 0, end: int | None = None) -> None:
        self._data = data
        self._what = what
        self.offset = offset
        self._end = len(data) if end is None else end

    def fail(self, problem: str, *, expected: str, found: str) -> Malformed:
        """The error of this structure, to be raised by the caller."""
        return Malformed.of(
            f"{self._what}.{problem}",
            expected=expected,
            found=found,
            remedy="Obtain this file again; it was damaged or is of another kind.",
        )

    @property
    def more(self) -> bool:
        return self.offset < self._end

    def at(self, tag: int) -> bool:
        """Whether the next element has this tag; False at the end."""
        return self.offset < self._end and self._data[self.offset] == tag

    def _header(self, field: str) -> tuple[int, int, int]:
        """Tag, start and end of the next element's content; moves past the element."""
        data, offset, end = self._data, self.offset, self._end
        if end - offset < 2:
            raise self.fail("truncated", expected=f"{field} at offset {offset}", found=f"{end - offset} bytes left")
        tag, length = data[offset], data[offset + 1]
        start = offset + 2
        if tag & 0x1F == 0x1F:
            raise self.fail("der", expected=f"a one-byte tag for {field}", found=f"{tag:#04x}")
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4 or end - start < size:
                raise self.fail("der", expected=f"a definite length of {field}", found=f"length byte {length:#04x} at offset {offset + 1}")
            length = int.from_bytes(data[start : start + size], "big")
            if length < 0x80 or length >> 8 * (size - 1) == 0:
                raise self.fail("der", expected=f"the shortest form of the length of {field}", found=f"{size} bytes for {length}")
            start += size
        if length > end - start:
            raise self.fail("truncated", expected=f"{length} bytes of {field}", found=f"{end - start} bytes left")
        self.offset = start + length
        return tag, start, start + length

    def _expect(self, tag: int, field: str) -> tuple[int, int]:
        offset, data = self.offset, self._data
        if self._end - offset >= 2 and data[offset] == tag and (length := data[offset + 1]) < 0x80:  # most elements, in one go
            start = offset + 2
            if length <= self._end - start:
                self.offset = start + length
                return start, self.offset
        found, start, end = self._header(field)
        if found != tag:
            raise self.fail("der", expected=f"tag {tag:#04x} for {field} at offset {offset}", found=f"{found:#04x}")
        return start, end

    def content(self, tag: int, field: str) -> bytes:
        """The content of the next element, which must have `tag`."""
        start, end = self._expect(tag, field)
        return self._data[start:end]

    def any(self, field: str) -> tuple[int, bytes]:
        """Tag and content of the next element, whatever it is."""
        tag, start, end = self._header(field)
        return tag, self._data[start:end]

    def raw(self, tag: int, field: str) -> bytes:
        """The next element with its header."""
        offset = self.offset
        _, end = self._expect(tag, field)
        return self._data[offset:end]

    def enter(self, tag: int, field: str) -> Der:
        """A cursor over the content of the next element; this one moves past it."""
        start, end = self._expect(tag, field)
        return Der(self._data, self._what, start, end)

    def rest(self) -> bytes:
        """Everything that is left; this cursor is then at its end."""
        start, self.offset = self.offset, self._end
        return self._data[start : self._end]

    def end(self, field: str) -> None:
        """Refuse bytes after the last element of `field`."""
        if self.offset != self._end:
            raise self.fail("trailing", expected=f"nothing after {field}", found=f"{self._end - self.offset} more bytes")

    def integer(self, field: str, tag: int = INTEGER) -> int:
        """A signed integer in its shortest form."""
        content = self.content(tag, field)
        if not content or len(content) > MAX_INTEGER_BYTES:
            raise self.fail("der", expected=f"an integer of 1 to {MAX_INTEGER_BYTES} bytes for {field}", found=f"{len(content)} bytes")
        if len(content) > 1 and ((content[0] == 0 and content[1] < 0x80) or (content[0] == 0xFF and content[1] >= 0x80)):
            raise self.fail("der", expected=f"the shortest form of {field}", found=content[:8].hex())
        return int.from_bytes(content, "big", signed=True)

    def unsigned(self, field: str, limit: int) -> int:
        """An integer from 0 to `limit`."""
        value = self.integer(field)
        if not 0 <= value <= limit:
            raise self.fail("range", expected=f"{field} from 0 to {limit}", found=f"{value:#x}")
        return value

    def boolean(self, field: str) -> bool:
        content = self.content(BOOLEAN, field)
        if content not in (b"\x00", b"\xff"):
            raise self.fail("der", expected=f"00 or ff for {field}", found=content[:8].hex())
        return content == b"\xff"

    def oid(self, field: str) -> str:
        """An object identifier in dotted form."""
        content = self.content(OBJECT_IDENTIFIER, field)
        if not content or len(content) > MAX_OID_BYTES or content[-1] & 0x80:
            raise self.fail("der", expected=f"an object identifier for {field}", found=content[:8].hex() or "nothing")
        dotted = _dotted(content)
        if dotted is None:
            raise self.fail("der", expected=f"the shortest form of {field}", found=content.hex())
        return dotted

    def bits(self, field: str) -> tuple[bytes, int]:
        """A bit string: its bytes and the number of unused low bits of the last one, which must be zero."""
        content = self.content(BIT_STRING, field)
        unused = content[0] if content else 8
        if unused > 7 or (unused and len(content) == 1) or (unused and content[-1] & (1 << unused) - 1):
            raise self.fail("der", expected=f"a bit string for {field}", found=content[:8].hex() or "nothing")
        return content[1:], unused

    def whole_bytes(self, field: str) -> bytes:
        """A bit string of a whole number of bytes."""
        content, unused = self.bits(field)
        if unused:
            raise self.fail("der", expected=f"whole bytes for {field}", found=f"{unused} unused bits")
        return content

    def time(self, field: str) -> datetime:
        """UTCTime or GeneralizedTime in the one form of RFC 5280 section 4.1.2.5: seconds, no fraction, Z."""
        tag, content = self.any(field)
        text = content.decode("ascii", "replace")
        digits = {UTC_TIME: 12, GENERALIZED_TIME: 14}.get(tag, -1)
        if len(text) != digits + 1 or text[-1] != "Z" or not text[:-1].isdecimal() or not text.isascii():
            raise self.fail("time", expected=f"YYMMDDhhmmssZ or YYYYMMDDhhmmssZ for {field}", found=repr(text[:20]))
        if tag == UTC_TIME:
            text = ("19" if text[:2] >= "50" else "20") + text
        year, month, day, hour, minute, second = (int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2)))
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            raise self.fail("time", expected=f"a date of the calendar for {field}", found=repr(text)) from None
