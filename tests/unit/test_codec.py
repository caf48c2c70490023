"""The strict codec: what it refuses, and that reading and writing are inverse."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident import codec
from evident.errors import Malformed


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    digest: bytes
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Outer:
    version: Literal[1]
    name: str
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    banks: Mapping[int, bytes] = field(default_factory=dict)
    at: datetime | None = None
    day: date | None = None
    flag: bool = field(default=False, metadata={"doc": "A flag."})


GOOD: dict[str, Any] = {
    "version": 1,
    "name": "x",
    "inner": {"digest": "00ff", "colour": "blue"},
    "many": [{"digest": ""}],
    "numbers": {"a": 1},
    "banks": {"4": "aa"},
    "at": "2026-11-22T00:00:00Z",
    "day": "2026-11-22",
    "flag": True,
}


def code(value: object) -> str:
    with pytest.raises(Malformed) as caught:
        codec.decode(Outer, value, "doc")
    return caught.value.code


def test_reads_and_writes_back() -> None:
    outer = codec.decode(Outer, GOOD, "doc")
    assert outer.inner == Inner(b"\x00\xff", Colour.BLUE)
    assert outer.at == datetime(2026, 11, 22, tzinfo=UTC)
    assert codec.decode(Outer, json.loads(json.dumps(codec.encode(outer))), "doc") == outer


def test_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(Malformed) as caught:
        codec.decode(Outer, {**GOOD, "nubmers": {}}, "doc")
    assert caught.value.code == "doc.unknown-key"
    assert "'numbers'" in caught.value.findings[0].remedy


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "doc.type"),
        ({"version": True}, "doc.type"),
        ({"version": 1.0}, "doc.type"),
        ({"name": 3}, "doc.type"),
        ({"inner": []}, "doc.type"),
        ({"inner": {}}, "doc.missing-key"),
        ({"inner": {"digest": "0G"}}, "doc.type"),
        ({"inner": {"digest": "AA"}}, "doc.type"),
        ({"inner": {"digest": "aa bb"}}, "doc.type"),
        ({"inner": {"digest": "aa", "colour": "green"}}, "doc.type"),
        ({"many": {}}, "doc.type"),
        ({"numbers": {"a": "1"}}, "doc.type"),
        ({"numbers": {"a": True}}, "doc.type"),
        ({"banks": {"04": "aa"}}, "doc.type"),
        ({"banks": {"x": "aa"}}, "doc.type"),
        ({"banks": {"1" * 5000: "aa"}}, "doc.type"),
        ({"at": "2026-11-22T00:00:00"}, "doc.type"),
        ({"at": "yesterdayZ"}, "doc.type"),
        ({"at": "20261122T000000Z"}, "doc.type"),
        ({"at": "2026-11-22T00:00Z"}, "doc.type"),
        ({"at": "2026-02-30T00:00:00Z"}, "doc.type"),
        ({"day": "2026-1-2"}, "doc.type"),
        ({"day": "2026-02-30"}, "doc.type"),
        ({"flag": 1}, "doc.type"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_types_are_refused(change: dict[str, Any], expected: str) -> None:
    assert code({**GOOD, **change}) == expected


def test_missing_key_and_wrong_top() -> None:
    assert code({"version": 1}) == "doc.missing-key"
    assert code([]) == "doc.type"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a":1,"a":2}', "doc.duplicate-key"),
        (b'{"a":{"b":1,"b":1}}', "doc.duplicate-key"),
        (b"[NaN]", "doc.json"),
        (b"\xff\xfe", "doc.json"),
        (b"", "doc.json"),
        (b"[1] 2", "doc.json"),
        (b"[" * 100_000, "doc.json"),
        (b"[" * 70 + b"]" * 70, "doc.json"),
        (b"1" * 5000, "doc.json"),
    ],
    ids=["duplicate", "nested-duplicate", "nan", "not-utf8", "empty", "trailing", "bomb", "deep", "huge-number"],
)
def test_json_text_is_read_strictly(text: bytes, expected: str) -> None:
    with pytest.raises(Malformed) as caught:
        codec.loads(text, "doc")
    assert caught.value.code == expected


def test_oversized_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Malformed) as caught:
        codec.loads(b"[" + b" " * 100 + b"]", "doc", limit=100)
    assert caught.value.code == "doc.oversized"


def test_schema_agrees_with_the_decoder() -> None:
    schema = codec.json_schema(Outer, title="Outer", identifier="urn:test")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(GOOD, schema)
    for bad in ({**GOOD, "extra": 1}, {"version": 1}, {**GOOD, "version": 2}, {**GOOD, "inner": {"digest": "0G"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
    assert schema["$defs"]["Outer"]["properties"]["flag"]["description"] == "A flag."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.sampled_from([*GOOD, "digest", "colour", "x"]), children),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_decoded_or_malformed(value: object) -> None:
    try:
        outer = codec.decode(Outer, value, "doc")
    except Malformed:
        return
    assert codec.decode(Outer, codec.encode(outer), "doc") == outer


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        codec.loads(data, "doc")
