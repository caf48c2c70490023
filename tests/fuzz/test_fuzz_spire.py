"""What SPIRE, a stranger's agent or the network may say to either half of the node attestor: an error of the tree, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable, EvidentError, Malformed
from evident.evidence import protobuf
from evident.guest.node_attestor import Machine
from evident.identity import attestation, go_plugin
from evident.identity.attestation import Activated, Answer, Challenge, Credential, Hello
from evident.identity.node_attestor import NodeAttestor, Surety

MACHINE = Machine(())
SPKI = attestation.spki(MACHINE._key.public_key())
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60).map(str.encode),
    st.dictionaries(
        st.sampled_from(["version", "key", "nonce", "evidence", "beside", "signature", "answer"]),
        st.one_of(st.integers(0, 2), st.binary(max_size=8).map(bytes.hex), st.lists(st.integers(), max_size=2), st.none()),
    ).map(lambda members: attestation.dumps(members)),
    st.just(attestation.dumps(Hello(1, SPKI))),
)


class Offline:
    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=url, found=f"no network for {limit} bytes", remedy="Go online.")


@given(TEXTS)
def test_messages(text: bytes) -> None:
    kinds: tuple[Any, ...] = (Hello, Challenge, Answer, Credential, Activated)
    for kind in kinds:
        try:
            message = attestation.loads(kind, text)
        except Malformed:
            continue
        assert attestation.loads(kind, attestation.dumps(message)) == message


@given(st.lists(st.one_of(st.binary(max_size=60), st.tuples(st.sampled_from([1, 2]), TEXTS).map(lambda field: protobuf.encode((field,))))))
def test_conversations(requests: list[bytes]) -> None:
    """Whatever comes, in whatever order: no conversation ends in anything but attributes or an error of the tree."""
    attestor = NodeAttestor(
        Surety(AnchorSet(()), Offline()), clock=lambda: datetime(2026, 11, 22, tzinfo=UTC), on_decision=lambda _line: None
    )
    sides: tuple[Callable[[Iterator[bytes], str], Iterator[bytes]], ...] = (attestor.converse, MACHINE.converse)
    for converse in sides:
        with suppress(EvidentError):
            assert not any(protobuf.parse(answer, "test").one_bytes(2) for answer in converse(iter(requests), "example.org"))


@given(st.binary(max_size=100))
def test_configurations(request: bytes) -> None:
    with suppress(EvidentError):
        go_plugin._trust_domain(request)
