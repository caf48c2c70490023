"""The pieces of evidence and endorsement that one verification was given, by role.

Roles are the words of ``evident verify ROLE=PATH``: ``report``, ``vcek``, ``chain``, ``crl``... The contents are raw, as they
were read; what form they have (PEM, DER, hex, JSON) is told by content in `evident.evidence.content`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evident.errors import Malformed, UsageError

Pieces = Mapping[str, tuple[bytes, ...]]

Count = Literal["one", "optional", "any"]


@dataclass(frozen=True, slots=True)
class Role:
    """How often a role may occur, and how large one piece may be."""

    count: Count
    limit: int
    """Bytes."""
    description: str


OF_THE_VERIFIER = frozenset(
    {*("nonce", "report-data", "allow-list", "ima-key"), *("crl", "pck-crl", "root-crl", "collateral", "tcb-info", "qe-identity")}
)
"""Roles that say what evidence is held against. Whoever is asked has no say in them: a list that is older by a day hides the newest
revocation (AMD's two lists of one root do not even say which keys they are for), last month's TCB info hides a known flaw (AT-28), and
an allow-list of its own hides whatever it runs (AT-33)."""


def of_machine(pieces: Pieces) -> Pieces:
    """`pieces` as far as the machine that sent them may say them."""
    return {role: contents for role, contents in pieces.items() if role not in OF_THE_VERIFIER}


def check(pieces: Pieces, roles: Mapping[str, Role], kind: str) -> None:
    """Refuse unknown roles, wrong counts, and empty or oversized pieces before any of them is parsed."""
    for name, contents in pieces.items():
        role = roles.get(name)
        if role is None:
            near = difflib.get_close_matches(name, roles, n=1, cutoff=0.5)
            raise UsageError.of(
                "pieces.unknown-role",
                expected=f"roles of kind {kind}: " + ", ".join(sorted(roles)),
                found=repr(name),
                remedy=f"Did you mean {near[0]!r}?" if near else f"Leave {name!r} out, or choose another kind.",
            )
        if role.count != "any" and len(contents) > 1:
            raise _miscounted(name, role, contents)
        for content in contents:
            _bounded(content, name, role)
    for name, role in roles.items():
        if role.count == "one" and not pieces.get(name):
            raise _miscounted(name, role, ())


def _miscounted(name: str, role: Role, contents: tuple[bytes, ...]) -> UsageError:
    return UsageError.of(
        "pieces.count",
        expected=("exactly one" if role.count == "one" else "at most one") + f" {name!r} ({role.description})",
        found=str(len(contents)),
        remedy=f"Pass {name}=PATH once.",
    )


def _bounded(content: bytes, name: str, role: Role) -> None:
    if not 0 < len(content) <= role.limit:
        raise Malformed.of(
            "pieces.size",
            expected=f"1 to {role.limit} bytes of {name!r} ({role.description})",
            found=f"{len(content)} bytes",
            remedy=f"Check that {name}=PATH names the right file.",
        )


def one(pieces: Pieces, name: str) -> bytes:
    """The one piece of a role that `check` found exactly once."""
    return pieces[name][0]


def optional(pieces: Pieces, name: str) -> bytes | None:
    """The piece of a role that occurs at most once, or None."""
    contents = pieces.get(name, ())
    return contents[0] if contents else None


def several(pieces: Pieces, name: str) -> tuple[bytes, ...]:
    """All pieces of a role."""
    return pieces.get(name, ())
