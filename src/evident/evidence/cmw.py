"""Conceptual Message Wrapper in JSON (RFC 9999, sections 3.1 and 3.2).

A *record* is ``[media type, base64url value without padding, indicator]``; the indicator's bits say what the value is: 1 reference
values, 2 endorsements, 4 evidence, 8 attestation results, 16 appraisal policy. A *collection* is an object of labelled records
or collections whose ``__cmwc_t`` (URI or OID) says how its members belong together.

Evidence alone travels as a collection of type ``EVIDENCE_TYPE`` plus the kind, labelled ``role.index``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from evident import codec
from evident.errors import Malformed, Unsupported

TYPE_KEY = "__cmwc_t"
EVIDENCE_TYPE = "https://evident.example/cmw/evidence/v1#"
OCTETS = "application/octet-stream"
MAX_BYTES = 64 * 1024 * 1024
MAX_NESTING = 8

Pieces = Mapping[str, tuple[bytes, ...]]
"""Role to raw contents, as `evident.verification.pieces` has them."""

_LABEL = re.compile(r"([a-z0-9-]+)\.(0|[1-9][0-9]{0,3})")
_ENDORSEMENT_ROLES = frozenset(
    {
        *("vcek", "vlek", "chain", "crl"),
        *("collateral", "tcb-info", "qe-identity", "pck-crl", "root-crl", "tcb-chain"),
        *("ak-cert", "ek-cert", "endorsement"),
    }
)


class Indicator(IntFlag):
    """What a record carries (RFC 9999, section 3.1)."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8
    APPRAISAL_POLICY = 16


@dataclass(frozen=True, slots=True)
class Record:
    media_type: str
    value: bytes
    indicator: Indicator | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    type: str
    """URI or OID; empty when the collection states none."""
    members: Mapping[str, Record | Collection]


def encode(message: Record | Collection) -> Any:
    """The JSON form."""
    if isinstance(message, Record):
        value = base64.urlsafe_b64encode(message.value).rstrip(b"=").decode()
        return [message.media_type, value] + ([] if message.indicator is None else [int(message.indicator)])
    typed = {TYPE_KEY: message.type} if message.type else {}
    return {**typed, **{label: encode(member) for label, member in message.members.items()}}


def decode(form: Any, path: str = "") -> Record | Collection:
    """Read the JSON form strictly. Raises `Malformed` with the path of the offending member."""
    if path.count("/") > MAX_NESTING:
        raise _malformed("nesting", f"at most {MAX_NESTING} levels of collections", path)
    if isinstance(form, list):
        return _record(form, path)
    if not isinstance(form, dict):
        raise _malformed("form", "a record (array) or a collection (object)", f"{type(form).__name__} at {path or 'the top'}")
    kind = form.get(TYPE_KEY, "")
    if not isinstance(kind, str) or (TYPE_KEY in form and not kind):
        raise _malformed("type", f"{TYPE_KEY} as a URI or OID", f"{kind!r} at {path or 'the top'}")
    members = {label: decode(member, f"{path}/{label}") for label, member in form.items() if label != TYPE_KEY}
    if not members or "" in members:
        raise _malformed("labels", "at least one member, each with a label", path or "the top")
    return Collection(kind, members)


def parse(data: bytes) -> Record | Collection:
    """Read a CMW from JSON text."""
    return decode(codec.loads(data, "cmw", limit=MAX_BYTES))


def of_pieces(kind: str, pieces: Pieces) -> Collection:
    """The collection that carries the pieces of one verification."""
    members = {}
    for role, contents in pieces.items():
        indicator = Indicator.ENDORSEMENTS if role in _ENDORSEMENT_ROLES else Indicator.EVIDENCE
        for index, content in enumerate(contents):
            members[f"{role}.{index}"] = Record(OCTETS, content, indicator)
    return Collection(EVIDENCE_TYPE + kind, members)


def to_pieces(message: Record | Collection) -> tuple[str, Pieces]:
    """Kind and pieces of a collection that `of_pieces` made; `Unsupported` for any other CMW."""
    if not isinstance(message, Collection) or not message.type.startswith(EVIDENCE_TYPE):
        raise Unsupported.of(
            "cmw.collection-type",
            expected=f"a collection of type {EVIDENCE_TYPE}KIND",
            found=message.type or "a collection without type" if isinstance(message, Collection) else f"a record of {message.media_type}",
            remedy="Unpack it and pass the pieces by role: evident verify --kind KIND ROLE=PATH ...",
        )
    numbered: dict[str, dict[int, bytes]] = {}
    for label, member in message.members.items():
        match = _LABEL.fullmatch(label)
        if match is None or not isinstance(member, Record):
            raise _malformed("label", "records labelled ROLE.INDEX", label)
        numbered.setdefault(match[1], {})[int(match[2])] = member.value
    for role, contents in numbered.items():
        if sorted(contents) != list(range(len(contents))):
            raise _malformed(
                "label", f"{role}.0, {role}.1 and so on without gaps", ", ".join(f"{role}.{index}" for index in sorted(contents))
            )
    pieces = {role: tuple(contents[index] for index in range(len(contents))) for role, contents in numbered.items()}
    return message.type.removeprefix(EVIDENCE_TYPE), pieces


def _record(form: list[Any], path: str) -> Record:
    if len(form) not in (2, 3) or not all(isinstance(member, str) for member in form[:2]) or "/" not in form[0]:
        raise _malformed("record", "[media type, base64url value, optional indicator]", f"another array at {path or 'the top'}")
    indicator = None
    if len(form) == 3:
        if isinstance(form[2], bool) or not isinstance(form[2], int) or not 0 < form[2] < 32:
            raise _malformed("indicator", "an indicator of bits 0 to 4", f"{form[2]!r} at {path or 'the top'}")
        indicator = Indicator(form[2])
    try:
        value = base64.b64decode(form[1] + "=" * (-len(form[1]) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        value = None
    if value is None or base64.urlsafe_b64encode(value).rstrip(b"=").decode() != form[1]:
        raise _malformed("value", "base64url without padding", f"something else at {path or 'the top'}")
    return Record(form[0], value, indicator)


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"cmw.{problem}", expected=expected, found=found, remedy="Export the evidence again; this file is damaged.")
