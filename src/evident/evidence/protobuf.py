"""The protobuf wire format, as far as attestation containers need it: fields of one message, strictly.

Source: Protocol Buffers documentation, "Encoding". Varints must have their shortest form and fit 64 bits; groups are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from evident.errors import Malformed

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 4096


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of one message in wire order: number to values (ints for numbers, bytes for everything with a length)."""

    what: str
    fields: tuple[tuple[int, int | bytes], ...]

    def one_bytes(self, number: int) -> bytes:
        """The field's value, empty when absent; refused when it occurs twice or is a number."""
        value = self._one(number, b"")
        if not isinstance(value, bytes):
            raise malformed(self.what, f"bytes in field {number}", str(value))
        return value

    def one_int(self, number: int) -> int:
        """The field's value, 0 when absent; refused when it occurs twice or is no number."""
        value = self._one(number, 0)
        if not isinstance(value, int):
            raise malformed(self.what, f"a number in field {number}", f"{len(value)} bytes")
        return value

    def all_bytes(self, number: int) -> tuple[bytes, ...]:
        """All values of a repeated field."""
        values = [value for found, value in self.fields if found == number]
        if not all(isinstance(value, bytes) for value in values):
            raise malformed(self.what, f"bytes in field {number}", "a number")
        return tuple(value for value in values if isinstance(value, bytes))

    def only(self, *numbers: int) -> Message:
        """This message, refused when it has other fields than these."""
        unknown = sorted({number for number, _ in self.fields}.difference(numbers))
        if unknown:
            raise malformed(self.what, "fields " + ", ".join(map(str, numbers)), f"field {unknown[0]}")
        return self

    def _one(self, number: int, default: int | bytes) -> int | bytes:
        values = [value for found, value in self.fields if found == number]
        if len(values) > 1:
            raise malformed(self.what, f"field {number} once", f"{len(values)} times")
        return values[0] if values else default


def malformed(what: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{what}.protobuf", expected=expected, found=found, remedy="Check that this is the right file, and whole.")


def parse(raw: bytes, what: str) -> Message:
    """All fields of `raw`. Raises `Malformed` (``<what>.protobuf``)."""
    fields: list[tuple[int, int | bytes]] = []
    offset = 0
    while offset < len(raw):
        key, offset = _varint(raw, offset, what)
        number, wire = key >> 3, key & 7
        if number == 0 or number >= 1 << 29 or len(fields) >= MAX_FIELDS:
            raise malformed(what, f"at most {MAX_FIELDS} fields with numbers from 1", f"field {number}")
        if wire == VARINT:
            value, offset = _varint(raw, offset, what)
            fields.append((number, value))
            continue
        if wire == LENGTH:
            size, offset = _varint(raw, offset, what)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise malformed(what, "wire type 0, 1, 2 or 5", str(wire))
        if size > len(raw) - offset:
            raise malformed(what, f"{size} bytes of field {number}", f"{len(raw) - offset} bytes left")
        chunk = raw[offset : offset + size]
        fields.append((number, chunk if wire == LENGTH else int.from_bytes(chunk, "little")))
        offset += size
    return Message(what, tuple(fields))


def _varint(raw: bytes, offset: int, what: str) -> tuple[int, int]:
    value = 0
    for position in range(10):
        if offset + position >= len(raw):
            break
        byte = raw[offset + position]
        value |= (byte & 0x7F) << 7 * position
        if not byte & 0x80:
            if (position and byte == 0) or value >= 1 << 64:
                raise malformed(what, "a varint in its shortest form", raw[offset : offset + position + 1].hex())
            return value, offset + position + 1
    raise malformed(what, "a whole varint", raw[offset : offset + 10].hex() or "the end")


def encode_varint(value: int) -> bytes:
    """The shortest form of `value` (0 to 2**64 - 1)."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode(fields: tuple[tuple[int, int | bytes], ...]) -> bytes:
    """The wire form of `fields`: numbers as varints, bytes with their length."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(encode_varint(number << 3 | VARINT) + encode_varint(value))
        else:
            parts.append(encode_varint(number << 3 | LENGTH) + encode_varint(len(value)) + value)
    return b"".join(parts)
