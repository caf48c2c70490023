"""The name of an instance: of one boot of one machine, by the key that it made for itself (EI-04).

    evident-instance-  then the first 12 digits of SHA-256(SubjectPublicKeyInfo, DER) as a number in base 62

Digits are 0-9, A-Z, a-z. The first public Evident names its instances so (joao-hs/evident, 44b9a9b5). The name is for people and for
certificates' subjects; whoever decides compares keys.
"""

from __future__ import annotations

import hashlib
from typing import Final

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHOWN: Final = 12


def common_name(spki: bytes) -> str:
    """Of the instance with this key."""
    left, text = int.from_bytes(hashlib.sha256(spki).digest(), "big"), ""
    while left:
        left, digit = divmod(left, len(_DIGITS))
        text = _DIGITS[digit] + text
    return f"evident-instance-{text[:_SHOWN]}"
