"""Generic dataclasses and dates through the codec, and values that JSON cannot carry back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Generic, Literal, TypeVar

import pytest

from evident import codec
from evident.errors import Malformed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    value: T
    source: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    as_of: date
    degree: Sourced[int]
    where: Sourced[Literal["chip", "host"]]
    covers: Sourced[tuple[str, ...]]


SHEET = Sheet(date(2024, 3, 26), Sourced(2, "table 1"), Sourced("host"), Sourced(("kernel", "initrd")))


def test_a_generic_dataclass_survives_the_round_trip() -> None:
    assert codec.decode(Sheet, codec.encode(SHEET), "sheet") == SHEET


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("degree", {"value": "2"}),
        ("where", {"value": "cloud"}),
        ("covers", {"value": [1]}),
        ("degree", {"value": 2, "sauce": ""}),
        ("as_of", "20240326"),
        ("as_of", "2024-13-01"),
        ("as_of", 3),
    ],
)
def test_the_argument_of_a_generic_is_enforced(member: str, value: object) -> None:
    with pytest.raises(Malformed):
        codec.decode(Sheet, {**codec.encode(SHEET), member: value}, "sheet")


def test_the_schema_states_each_argument() -> None:
    properties = codec.json_schema(Sheet, title="Sheet", identifier="x")["$defs"]["Sheet"]["properties"]
    assert properties["as_of"] == {"type": "string", "format": "date"}
    assert properties["degree"]["properties"]["value"] == {"type": "integer"}
    assert properties["where"]["properties"]["value"] == {"enum": ["chip", "host"]}


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"\uDFFF": 1}', r'["\udc00\ud800"]', "1e400", "[-1e999]"])
def test_text_and_numbers_that_cannot_be_written_back_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        codec.loads(text.encode(), "sheet")


@pytest.mark.parametrize(("text", "value"), [(r'"\ud83d\ude00"', "\U0001f600"), (r'"\\ud800"', r"\ud800"), ("1.5", 1.5)])
def test_whole_pairs_and_finite_numbers_are_read(text: str, value: object) -> None:
    assert codec.loads(text.encode(), "sheet") == value
