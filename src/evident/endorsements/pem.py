"""PEM text to DER, and telling one from the other by content (RFC 7468)."""

from __future__ import annotations

import base64
import binascii
import re

from evident.errors import Malformed

MAX_BYTES = 4 * 1024 * 1024
MAX_BLOCKS = 64
_MARK = b"-----BEGIN "
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n([A-Za-z0-9+/=\s]*)-----END \1-----")


def is_pem(data: bytes) -> bool:
    """Whether `data` holds a PEM block; DER begins with the byte 0x30, which no PEM text does before its first mark."""
    return _MARK in data and not data.startswith(b"\x30\x82") and not data.startswith(b"\x30\x81")


def decode(data: bytes, labels: tuple[str, ...], what: str) -> tuple[bytes, ...]:
    """The DER of every block in `data`, or `data` itself when it is not PEM.

    Text outside the blocks is explanation and ignored (RFC 7468 section 2); a block with a label not in `labels`, damaged
    base64 or a mark without its end is `Malformed`.
    """
    if len(data) > MAX_BYTES:
        raise _malformed(what, "oversized", f"at most {MAX_BYTES} bytes", f"{len(data)} bytes")
    if not is_pem(data):
        return (data,)
    blocks = _BLOCK.findall(data)
    if len(blocks) != data.count(_MARK) or len(blocks) > MAX_BLOCKS:
        raise _malformed(what, "pem", f"1 to {MAX_BLOCKS} whole PEM blocks", f"{len(blocks)} of {data.count(_MARK)} marks")
    ders = []
    for label, body in blocks:
        if label.decode("ascii") not in labels:
            raise _malformed(what, "pem", "a PEM block of " + " or ".join(labels), label.decode("ascii"))
        try:
            ders.append(base64.b64decode(b"".join(body.split()), validate=True))
        except binascii.Error as error:
            raise _malformed(what, "pem", "base64 between the marks", str(error)) from None
    return tuple(ders)


def encode(der: bytes, label: str) -> bytes:
    """One PEM block, 64 characters to the line."""
    body = base64.b64encode(der)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join((f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""))


def _malformed(what: str, problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{what}.{problem}", expected=expected, found=found, remedy="Obtain this file again, or pass the right one.")
