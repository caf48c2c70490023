"""A SPIFFE ID: the name of a workload, ``spiffe://TRUST-DOMAIN/PATH``.

Source: SPIFFE, "The SPIFFE Identity and Verifiable Identity Document", section 2. A trust domain is 1 to 255 of ``a-z 0-9 . - _``;
a path is segments of letters, digits and ``. - _``, none of them empty, ``.`` or ``..``, with no slash at the end; the whole is at most
2048 bytes. Nothing else of a URI's parts (port, user, query, fragment, percent-encoding) may be there, and one ID has one spelling, so
that two are the same exactly if their texts are.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from evident.errors import Malformed

SCHEME = "spiffe://"
LIMIT = 2048
"""Bytes of a SPIFFE ID."""
_DOMAIN_LIMIT = 255
_DOMAIN = frozenset(string.ascii_lowercase + string.digits + ".-_")
_SEGMENT = frozenset(string.ascii_letters + string.digits + ".-_")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """Raises `Malformed` ``spiffe.id`` where the parts make none."""

    trust_domain: str
    path: str
    """With its leading slash; empty where the ID is the trust domain's own."""

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        for segment in self.path.split("/")[1:] if self.path else ():
            if segment in ("", ".", "..") or not _SEGMENT.issuperset(segment):
                raise _malformed("path segments of letters, digits, '.', '-' and '_', no slash at the end", segment)
        if self.path and not self.path.startswith("/"):
            raise _malformed("a path that begins with a slash", self.path)
        if len(str(self)) > LIMIT:
            raise _malformed(f"at most {LIMIT} bytes", f"{len(str(self))} bytes")

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}{self.path}"


def parse(text: str) -> SpiffeId:
    """The ID that `text` is, character for character. Raises `Malformed` ``spiffe.id``."""
    if not text.startswith(SCHEME):
        raise _malformed(f"an ID that begins with {SCHEME}", text)
    domain, slash, path = text.removeprefix(SCHEME).partition("/")
    return SpiffeId(domain, slash + path)


def check_trust_domain(name: str) -> str:
    """`name` if it may be a trust domain's. Raises `Malformed` ``spiffe.id``."""
    if not 0 < len(name) <= _DOMAIN_LIMIT or not _DOMAIN.issuperset(name):
        raise _malformed(f"a trust domain of 1 to {_DOMAIN_LIMIT} lower-case letters, digits, '.', '-' and '_'", name)
    return name


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(
        "spiffe.id",
        expected=expected,
        found=repr(found)[:100],
        remedy="Write the SPIFFE ID as in spiffe://example.org/evident/shop.",
        layer="identity",
    )
