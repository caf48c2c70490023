"""Expected-PCR files of other tools become reference values; wrong ones are refused."""

from __future__ import annotations

import json

import pytest

from evident.errors import Malformed
from evident.reference_values import documents
from evident.reference_values.model import Strength

DIGEST = "7f" * 32


@pytest.mark.parametrize("value", [[{"pcr": 12, "digest": "00" * 32}, {"pcr": 4, "digest": DIGEST}], {"pcr4": DIGEST, "pcr12": "00" * 32}])
def test_both_forms_are_read(value):
    values = documents.load(json.dumps(value).encode()).values
    assert [(item.register, item.value.hex(), item.algorithm) for item in values] == [
        ("pcr4", DIGEST, "sha256"),
        ("pcr12", "00" * 32, "sha256"),
    ]
    assert {item.strength for item in values} == {Strength.ENDORSED}


@pytest.mark.parametrize(
    "value",
    [
        [{"pcr": 24, "digest": DIGEST}],
        [{"pcr": 4, "digest": DIGEST}, {"pcr": 4, "digest": DIGEST}],
        [{"pcr": "4", "digest": DIGEST}],
        [{"pcr": 4, "digest": "7f"}],
        {"pcr4": "zz" * 32},
        {"pcr4": 5},
        {"pcr04": DIGEST},
        {"pcr\u0664": DIGEST},
        {"pcr" + "4" * 5000: DIGEST},
        [],
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_files_are_refused(value):
    with pytest.raises(Malformed):
        documents.load(json.dumps(value).encode())
