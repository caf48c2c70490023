"""One answer of the Workload API, over a real Unix socket from a gRPC server in this process."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.svid import TrustDomain, client

from evident.errors import EvidentError, Indeterminate, Malformed, PolicyRefused
from evident.evidence.protobuf import encode
from evident.identity import workload_api
from evident.identity.spiffe_id import SpiffeId

grpc = pytest.importorskip("grpc", reason="extra `spire`")

NAME = "spiffe://example.org/evident/shop/machine/1/key"
LEAF, AUTHORITY = b"\x30\x03abc", b"\x30\x82\x01\x00" + bytes(256)
SVID: tuple[tuple[int, int | bytes], ...] = ((1, NAME.encode()), (2, LEAF + AUTHORITY), (3, b"key"), (4, AUTHORITY), (5, b"hint"))


def response(*svids: tuple[tuple[int, int | bytes], ...]) -> bytes:
    return encode(tuple((1, encode(each)) for each in svids))


class Agent:
    """A stand-in for the agent's endpoint: checks what every caller must send, and answers `answer`."""

    def __init__(self) -> None:
        self.answer: Callable[[Any], Iterator[bytes]] = lambda _context: iter([response(SVID)])

    def service(self, details: Any) -> Any:
        if details.method != "/SpiffeWorkloadAPI/FetchX509SVID":
            return None
        return grpc.unary_stream_rpc_method_handler(self.handle)

    def handle(self, request: bytes, context: Any) -> Iterator[bytes]:
        if ("workload.spiffe.io", "true") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        assert request == b""
        return self.answer(context)


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def agent(socket: Path) -> Iterator[Agent]:
    served = Agent()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((served,))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    yield served
    server.stop(None).wait()


def denied(context: Any) -> Iterator[bytes]:
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
    yield b""


def busy(context: Any) -> Iterator[bytes]:
    context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
    yield b""


def refused(socket: Path) -> EvidentError:
    with pytest.raises(EvidentError) as caught:
        workload_api.fetch(socket, timeout=5)
    return caught.value


def test_the_first_identity_is_taken(agent: Agent, socket: Path) -> None:
    other = ((1, b"spiffe://example.org/other"), *SVID[1:])
    agent.answer = lambda _context: iter([response(SVID, other), response(other)])
    svid = workload_api.fetch(socket, timeout=5)
    assert svid.spiffe_id == SpiffeId("example.org", "/evident/shop/machine/1/key")
    assert (svid.certificates, svid.key, svid.bundle) == ((LEAF, AUTHORITY), b"key", (AUTHORITY,))


def test_a_key_is_not_shown() -> None:
    assert b"hunter2" in (svid := workload_api.parse(response((*SVID[:2], (3, b"hunter2"), SVID[3])))).key
    assert "hunter2" not in repr(svid)


def test_an_svid_is_shown_in_handshakes_and_its_key_goes_to_no_file() -> None:
    trust = TrustDomain()
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), client(trust.svid("/asking"))
    serving.verify_mode = ssl.CERT_REQUIRED
    (svid := trust.svid("/serving")).into(serving)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = serving.wrap_bio(to_server, to_client, server_side=True), asking.wrap_bio(to_client, to_server)
    for each in (ends[1], ends[0], ends[1], ends[0]):
        with suppress(ssl.SSLWantReadError):
            each.do_handshake()
    assert ends[1].getpeercert(binary_form=True) == svid.certificates[0]
    assert ends[0].getpeercert(binary_form=True)


def test_another_key_than_the_certificates_is_refused() -> None:
    trust = TrustDomain()
    with pytest.raises(Malformed, match=r"svid\.form"):
        replace(trust.svid("/one"), key=trust.svid("/other").key).into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def test_no_identity_is_told_from_no_agent(agent: Agent, socket: Path) -> None:
    agent.answer = denied
    error = refused(socket)
    assert isinstance(error, PolicyRefused)
    assert error.code == "svid.none"
    agent.answer = busy
    error = refused(socket)
    assert isinstance(error, Indeterminate)
    assert (error.code, "starting" in error.findings[0].found) == ("svid.unreachable", True)


def test_an_agent_that_comes_later_is_found(socket: Path, request: pytest.FixtureRequest) -> None:
    assert refused(socket).code == "svid.unreachable"
    request.getfixturevalue("agent")
    assert str(workload_api.fetch(socket, timeout=5).spiffe_id) == NAME


def test_one_that_says_nothing_is_not_waited_for(agent: Agent, socket: Path) -> None:
    def silent(context: Any) -> Iterator[bytes]:
        while context.is_active():
            pass
        yield b""

    agent.answer = silent
    with pytest.raises(Indeterminate, match="DEADLINE_EXCEEDED"):
        workload_api.fetch(socket, timeout=0.2)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([], "svid.form"),
        ([b""], "svid.form"),
        ([b"\xff"], "svid.protobuf"),
        ([response(((1, b"http://example.org"), *SVID[1:]))], "spiffe.id"),
        ([response(((1, b"\xff"), *SVID[1:]))], "svid.form"),
        ([response(SVID[:1] + SVID[2:])], "svid.form"),
        ([response(SVID[:2] + SVID[3:])], "svid.form"),
        ([response(SVID[:3])], "svid.form"),
        ([response((SVID[0], (2, LEAF[:-1]), *SVID[2:]))], "svid.form.truncated"),
        ([response((SVID[0], (2, b"\x31\x00"), *SVID[2:]))], "svid.form"),
    ],
)
def test_other_answers_are_refused(agent: Agent, socket: Path, answer: list[bytes], code: str) -> None:
    agent.answer = lambda _context: iter(answer)
    error = refused(socket)
    assert isinstance(error, Malformed)
    assert error.code == code
