"""The audit bundle: one signed file from which a stranger can make the decision again (``docs/bundle.md``).

    DSSE envelope, signed by the verifier
      in-toto Statement v1: subjects are the pieces of evidence, by SHA-256
        predicate: tool, conditions (time, challenge, options), fetches
          CMW collection (RFC 9999): evidence · endorsements · reference values · policy · profile · result

Everything is canonical JSON, and everything that is hashed or signed is read only in that form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from evident import codec
from evident.appraisal.policy import Policy
from evident.appraisal.profile import Profile
from evident.audit import canonical, dsse
from evident.audit.build import THIS_TOOL, Tool
from evident.audit.case import Case
from evident.audit.intoto import PAYLOAD_TYPE, STATEMENT_TYPE, Statement, Subject
from evident.audit.keys import SigningKey, VerifyingKey
from evident.endorsements.fetcher import Fetched, RecordingFetcher
from evident.errors import Finding, Malformed, Unsupported, UsageError
from evident.evidence import cmw
from evident.files import replace_file
from evident.reference_values.model import ReferenceSet
from evident.reports.json_report import Outcome, document
from evident.verification.credential import Activation, NamedKey

T = TypeVar("T")

PREDICATE_TYPE = "https://evident.example/audit-bundle/v1"
COLLECTION_TYPE = "https://evident.example/cmw/audit-bundle/v1"
MEDIA_TYPES = {
    "reference-values": "application/vnd.evident.reference-values+json",
    "policy": "application/vnd.evident.policy+json",
    "profile": "application/vnd.evident.profile+json",
    "result": "application/vnd.evident.statement+json",
}
_INDICATORS = {
    "reference-values": cmw.Indicator.REFERENCE_VALUES,
    "policy": cmw.Indicator.APPRAISAL_POLICY,
    "profile": None,
    "result": cmw.Indicator.ATTESTATION_RESULTS,
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the verification depended on besides evidence, endorsements and anchors."""

    at: datetime
    nonce: bytes | None
    report_data: bytes | None
    crl_floor: Mapping[str, int]
    unsafe: tuple[str, ...]
    activation: Activation | None = None
    """The credential that the machine's TPM was asked to activate: with its randomness, so that it can be made again."""
    named: NamedKey | None = None
    """The endorsement key that whoever runs that TPM told the verifier."""


@dataclass(frozen=True, slots=True)
class FetchedBody:
    """A fetch that yielded a body; the body is the collection's ``endorsements`` member of this SHA-256."""

    url: str
    retrieved_at: datetime
    sha256: bytes


@dataclass(frozen=True, slots=True)
class FailedFetch:
    url: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Predicate:
    tool: Tool
    conditions: Conditions
    fetched: tuple[FetchedBody, ...]
    failed: tuple[FailedFetch, ...]
    cmw: Any


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's content."""

    case: Case
    fetched: Mapping[str, Fetched]
    failed: Mapping[str, tuple[Finding, ...]]
    result: Mapping[str, Any]
    """The recorded outcome, as ``docs/json.md`` describes it."""
    tool: Tool
    keyid: str
    """Of the signer: verified by `open_bundle`, merely claimed after `decode`."""
    sha256: str
    """Of the whole file, hex."""


def build(case: Case, recorded: RecordingFetcher, outcome: Outcome, key: SigningKey) -> bytes:
    """The signed file of a decision: `case`, what `recorded` saw while it was made, and its `outcome`."""
    fetched = tuple(
        FetchedBody(url, item.retrieved_at, hashlib.sha256(item.body).digest()) for url, item in sorted(recorded.recorded.items())
    )
    members: dict[str, cmw.Record | cmw.Collection] = {"evidence": cmw.of_pieces(case.kind, case.pieces)}
    if fetched:
        bodies = {hashlib.sha256(item.body).hexdigest(): item.body for item in recorded.recorded.values()}
        members["endorsements"] = cmw.Collection(
            "", {label: cmw.Record(cmw.OCTETS, body, cmw.Indicator.ENDORSEMENTS) for label, body in sorted(bodies.items())}
        )
    documents = {"reference-values": codec.encode(ReferenceSet(1, case.references)), "policy": codec.encode(case.policy)}
    if case.profile is not None:
        documents["profile"] = codec.encode(case.profile)
    documents["result"] = document(outcome)
    for label, value in documents.items():
        members[label] = cmw.Record(MEDIA_TYPES[label], canonical.dumps(value), _INDICATORS[label])
    predicate = _Predicate(
        tool=THIS_TOOL,
        conditions=Conditions(
            case.at, case.nonce, case.report_data, case.crl_floor, tuple(sorted(case.unsafe)), case.activation, case.named
        ),
        fetched=fetched,
        failed=tuple(FailedFetch(url, findings) for url, findings in sorted(recorded.failed.items())),
        cmw=cmw.encode(cmw.Collection(COLLECTION_TYPE, members)),
    )
    statement = Statement(STATEMENT_TYPE, _subjects(case), PREDICATE_TYPE, predicate)
    return dsse.seal(PAYLOAD_TYPE, canonical.dumps(codec.encode(statement)), key)


def open_bundle(data: bytes, trusted: Iterable[VerifyingKey]) -> Bundle:
    """Check the signature under a trusted key, then read the content strictly.

    Raises `NotAuthentic` (signer, signature), `Malformed`, `Unsupported` (another version or another payload).
    """
    opened = dsse.unseal(data, trusted)
    return _content(opened.payload_type, opened.payload, opened.signer.keyid, data)


