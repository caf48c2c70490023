"""Canonical JSON (RFC 8785): the one form in which anything is hashed or signed."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from evident import codec

_EXACT = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 7493 section 2.2)."""


def dumps(value: Any) -> bytes:
    """RFC 8785 bytes of a JSON value. Integers beyond 2**53-1 become decimal strings, as RFC 7493 section 2.2 recommends."""
    return rfc8785.dumps(_exact(value))


def digest(document: Any) -> str:
    """SHA-256 (hex) of a dataclass's canonical form: names a policy or a set of reference values, however its file is laid out."""
    return hashlib.sha256(dumps(codec.encode(document))).hexdigest()


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _exact(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(member) for member in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value
