"""SP-01: what a SPIFFE ID is, to the character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed
from evident.identity import spiffe_id
from evident.identity.spiffe_id import SpiffeId


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        ("spiffe://example.org/evident/shop/machine/1", "example.org", "/evident/shop/machine/1"),
        ("spiffe://example.org", "example.org", ""),
        ("spiffe://10.0.0.1/a", "10.0.0.1", "/a"),
        ("spiffe://a_b-c/Upper.Case_-9/...", "a_b-c", "/Upper.Case_-9/..."),
        ("spiffe://" + "d" * 255 + "/x", "d" * 255, "/x"),
        ("spiffe://d/" + "x" * 2037, "d", "/" + "x" * 2037),
    ],
)
def test_an_id_is_read_and_written_alike(text: str, domain: str, path: str) -> None:
    parsed = spiffe_id.parse(text)
    assert (parsed, str(parsed)) == (SpiffeId(domain, path), text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:/example.org/a",
        "SPIFFE://example.org/a",
        "https://example.org/a",
        "spiffe://",
        "spiffe:///a",
        "spiffe://Example.org/a",
        "spiffe://example.org:8443/a",
        "spiffe://user@example.org/a",
        "spiffe://ex%61mple.org/a",
        "spiffe://exämple.org/a",
        "spiffe://example.org/",
        "spiffe://example.org/a/",
        "spiffe://example.org//a",
        "spiffe://example.org/./a",
        "spiffe://example.org/a/..",
        "spiffe://example.org/a?b",
        "spiffe://example.org/a#b",
        "spiffe://example.org/%61",
        "spiffe://example.org/a b",
        "spiffe://example.org/a\n",
        "spiffe://example.org/²",
        "spiffe://" + "d" * 256 + "/x",
        "spiffe://d/" + "x" * 2038,
    ],
)
def test_nothing_else_is_one(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        spiffe_id.parse(text)
    assert caught.value.code == "spiffe.id"


def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(Malformed):
        SpiffeId("example.org", "evident")


@given(st.text(max_size=60) | st.text("spiffe:/ab.-_", max_size=60).map("spiffe://".__add__))
def test_what_is_taken_is_written_back(text: str) -> None:
    try:
        parsed = spiffe_id.parse(text)
    except Malformed:
        return
    assert str(parsed) == text
