"""What may come as an agent's answer, and what a peer may show as an SVID: refused in the tree's words, or read."""

from __future__ import annotations

import ssl
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from tests.svid import TrustDomain

from evident.errors import EvidentError, Malformed
from evident.evidence.protobuf import encode
from evident.identity import spiffe_id, svid, workload_api
from evident.identity.spiffe_id import SpiffeId

REAL = TrustDomain().svid("/shop")
LEAF = REAL.certificates[0]
PARTS = st.binary(max_size=40) | st.sampled_from([LEAF, LEAF + LEAF, REAL.key, *REAL.bundle, b"spiffe://example.org/shop", b"\x30\x84"])
FIELDS = st.lists(st.tuples(st.integers(1, 6), PARTS | st.integers(0, 2**64 - 1)), max_size=6).map(lambda found: encode(tuple(found)))
ANSWERS = (
    st.binary(max_size=60) | FIELDS | st.lists(st.tuples(st.integers(1, 3), FIELDS), max_size=3).map(lambda found: encode(tuple(found)))
)


@given(ANSWERS)
def test_answers_of_an_agent(answer: bytes) -> None:
    with suppress(Malformed):
        found = workload_api.parse(answer)
        found.into(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@given(st.integers(0, len(LEAF) - 1), st.binary(max_size=4))
def test_certificates_of_a_peer(at: int, other: bytes) -> None:
    with suppress(EvidentError):
        assert svid.check(LEAF[:at] + other + LEAF[at + len(other) :], "example.org").trust_domain == "example.org"


@given(st.text(max_size=80), st.text(max_size=80))
def test_ids(domain: str, path: str) -> None:
    with suppress(Malformed):
        made = SpiffeId(domain, path)
        assert spiffe_id.parse(str(made)) == made
