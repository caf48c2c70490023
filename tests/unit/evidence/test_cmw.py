"""Wrapped messages (RFC 9999): read strictly, written back equal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed, Unsupported
from evident.evidence import cmw

PIECES = {"report": (b"\0" * 1184,), "crl": (b"one", b"two"), "auxblob": (b"",)}


def test_pieces_survive_the_round_trip() -> None:
    wrapped = json.dumps(cmw.encode(cmw.of_pieces("snp", PIECES))).encode()
    assert cmw.to_pieces(cmw.parse(wrapped)) == ("snp", PIECES)


def test_indicators_tell_evidence_from_endorsements() -> None:
    form = cmw.encode(cmw.of_pieces("snp", PIECES))
    assert form["report.0"][2] == 4
    assert form["crl.1"][2] == 2
    assert form["__cmwc_t"] == cmw.EVIDENCE_TYPE + "snp"


def test_the_example_of_a_nested_collection() -> None:
    form = {"__cmwc_t": "tag:example.org,2024:X", "a": ["application/eat-ucs+cbor", "oQo"], "b": {"c": ["text/plain", "eHk", 3]}}
    message = cmw.decode(form)
    assert isinstance(message, cmw.Collection)
    assert message.members["a"] == cmw.Record("application/eat-ucs+cbor", b"\xa1\x0a")
    assert cmw.encode(message) == form


@pytest.mark.parametrize(
    "form",
    [
        None,
        1,
        "x",
        [],
        ["a/b"],
        ["a/b", "eA", 1, 2],
        ["ab", "eA"],
        [1, "eA"],
        ["a/b", "eA=="],
        ["a/b", "e A"],
        ["a/b", "e+/A"],
        ["a/b", "eB"],
        ["a/b", "é"],
        ["a/b", "eA", 0],
        ["a/b", "eA", 32],
        ["a/b", "eA", True],
        ["a/b", "eA", "4"],
        {},
        {"__cmwc_t": "x"},
        {"__cmwc_t": "", "a": ["a/b", "eA"]},
        {"__cmwc_t": 1, "a": ["a/b", "eA"]},
        {"": ["a/b", "eA"]},
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": ["a/b", "eA"]}}}}}}}}}},
    ],
)
def test_other_forms_are_malformed(form: Any) -> None:
    with pytest.raises(Malformed):
        cmw.decode(form)


@pytest.mark.parametrize("labels", [["report"], ["report.1"], ["report.00"], ["Report.0"], ["report.0", "report.2"], ["report.-1"]])
def test_labels_number_the_pieces_of_a_role_without_gaps(labels: list[str]) -> None:
    record = ["application/octet-stream", "eA", 4]
    with pytest.raises(Malformed):
        cmw.to_pieces(cmw.decode({"__cmwc_t": cmw.EVIDENCE_TYPE + "snp", **dict.fromkeys(labels, record)}))


@pytest.mark.parametrize("form", [["a/b", "eA"], {"a.0": ["a/b", "eA"]}, {"__cmwc_t": "tag:else", "a.0": ["a/b", "eA"]}])
def test_another_collection_is_unsupported(form: Any) -> None:
    with pytest.raises(Unsupported):
        cmw.to_pieces(cmw.decode(form))


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), st.lists(st.binary(), min_size=1, max_size=3).map(tuple), min_size=1
    )
)
def test_any_pieces_survive(pieces: dict[str, tuple[bytes, ...]]) -> None:
    assert cmw.to_pieces(cmw.decode(cmw.encode(cmw.of_pieces("kind", pieces)))) == ("kind", pieces)
