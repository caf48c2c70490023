"""Strict CBOR, and COSE_Sign1 as attestation documents use it.

Source: RFC 8949 (CBOR) sections 4.2.1 and 5.3; RFC 9052 (COSE) sections 3, 4.2 and 4.4; RFC 9053 section 2.1 (ES384).

cbor2 accepts more than it should (non-shortest numbers, indefinite lengths, trailing bytes): what was decoded is encoded
again and must give the same bytes. Indefinite lengths are refused but for the outermost map, and there only where the caller says
that the issuer writes it so.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cbor2

from evident.errors import Malformed, Unsupported

MAX_DEPTH = 16
MAX_BYTES = 64 * 1024
ES384 = -35
HEADER_ALGORITHM = 1
TAG_SIGN1 = 0xD2
INDEFINITE_MAP, BREAK = b"\xbf", b"\xff"


def decode(raw: bytes, what: str, *, indefinite_map: bool = False) -> Any:
    """One CBOR item of exactly these bytes, without tags, floats, duplicate keys or needless length.

    Raises `Malformed` (``<what>.cbor``) only.
    """
    if not 0 < len(raw) <= MAX_BYTES:
        raise _malformed(what, f"1 to {MAX_BYTES} bytes", f"{len(raw)} bytes")
    indefinite = indefinite_map and raw[:1] == INDEFINITE_MAP
    stream = io.BytesIO(raw)
    decoder = cbor2.CBORDecoder(
        stream, read_size=1, max_depth=MAX_DEPTH, allow_indefinite=indefinite, allow_duplicate_keys=False, strict_hashable_types=False
    )
    try:
        value = decoder.decode()
        _plain(value, what)
        again = encode(value, indefinite_map=indefinite)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _malformed(what, "one well-formed CBOR item", str(error)[:120] or type(error).__name__) from None
    if again != raw:
        raise _malformed(what, "every item in its shortest form, and no trailing bytes", "another encoding of the same item")
    return value


def encode(value: Any, *, indefinite_map: bool = False) -> bytes:
    """The shortest encoding of plain data; `indefinite_map`: the outermost map without a length."""
    if indefinite_map and isinstance(value, dict):
        return INDEFINITE_MAP + b"".join(cbor2.dumps(key) + cbor2.dumps(item) for key, item in value.items()) + BREAK
    return cbor2.dumps(value)


def _plain(value: Any, what: str) -> None:
    """Refuse anything but maps, arrays, strings, integers, booleans and null: tags decode to rich Python objects."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, int | str | bytes) or isinstance(key, bool):
                raise _malformed(what, "numbers or strings as keys", type(key).__name__)
            _plain(item, what)
    elif isinstance(value, list):
        for item in value:
            _plain(item, what)
    elif not (value is None or type(value) in (int, str, bytes, bool)):
        raise _malformed(what, "no tags, floats or simple values", type(value).__name__)
    elif type(value) is int and not -(1 << 64) <= value < 1 << 64:
        raise _malformed(what, "integers of 64 bits", "a big number")


def _malformed(what: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{what}.cbor", expected=expected, found=found, remedy="Collect the document again; it was altered or is of another kind."
    )


@dataclass(frozen=True, slots=True)
class Sign1:
    """COSE_Sign1 with an attached payload. `protected` keeps the bytes that were signed."""

    protected: bytes
    algorithm: int
    payload: bytes
    signature: bytes
    tagged: bool
    raw: bytes

    @property
    def to_be_signed(self) -> bytes:
        """Sig_structure of RFC 9052 section 4.4, with empty external data."""
        return encode(["Signature1", self.protected, b"", self.payload])


def parse_sign1(raw: bytes, what: str) -> Sign1:
    """Parse a COSE_Sign1, tagged (18) or not. Raises `Malformed`, or `Unsupported` for another algorithm than ES384."""
    tagged = raw[:1] == bytes((TAG_SIGN1,))
    value = decode(raw[1:] if tagged else raw, what)
    if not (isinstance(value, list) and len(value) == 4):
        raise _malformed(what, "an array of protected header, unprotected header, payload and signature", type(value).__name__)
    protected, unprotected, payload, signature = value
    if not (isinstance(protected, bytes) and unprotected == {} and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise _malformed(what, "byte strings around an empty unprotected header", ", ".join(type(item).__name__ for item in value))
    header = decode(protected, what)
    if not isinstance(header, dict) or set(header) != {HEADER_ALGORITHM} or type(header[HEADER_ALGORITHM]) is not int:
        raise _malformed(what, "a protected header with the algorithm alone", protected.hex()[:80])
    if header[HEADER_ALGORITHM] != ES384:
        raise Unsupported.of(
            f"{what}.algorithm",
            expected="ES384 (-35)",
            found=str(header[HEADER_ALGORITHM]),
            remedy="AWS signs with ES384; check the source.",
        )
    if len(signature) != 96:
        raise _malformed(what, "a signature of 96 bytes (ES384)", f"{len(signature)} bytes")
    return Sign1(protected, ES384, payload, signature, tagged, raw)


def serialize_sign1(sign1: Sign1) -> bytes:
    """The wire form, built from the fields (not from `raw`)."""
    body = encode([sign1.protected, {}, sign1.payload, sign1.signature])
    return bytes((TAG_SIGN1,)) + body if sign1.tagged else body
