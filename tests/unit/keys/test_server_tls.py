"""The key server with an SVID of its own: one question over mutual TLS, as bounded as in the clear.

Who gets a key there, and who does not: `tests/attacks/test_svid.py`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPSConnection
from typing import Any

import pytest
from tests.svid import TrustDomain, client

from evident.errors import Indeterminate
from evident.identity.spiffe_id import SpiffeId
from evident.identity.workload_api import Svid
from evident.keys import messages, mutual_tls, server
from evident.keys.messages import ChallengeRequest, Done, KeyRequest, Refusal, Volume, dumps, loads
from evident.keys.server import KeyServer

TRUST = TrustDomain()
OWN, MACHINE = TRUST.svid("/key-server"), TRUST.svid("/machine")


class Service:
    """Releases to whoever asks what it is asked for, and says to whom."""

    def release_to(self, holder: SpiffeId, request: KeyRequest) -> Volume:
        return Volume(1, request.disk, str(holder).encode())


@contextmanager
def serving(own: Callable[[], Svid], events: list[str]) -> Iterator[tuple[str, int]]:
    with KeyServer(("127.0.0.1", 0), Service(), on_event=events.append, tls=own) as made:  # type: ignore[arg-type]
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield made.server_address  # type: ignore[misc]
        finally:
            made.shutdown()
            thread.join(5)


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def address(events: list[str]) -> Iterator[tuple[str, int]]:
    with serving(lambda: OWN, events) as listening:
        yield listening


REQUEST = KeyRequest(1, "disk")


def ask(address: tuple[str, int], path: str = messages.KEY, message: Any = REQUEST, held: Svid = MACHINE) -> tuple[int, bytes]:
    connection = HTTPSConnection(*address, timeout=10, context=client(held))
    try:
        connection.request("POST" if message else "GET", path, dumps(message) if message else None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def said(events: list[str], text: str) -> bool:
    """What happens to a connection is said when its other side has known for a moment."""
    until = time.monotonic() + 5
    while not any(text in line for line in events) and time.monotonic() < until:
        time.sleep(0.01)
    return any(text in line for line in events)


def test_who_asks_is_known_by_the_handshake(address: tuple[str, int]) -> None:
    status, body = ask(address)
    assert (status, loads(Volume, body).key) == (200, b"spiffe://example.org/machine")


@pytest.mark.parametrize("path", [messages.CHALLENGE, messages.EVIDENCE, messages.CREDENTIAL, messages.CONFIRM, "/"])
def test_evidence_is_not_asked_for_there(address: tuple[str, int], path: str) -> None:
    status, body = ask(address, path, ChallengeRequest(1, "disk"))
    assert (status, loads(Refusal, body).codes) == (404, ("keys.path",))


def test_its_health_is_for_svids_too(address: tuple[str, int]) -> None:
    status, body = ask(address, messages.HEALTH, None)
    assert (status, loads(Done, body)) == (200, Done(1))


def test_a_renewed_svid_is_shown_from_then_on(events: list[str]) -> None:
    shown = [OWN]
    with serving(lambda: shown[-1], events) as address:
        for renewed in (OWN, TRUST.svid("/key-server")):
            shown.append(renewed)
            with client(MACHINE).wrap_socket(socket.create_connection(address, 10)) as connection:
                assert connection.getpeercert(binary_form=True) == renewed.certificates[0]


def test_authorities_are_replaced_without_a_break(events: list[str]) -> None:
    """SP-04: the next authority is in the bundle before it signs, and the one before as long as SVIDs of it last."""
    following = TrustDomain(TRUST.name)
    both = (*OWN.bundle, following.certificate)
    shown = [OWN]
    held = {"old": MACHINE, "new": replace(following.svid("/machine"), bundle=both)}
    with serving(lambda: shown[-1], events) as address:
        for own, taken in ((OWN, {"old"}), (replace(OWN, bundle=both), {"old", "new"}), (following.svid("/key-server"), {"new"})):
            shown.append(own)
            assert {name for name, each in held.items() if taken_from(address, replace(each, bundle=both))} == taken


def taken_from(address: tuple[str, int], held: Svid) -> bool:
    try:
        return ask(address, held=held)[0] == 200
    except OSError:
        return False


def test_without_an_svid_nobody_is_served(events: list[str]) -> None:
    def none() -> Svid:
        raise Indeterminate.of("svid.unreachable", expected="a", found="b", remedy="c")

    with serving(none, events) as address:
        for _ in range(server.CONNECTIONS_EACH + 1):  # and it keeps no place
            with pytest.raises(OSError):
                ask(address)
    assert said(events, "svid.unreachable")


def test_what_is_no_tls_is_not_answered(address: tuple[str, int], events: list[str]) -> None:
    with socket.create_connection(address, 10) as stream, suppress(ConnectionError):
        stream.sendall(b"POST /v1/key HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert not stream.recv(4096).startswith(b"HTTP")
    assert said(events, "keys.handshake")


def test_one_more_than_there_are_places_for_hears_nothing_in_the_clear(monkeypatch: pytest.MonkeyPatch, events: list[str]) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_EACH", 1)
    with serving(lambda: OWN, events) as address, socket.create_connection(address, 10), socket.create_connection(address, 10) as more:
        assert more.recv(4096) == b""


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("bound", ["silence", "deadline"])
def test_a_handshake_has_its_time(monkeypatch: pytest.MonkeyPatch, events: list[str], bound: str, bounded: bool) -> None:
    if bounded and bound == "silence":
        monkeypatch.setattr(server._Handler, "timeout", 0.2)
    if bounded and bound == "deadline":
        monkeypatch.setattr(server, "DEADLINE", 0.2)
    with serving(lambda: OWN, events) as address, socket.create_connection(address, 0.6) as stream:
        stream.sendall(b"\x16\x03\x01\x02\x00")  # a handshake's record of 512 bytes begins
        try:
            ended = stream.recv(4096) == b""
        except TimeoutError:
            ended = False
        except ConnectionError:
            ended = True
    assert ended == bounded


@pytest.mark.parametrize("way", [server._hang_up, lambda secured: secured.shutdown(socket.SHUT_RDWR)], ids=["ours", "of ssl"])
def test_what_is_being_sent_when_the_deadline_comes_is_not_sent_in_the_clear(way: Any, request: pytest.FixtureRequest) -> None:
    """Python's own forgets the encryption before it closes: what another thread writes in between is plain text."""
    one, other = socket.socketpair()
    secured = mutual_tls.context(OWN).wrap_socket(one, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=lambda: client(MACHINE).wrap_socket(other).detach())
    thread.start()
    with secured:
        secured.do_handshake()
        thread.join(5)
        way(secured)
        assert (secured.version() is None) == ("of ssl" in request.node.name)
