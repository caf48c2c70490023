"""The final record of a deployment: what was destroyed, what is denied from then on, and what it had proved last (``docs/bundle.md``).

    DSSE envelope, signed by the verifier
      in-toto Statement v1: the subject is the bundle of the last answer, by SHA-256; where there was none, the journal
        predicate: `Farewell`

Canonical JSON, read in no other form, as an audit bundle is. Nothing is replayed: the last answer's bundle is replayed by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evident import codec
from evident.audit import canonical, dsse
from evident.audit.build import Tool
from evident.audit.intoto import PAYLOAD_TYPE, STATEMENT_TYPE, Statement, Subject
from evident.audit.keys import SigningKey, VerifyingKey
from evident.errors import EvidentError, Malformed, Unsupported

PREDICATE_TYPE = "https://evident.example/farewell/v1"


@dataclass(frozen=True, slots=True)
class LastAnswer:
    """The last answer of this launch, as the journal and its bundle say."""

    at: datetime
    decision: str
    code: str
    nominal: int
    trustworthy: int
    simulated: bool
    bundle: str
    """File name below the deployment's ``bundles``."""
    sha256: bytes
    """Of that file."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of an append-only file: whoever keeps it notices when older lines are changed or cut off."""

    lines: int
    sha256: bytes
    """Of the release log: the last line's, which names the one before. Of the journal: the whole file's up to there."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """What is said of a deployment that is no more."""

    tool: Tool
    deployment: str
    life: int
    """From 1: a name may be used again after its deployment was destroyed."""
    platform: str
    planned: datetime
    began: datetime
    """When its destruction was first begun."""
    at: datetime
    """When everything below had been done."""
    destroyed: tuple[str, ...]
    """What it consisted of when its destruction began, in words."""
    surveyed: bool
    """True: removing ended when the cloud listed nothing of it any more. False: there was no cloud to ask."""
    denied: tuple[str, ...]
    """Disks and identities that get nothing from then on, ``name=value``."""
    last: LastAnswer | None
    release_log: Head | None
    """None where it could not be read; `notes` say why."""
    journal: Head
    notes: tuple[str, ...] = ()
    """What could not be established."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A final record whose signature holds."""

    farewell: Farewell
    keyid: str
    sha256: str
    """Of the whole file, hex."""


def seal(farewell: Farewell, key: SigningKey) -> bytes:
    """The signed file."""
    statement = Statement(STATEMENT_TYPE, (_subject(farewell),), PREDICATE_TYPE, farewell)
    return dsse.seal(PAYLOAD_TYPE, canonical.dumps(codec.encode(statement)), key)


def open_farewell(data: bytes, trusted: Iterable[VerifyingKey]) -> Opened:
    """Check the signature under a trusted key, then read the content strictly.

    Raises `NotAuthentic` (signer, signature), `Malformed`, `Unsupported` (another version or another payload).
    """
    opened = dsse.unseal(data, trusted)
    return Opened(_content(opened.payload_type, opened.payload), opened.signer.keyid, hashlib.sha256(data).hexdigest())


def decode(data: bytes) -> Opened:
    """The content *without any check of its signature*: for showing what it claims."""
    payload_type, payload, keyid = dsse.read(data)
    return Opened(_content(payload_type, payload), keyid, hashlib.sha256(data).hexdigest())


def looks_like_farewell(data: bytes) -> bool:
    """Whether `data` is an envelope that claims to be a final record; judges nothing."""
    try:
        value = codec.loads(dsse.read(data)[1], "farewell")
    except EvidentError:
        return False
    return isinstance(value, dict) and value.get("predicateType") == PREDICATE_TYPE


def _subject(farewell: Farewell) -> Subject:
    if farewell.last is None:
        return Subject("journal.jsonl", {"sha256": farewell.journal.sha256})
    return Subject(f"bundles/{farewell.last.bundle}", {"sha256": farewell.last.sha256})


def _content(payload_type: str, payload: bytes) -> Farewell:
    value: Any = codec.loads(payload, "farewell")
    members = value if isinstance(value, dict) else {}
    kind = (payload_type, members.get("_type"), members.get("predicateType"))
    if kind != (PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE):
        raise Unsupported.of(
            "farewell.kind",
            expected=f"{PREDICATE_TYPE} in {STATEMENT_TYPE} in {PAYLOAD_TYPE}",
            found=" in ".join(map(str, reversed(kind))),
            remedy="Read it with a version of Evident that knows this format.",
        )
    statement = codec.decode(Statement[Farewell], value, "farewell")
    if canonical.dumps(value) != payload or statement.subject != (_subject(statement.predicate),):
        raise Malformed.of(
            "farewell.content",
            expected="canonical JSON (RFC 8785) with the last answer's bundle as its subject",
            found="another spelling or another subject",
            remedy="Get the record again from whoever keeps it; this copy is damaged.",
        )
    return statement.predicate
