"""What a Nitro security module is asked for a document, and what it answers: CBOR (RFC 8949), as far as these two messages need it.

    {"Attestation": {"user_data": null, "nonce": h'..', "public_key": h'..'}}
    {"Attestation": {"document": h'..'}}   or   {"Error": "InvalidArgument"}

Source: aws/aws-nitro-enclaves-nsm-api, ``src/api/mod.rs`` (0a4d8652): `Request` and `Response`, as serde writes them in CBOR. The
response lies in a larger buffer; what follows it there is left aside. The guest reads it, which carries no CBOR library.
"""

from __future__ import annotations

from typing import Final

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader

WHAT: Final = "nsm"
MAX_PARAMETER: Final = 1024
"""Bytes of a nonce or of a key that the module takes."""
_BYTES, _TEXT, _MAP = 2, 3, 5
_NULL, _INDEFINITE_MAP, _BREAK = 0xF6, 0xBF, 0xFF
_SIZES: Final = {24: 1, 25: 2, 26: 4}
_DEPTH = 4

Item = dict[str, "Item"] | bytes | str | None


def request(*, nonce: bytes, public_key: bytes) -> bytes:
    """The request for a document with these two; `Unsupported` ``nsm.parameter`` for one that is too large."""
    for name, value in (("nonce", nonce), ("public key", public_key)):
        if len(value) > MAX_PARAMETER:
            raise Unsupported.of(
                "nsm.parameter", expected=f"at most {MAX_PARAMETER} bytes of {name}", found=f"{len(value)}", remedy="Give a shorter one."
            )
    members = (
        _text("user_data"),
        bytes((_NULL,)),
        _text("nonce"),
        _string(_BYTES, nonce),
        _text("public_key"),
        _string(_BYTES, public_key),
    )
    return _head(_MAP, 1) + _text("Attestation") + _head(_MAP, 3) + b"".join(members)


def read_document(response: bytes) -> bytes:
    """The document in a response; `Unsupported` ``nsm.refused`` with the module's word where it gives none. Raises `Malformed`."""
    answer = _item(Reader(response, WHAT))
    if isinstance(answer, dict) and isinstance(answer.get("Error"), str):
        raise Unsupported.of("nsm.refused", expected="a document", found=str(answer["Error"])[:40], remedy="Ask again with a fresh nonce.")
    given = answer.get("Attestation") if isinstance(answer, dict) else None
    document = given.get("document") if isinstance(given, dict) else None
    if not isinstance(document, bytes):
        raise _malformed("an answer with a document", "another")
    return document


def _text(value: str) -> bytes:
    return _string(_TEXT, value.encode("ascii"))


def _string(major: int, value: bytes) -> bytes:
    return _head(major, len(value)) + value


def _head(major: int, count: int) -> bytes:
    if count < 24:
        return bytes((major << 5 | count,))
    if count < 0x100:
        return bytes((major << 5 | 24, count))
    return bytes((major << 5 | 25,)) + count.to_bytes(2, "big")


def _item(reader: Reader, depth: int = 0) -> Item:
    return _rest(reader.u8("item"), reader, depth)


def _rest(first: int, reader: Reader, depth: int) -> Item:
    """Null, a string of definite length, or a map of such; AWS writes some maps without a length."""
    if first == _NULL:
        return None
    if first == _INDEFINITE_MAP:
        return _map(reader, None, depth)
    major, small = first >> 5, first & 0x1F
    count = small if small < 24 else int.from_bytes(reader.take(_SIZES.get(small, 0), "length"), "big")
    if small not in _SIZES and small >= 24:
        raise _malformed("an item of a definite length", f"{first:#04x}")
    if major == _MAP:
        return _map(reader, count, depth)
    if major not in (_BYTES, _TEXT):
        raise _malformed("a map, a string or null", f"{first:#04x}")
    value = reader.take(count, "string")
    if major == _BYTES:
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("text", value[:20].hex()) from None


def _map(reader: Reader, count: int | None, depth: int) -> dict[str, Item]:
    if depth >= _DEPTH:
        raise _malformed(f"at most {_DEPTH} maps in each other", "more")
    members: dict[str, Item] = {}
    while count is None or len(members) < count:
        head = reader.u8("item")
        if count is None and head == _BREAK:
            break
        name = _rest(head, reader, depth + 1)
        if not isinstance(name, str) or name in members:
            raise _malformed("members with names of their own", repr(name)[:40])
        members[name] = _item(reader, depth + 1)
    return members


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of("nsm.response", expected=expected, found=found, remedy="Ask for the document again; report this if it stays.")