def decode(data: bytes) -> Bundle:
    """The content of a bundle *without any check of its signature*: for showing what it claims."""
    payload_type, payload, keyid = dsse.read(data)
    return _content(payload_type, payload, keyid, data)


def looks_like_bundle(data: bytes) -> bool:
    """Tell a bundle from other input by its first member, without judging it."""
    return data[:1] == b"{" and b'"payloadType"' in data


def write(path: Path, data: bytes) -> None:
    """Write a bundle whole or not at all, readable by its owner alone: evidence may name machines. Raises `UsageError`."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise UsageError.of(
            "bundle.unwritable",
            expected=f"room and permission to write {len(data)} bytes at {path}",
            found=error.strerror or type(error).__name__,
            remedy="Check the folder, its permissions and the free space; nothing was written.",
        ) from None


def _subjects(case: Case) -> tuple[Subject, ...]:
    return tuple(
        Subject(f"{role}.{index}", {"sha256": hashlib.sha256(content).digest()})
        for role, contents in case.pieces.items()
        for index, content in enumerate(contents)
    )


def _content(payload_type: str, payload: bytes, keyid: str, data: bytes) -> Bundle:
    if payload_type != PAYLOAD_TYPE:
        raise _unsupported("payload-type", PAYLOAD_TYPE, payload_type)
    value = _canonical(payload, "the signed statement")
    for name, wanted in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if not isinstance(value, dict) or value.get(name) != wanted:
            raise _unsupported(name, wanted, repr(value.get(name)) if isinstance(value, dict) else "no object")
    statement = codec.decode(Statement[_Predicate], value, "bundle")
    predicate, conditions = statement.predicate, statement.predicate.conditions
    collection = cmw.decode(predicate.cmw)
    if not isinstance(collection, cmw.Collection) or collection.type != COLLECTION_TYPE:
        raise _malformed("collection", f"a CMW collection of type {COLLECTION_TYPE}", "another message")
    unknown = collection.members.keys() - {"evidence", "endorsements", *MEDIA_TYPES}
    if unknown or "evidence" not in collection.members:
        raise _malformed("members", "evidence, endorsements, reference-values, policy, profile, result", ", ".join(collection.members))
    kind, pieces = cmw.to_pieces(collection.members["evidence"])
    case = Case(
        kind=kind,
        pieces=pieces,
        at=conditions.at,
        nonce=conditions.nonce,
        report_data=conditions.report_data,
        crl_floor=conditions.crl_floor,
        unsafe=frozenset(conditions.unsafe),
        policy=_typed(Policy, collection, "policy"),
        references=_typed(ReferenceSet, collection, "reference-values").values,
        profile=_typed(Profile, collection, "profile") if "profile" in collection.members else None,
        activation=conditions.activation,
        named=conditions.named,
    )
    _check_subjects(statement, case)
    return Bundle(
        case=case,
        fetched=_fetched(predicate, collection),
        failed={failure.url: failure.findings for failure in predicate.failed},
        result=_json(collection, "result"),
        tool=predicate.tool,
        keyid=keyid,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _check_subjects(statement: Statement[_Predicate], case: Case) -> None:
    subjects = {subject.name: subject.digest for subject in statement.subject}
    if subjects != {subject.name: subject.digest for subject in _subjects(case)} or len(subjects) != len(statement.subject):
        raise _malformed("subjects", "the SHA-256 of every piece of evidence as a subject", "other names or digests")


def _fetched(predicate: _Predicate, collection: cmw.Collection) -> dict[str, Fetched]:
    member = collection.members.get("endorsements", cmw.Collection("", {}))
    bodies: dict[bytes, bytes] = {}
    for label, record in member.members.items() if isinstance(member, cmw.Collection) else ():
        if not isinstance(record, cmw.Record) or hashlib.sha256(record.value).hexdigest() != label:
            raise _malformed("endorsement", "bodies labelled with their SHA-256", label)
        bodies[bytes.fromhex(label)] = record.value
    if bodies.keys() != {fetch.sha256 for fetch in predicate.fetched}:
        raise _malformed("endorsement", "exactly the bodies that the fetches name", f"{len(bodies)} bodies")
    return {fetch.url: Fetched(fetch.url, bodies[fetch.sha256], fetch.retrieved_at) for fetch in predicate.fetched}


def _json(collection: cmw.Collection, label: Literal["reference-values", "policy", "profile", "result"]) -> dict[str, Any]:
    record = collection.members.get(label)
    if not isinstance(record, cmw.Record) or record.media_type != MEDIA_TYPES[label] or record.indicator != _INDICATORS[label]:
        raise _malformed("member", f"{label} as {MEDIA_TYPES[label]}", "nothing" if record is None else "another record")
    value = _canonical(record.value, label)
    if not isinstance(value, dict):
        raise _malformed("member", f"{label} as an object", type(value).__name__)
    return value


def _typed(kind: type[T], collection: cmw.Collection, label: Literal["reference-values", "policy", "profile"]) -> T:
    return codec.decode(kind, _json(collection, label), "bundle", label)


def _canonical(data: bytes, what: str) -> Any:
    value = codec.loads(data, "bundle", limit=dsse.MAX_BYTES)
    if canonical.dumps(value) != data:
        raise _malformed("not-canonical", f"canonical JSON (RFC 8785) in {what}", "another spelling")
    return value


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"bundle.{problem}", expected=expected, found=found, remedy="Get the bundle again from whoever exported it; this one is damaged."
    )


def _unsupported(problem: str, expected: str, found: str) -> Unsupported:
    return Unsupported.of(
        f"bundle.{problem}", expected=expected, found=found, remedy="Replay it with a version of Evident that knows this format."
    )
