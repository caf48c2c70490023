"""The machine's view: one JSON document per decision, whether a statement was reached or not.

The members that every document has (`Failure`) are a contract, held by ``docs/schemas/statement.json`` and explained in
``docs/json.md``; a statement adds the rest of `TrustStatement` under its own names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evident import codec
from evident.appraisal.degrees import Levels
from evident.appraisal.statement import Layer, TrustStatement
from evident.errors import EvidentError, Finding

Outcome = TrustStatement | EvidentError

_AUTHENTIC = {"malformed": False, "not_authentic": False, "refused": True}
"""What an error without a statement says of authenticity; any other decision leaves it undecided (null)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The document of an error that ended the work before there was anything to appraise."""

    decision: Literal["not_authentic", "refused", "indeterminate", "unsupported", "malformed", "usage", "error"]
    code: str
    authentic: bool | None
    findings: tuple[Finding, ...]
    revocation: Literal["good", "revoked", "unknown"] = "unknown"
    levels: Levels = field(default_factory=lambda: Levels(0, 0))
    layers: tuple[Layer, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    simulated: bool = False


Recorded = TrustStatement | Failure
"""An outcome as it comes back from its document."""


def document(outcome: Outcome) -> dict[str, Any]:
    """The JSON form of a statement or of an error, as ``docs/json.md`` describes it."""
    return codec.encode(outcome if isinstance(outcome, TrustStatement) else _failure(outcome))  # type: ignore[no-any-return]  # objects encode as dicts


def read(value: Mapping[str, Any]) -> Recorded:
    """The inverse of `document`. Raises `Malformed` ``statement.*`` for anything else, such as a document of another version."""
    if "policy_sha256" in value:
        return codec.decode(TrustStatement, value, "statement")
    return codec.decode(Failure, value, "statement")


def _failure(error: EvidentError) -> Failure:
    revoked = any("revoked" in finding.code for finding in error.findings)
    return Failure(
        decision=error.decision,  # type: ignore[arg-type]  # every class of the error tree has one of these words
        code=error.code,
        authentic=_AUTHENTIC.get(error.decision) if error.of_evidence else None,
        findings=error.findings,
        revocation="revoked" if revoked else "unknown",
        claims=error.claims,
    )


def render(outcome: Outcome) -> str:
    """`document` as indented text, for ``-o json``."""
    return json.dumps(document(outcome), indent=2, ensure_ascii=False)


def render_error(error: EvidentError) -> str:
    """The document of an error, for the command line's last line of defence."""
    return render(error)


def schema() -> dict[str, Any]:
    """The published schema (draft 2020-12): a document is a statement or a failure."""
    identifier = "https://evident.example/schemas/statement.json"
    statement = codec.json_schema(TrustStatement, title="", identifier="")
    failure = codec.json_schema(Failure, title="", identifier="")
    definitions = {**statement["$defs"], **failure["$defs"]}
    # A failure is written whole: its defaults are for the code, not for the reader.
    definitions["Failure"] = {**definitions["Failure"], "required": list(definitions["Failure"]["properties"])}
    definitions["TrustStatement"] = {**definitions["TrustStatement"], "required": list(definitions["TrustStatement"]["properties"])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "title": "What Evident says of evidence: a TrustStatement, or why there is none",
        "anyOf": [{"$ref": statement["$ref"]}, {"$ref": failure["$ref"]}],
        "$defs": definitions,
    }
