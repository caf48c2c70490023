"""Frozen dataclasses to JSON and back, strictly.

Shared by every document Evident reads (policy, reference values, bundles): duplicate keys, unknown keys, wrong types and
oversized input are refused with the path of the offending member, and an unknown key is answered with the nearest known one.
`json_schema` derives the published schema from the same dataclass, so that the two cannot disagree.

Values: ``bytes`` are lower-case hex strings, ``datetime`` RFC 3339 in UTC ("Z"), ``date`` its full-date, enums their values,
tuples arrays; ``str | tuple[str, ...]`` is either. A generic dataclass is read at the arguments it is annotated with (``Fact[str]``).
A dataclass field's ``metadata={"doc": ...}`` becomes its description in the schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import json
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from evident.errors import Malformed

T = TypeVar("T")

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_JSON_DEPTH = 64

# What Python reads as a number or a time is more than these.
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,17}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_DATE.pattern + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


def _malformed(what: str, problem: str, *, expected: str, found: str, remedy: str) -> Malformed:
    return Malformed.of(f"{what}.{problem}", expected=expected, found=found, remedy=remedy)


def loads(data: bytes, what: str, *, limit: int = MAX_JSON_BYTES) -> Any:
    """Parse JSON text (UTF-8) once, refusing duplicate keys, non-finite numbers, deep nesting and oversized input."""
    if len(data) > limit:
        raise _malformed(
            what, "oversized", expected=f"at most {limit} bytes", found=f"{len(data)} bytes", remedy="Pass the document alone."
        )

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise _malformed(what, "duplicate-key", expected="every key once", found=f"{twice!r} twice", remedy="Remove one of the two.")
        return members

    def refuse_constant(text: str) -> Any:
        raise _malformed(what, "json", expected="a finite number", found=text, remedy="JSON has no such number; correct the document.")

    def finite(text: str) -> float:
        return float(text) if math.isfinite(float(text)) else refuse_constant(text)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse_constant, parse_float=finite)
        if b"\\ud" in data or b"\\uD" in data:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text (RFC 8259, section 8.2)
    except (UnicodeError, json.JSONDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _malformed(
            what, "json", expected="one JSON document in UTF-8", found=reason, remedy="Check that this is the right file."
        ) from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise _malformed(what, "json", expected="numbers of sensible size", found=str(error), remedy="Correct the document.") from None
    if data.count(b"{") + data.count(b"[") > MAX_JSON_DEPTH:  # every level needs one
        _refuse_depth(value, what)
    return value


def _refuse_depth(value: Any, what: str) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [child for item in level if isinstance(item, dict | list) for child in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return
    raise _malformed(
        what, "json", expected=f"at most {MAX_JSON_DEPTH} levels", found="deeper nesting", remedy="Check that this is the right file."
    )


def decode(kind: type[T], value: Any, what: str, path: str = "") -> T:
    """Build a `kind` (dataclass or any annotation used in one) from parsed JSON; `what` prefixes the error codes."""
    decoded: T = _decode(kind, value, what, path)
    return decoded


def _wrong(what: str, path: str, expected: str, value: Any) -> Malformed:
    found = f"{type(value).__name__} {value!r}"
    return _malformed(
        what,
        "type",
        expected=f"{expected} at {path or 'the top'}",
        found=found if len(found) <= 80 else found[:77] + "...",
        remedy="Correct this member; the published schema describes it.",
    )


def _decode(kind: Any, value: Any, what: str, path: str) -> Any:  # one branch per JSON-able annotation
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not types.NoneType]
        if value is None and len(options) < len(typing.get_args(kind)):
            return None
        arrays = [option for option in options if typing.get_origin(option) is tuple]
        if len(options) == 2 and len(arrays) == 1:  # one, or an array of them
            options = arrays if isinstance(value, list) else [option for option in options if option not in arrays]
        if len(options) != 1:
            raise TypeError(f"{kind} is not a form that the codec reads")
        return _decode(options[0], value, what, path)
    if origin is typing.Literal:
        choices = typing.get_args(kind)
        if not any(value == choice and type(value) is type(choice) for choice in choices):  # 1.0 and true equal 1, and are not it
            raise _wrong(what, path, "one of " + ", ".join(map(repr, choices)), value)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(what, path, "an array", value)
        item = typing.get_args(kind)[0]
        return tuple(_decode(item, member, what, f"{path}[{index}]") for index, member in enumerate(value))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(what, path, "an object", value)
        key_kind, item = typing.get_args(kind)
        return {_decode_key(key_kind, key, what, path): _decode(item, member, what, f"{path}.{key}") for key, member in value.items()}
    if dataclasses.is_dataclass(origin or kind):
        return _decode_dataclass(kind, value, what, path)
    return _decode_scalar(kind, value, what, path)


def _decode_key(kind: Any, key: str, what: str, path: str) -> Any:
    if kind is int:
        if not _DECIMAL.fullmatch(key):
            raise _wrong(what, path, "decimal keys", key)
        return int(key)
    return _decode(kind, key, what, path)


def _decode_scalar(kind: Any, value: Any, what: str, path: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise _wrong(what, path, "true or false", value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        choices = [member.value for member in kind]
        if isinstance(value, bool) or value not in choices:
            raise _wrong(what, path, "one of " + ", ".join(map(repr, choices)), value)
        return kind(value)
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _wrong(what, path, "an integer", value)
    if not isinstance(value, str):
        raise _wrong(what, path, "a string", value)
    if kind is str:
        return value
    try:
        if kind is bytes:
            if value != value.lower() or not value.isascii() or len(value.strip()) != len(value):
                raise ValueError("not lower-case hex")
            return bytes.fromhex(value) if " " not in value else _not_hex()
        if kind is datetime:
            if not _TIME.fullmatch(value):
                raise ValueError("another form, or not in UTC")
            return datetime.fromisoformat(value)
        if kind is date:
            if not _DATE.fullmatch(value):
                raise ValueError("another form")
            return date.fromisoformat(value)
    except ValueError:
        expected = {bytes: "lower-case hex digits", date: "a date such as 2026-11-22"}.get(kind, "a UTC time such as 2026-11-22T00:00:00Z")
        raise _wrong(what, path, expected, value) from None
    raise TypeError(f"{kind} is not a form that the codec reads")


def _not_hex() -> bytes:
    raise ValueError("blanks between hex digits")


@functools.cache  # resolving annotations costs more than everything else in reading a small document
def _hints(kind: Any) -> dict[str, Any]:
    """Annotations of a dataclass, with the type variables of a generic one replaced by its arguments."""
    origin = typing.get_origin(kind) or kind
    bound = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(kind), strict=False))
    return {name: bound.get(hint, hint) for name, hint in typing.get_type_hints(origin).items()}


def _decode_dataclass(kind: Any, value: Any, what: str, path: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(what, path, "an object", value)
    hints, origin = _hints(kind), typing.get_origin(kind) or kind
    known = {field.name: field for field in dataclasses.fields(origin) if field.init}
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise _malformed(
                what,
                "unknown-key",
                expected="a known key in " + (path or "the document"),
                found=repr(key),
                remedy=f"Did you mean {near[0]!r}?" if near else "Known keys: " + ", ".join(sorted(known)) + ".",
            )
    arguments = {}
    for name, field in known.items():
        if name in value:
            arguments[name] = _decode(hints[name], value[name], what, f"{path}.{name}" if path else name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _malformed(
                what, "missing-key", expected=f"key {name!r} in {path or 'the document'}", found="nothing", remedy=f"Add {name!r}."
            )
    return origin(**arguments)


def encode(value: Any) -> Any:
    """The JSON form of a dataclass tree; the inverse of `decode`."""
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(encode(key)): encode(member) for key, member in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        members = [encode(member) for member in value]
        return sorted(members) if isinstance(value, frozenset | set) else members
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    raise TypeError(f"{type(value)} has no JSON form")


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with a trailing Z; `value` must be aware."""
    if value.tzinfo is None:
        raise ValueError("a time without zone")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def json_schema(kind: type, *, title: str, identifier: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a dataclass, as `decode` reads it."""
    definitions: dict[str, Any] = {}
    top = _schema(kind, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": identifier, "title": title, **top, "$defs": definitions}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        forms = [{"type": "null"} if option is types.NoneType else _schema(option, definitions) for option in arguments]
        return {"anyOf": forms}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if dataclasses.is_dataclass(origin):
        return _schema_of_dataclass(kind, definitions)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _schema_of_dataclass(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    simple: dict[Any, dict[str, Any]] = {
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        str: {"type": "string"},
        bytes: {"type": "string", "pattern": "^([0-9a-f]{2})*$"},
        datetime: {"type": "string", "format": "date-time"},
        date: {"type": "string", "format": "date"},
    }
    return dict(simple[kind])


def _schema_of_dataclass(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = _hints(kind)
    properties, required = {}, []
    for field in dataclasses.fields(typing.get_origin(kind) or kind):
        if not field.init:
            continue
        form = _schema(hints[field.name], definitions)
        if "doc" in field.metadata:
            form = {**form, "description": field.metadata["doc"]}
        properties[field.name] = form
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    return schema
