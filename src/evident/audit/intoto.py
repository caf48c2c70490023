"""in-toto Statement v1, the envelope's payload: what is spoken of, by digest, and what is said of it.

Source: github.com/in-toto/attestation, spec/v1/statement.md; the payload type is in spec/v1/envelope.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    digest: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Statement(Generic[P]):
    """With a predicate of the type `P`."""

    _type: str
    subject: tuple[Subject, ...]
    predicateType: str  # noqa: N815  # the member's name on the wire
    predicate: P
