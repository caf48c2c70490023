"""The host between a machine and its key server: everything the two say to each other passes through its hands (AT-02, AT-03, AT-05).

It listens where the machine's relay looks for the key server, and hands on what it likes.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import EvidentError, PolicyRefused
from evident.evidence import binding
from evident.files import write_private_bytes
from evident.keys.exchange import spki
from evident.keys.messages import CHALLENGE, EVIDENCE, ChallengeReply, EvidenceRequest, dumps, loads
from evident.lifecycle import keyserver
from evident.lifecycle.deployment import Deployment
from evident.platforms.driver import PORT_FILE
from evident.platforms.qemu import console, launch
from evident.platforms.qemu.order import read_launch
from evident.verification import challenge
from evident.verification.context import Context
from evident.verification.facts import Freshness

pytestmark = pytest.mark.slow
Desk = Any  # of conftest.py
Hand = Callable[[str, bytes], bytes]


def unchanged(_path: str, body: bytes) -> bytes:
    return body


@dataclass
class Host:
    """What it does with what the guest says, and with what the key server answers; and all that it saw."""

    asking: Hand = unchanged
    answering: Hand = unchanged
    despite: Hand | None = None
    """What it answers, to what the guest said, in the place of a refusal."""
    seen: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    """Path, what the guest said, what the key server answered."""


@contextmanager
def between(port: int, host: Host) -> Iterator[int]:
    """Listen in the place of the key server at `port`: the port to give to the relay."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            said = self.rfile.read(int(self.headers["Content-Length"]))
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            server.request("POST", self.path, host.asking(self.path, said))
            response = server.getresponse()
            answered = response.read()
            server.close()
            host.seen.append((self.path, said, answered))
            status, answer = response.status, answered
            if status == 200:
                answer = host.answering(self.path, answered)
            elif host.despite is not None:
                status, answer = 200, host.despite(self.path, said)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        yield listener.server_address[1]
        listener.shutdown()


@pytest.fixture
def stand_between(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Host], None]]:
    """Every key server that is started from now on has this host before it."""
    open_ones: list[Any] = []

    def set_up(host: Host) -> None:
        begin = keyserver.begin

        def begin_behind(target: Deployment, cache: Path, listen: int | None = None) -> Any:
            process = begin(target, cache, listen)
            path = target.machine / PORT_FILE
            place = between(int(path.read_text()), host)
            open_ones.append(place)
            write_private_bytes(path, str(place.__enter__()).encode())
            return process

        monkeypatch.setattr(keyserver, "begin", begin_behind)

    yield set_up
    for place in open_ones:
        place.__exit__(None, None, None)


class OtherChallenge:
    """The guest answers a challenge of the host's, and its answer is handed in for the key server's."""

    def __init__(self) -> None:
        self.own, self.right = hashlib.sha256(b"the host's").digest(), b""

    def answering(self, path: str, body: bytes) -> bytes:
        if path != CHALLENGE:
            return body
        reply = loads(ChallengeReply, body)
        self.right = reply.nonce
        return dumps(replace(reply, nonce=self.own))

    def asking(self, path: str, body: bytes) -> bytes:
        return dumps(replace(loads(EvidenceRequest, body), nonce=self.right)) if path == EVIDENCE else body


@pytest.mark.attack("AT-05", "The guest is given another challenge than the key server's.", "snp.challenge.key")
def test_wrong_challenge(desk: Desk, server_here: Any, stand_between: Callable[[Host], None], monkeypatch: pytest.MonkeyPatch) -> None:
    host = OtherChallenge()
    stand_between(Host(host.asking, host.answering))
    assert desk.up("shop") != 0
    assert desk.events == ["challenged", "denied"]
    assert desk.log[-1].codes == ("snp.challenge.key",)
    assert any("guest.denied" in text for text in desk.failures(desk.shop("shop")))
    monkeypatch.setattr(challenge, "compare", believing)
    server_here.decide_again()
    assert desk.events[-1] == "released"


def believing(_context: Context, _found: bytes, key: bytes | None, _prefix: str) -> challenge.Answer:
    """The comparison of the challenge, switched off."""
    return challenge.Answer(Freshness("challenge", "whatever it says"), binding.key_digest(key or b""))


class Recorder:
    """Keeps the first boot's evidence, and hands it in again for the second's."""

    def __init__(self) -> None:
        self.kept = b""
        self.again = False

    def asking(self, path: str, body: bytes) -> bytes:
        if path == EVIDENCE:
            self.kept = self.kept or body
            return self.kept if self.again else body
        return body


@pytest.mark.attack("AT-05", "A recorded session is played to the key server again at a later boot.", "challenge.reused")
@pytest.mark.attack("AT-02", "The host puts a key of its own in the place of a booted machine's.", "snp.challenge.key")
@pytest.mark.attack(
    "AT-02", "The host listens to all that a machine and its key server say.", "a secret sealed to the guest's key", "refused"
)
@pytest.mark.usefixtures("until_decided")
def test_replayed_session(
    desk: Desk,
    server_here: Any,
    stand_between: Callable[[Host], None],
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., None],
) -> None:
    recorder, keys, register = Recorder(), list[bytes](), keyserver.register
    monkeypatch.setattr(keyserver, "register", lambda target, made, *more: (keys.append(made.key), register(target, made, *more)))
    host = Host(recorder.asking)
    stand_between(host)
    assert desk.up("shop") == 12, "asked before it answers"
    eventually(lambda: EVIDENCE in {path for path, _, _ in host.seen}, "the key on its way")
    heard = b"".join(said + answered for _, said, answered in host.seen)
    assert not any(form in heard for form in (keys[0], keys[0].hex().encode(), base64.b64encode(keys[0]).rstrip(b"=")))
    a_key_of_the_hosts(desk, server_here, monkeypatch)
    recorder.again = True
    assert "guest.denied" in boot_again(desk.shop("shop"))
    assert desk.log[-1].codes == ("challenge.reused",)
    assert desk.events.count("released") == 2
    server_here.decide_again()
    assert desk.events.count("released") == 3, "and what is released is sealed to the key of a machine that is no more"


def a_key_of_the_hosts(desk: Desk, server_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own evidence, sent for another key: denied, and with the comparison left out the host has the disk's key."""
    service, request = server_here.asked[-1]
    own = spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    server_here.asked.append((service, replace(request, key=own)))
    with pytest.raises(EvidentError, match=r"snp\.challenge\.key"):
        server_here.decide_again()
    assert desk.events.count("released") == 1
    with monkeypatch.context() as off:
        off.setattr(challenge, "compare", believing)
        server_here.decide_again()
    assert desk.events.count("released") == 2


def boot_again(shop: Deployment) -> str:
    """The same machine once more, to its end; its last words."""
    platform = shop.driver()
    platform.halt(shop.machine)
    for left in (*shop.machine.glob("*.sock"), shop.machine / console.HEAD):
        left.unlink(missing_ok=True)
    platform._start(shop.machine, read_launch(shop.machine))
    with pytest.raises(PolicyRefused) as ended:
        launch._follow(shop.machine, print)
    return str(ended.value)


@pytest.mark.attack("BW-14", "Somebody with a key of its own answers in the key server's place.", "guest.key-server", "refused")
@pytest.mark.attack("AT-03", "A proxy answers a machine whose command line names the owner's key server.", "guest.key-server", "refused")
def test_an_impostor(desk: Desk, stand_between: Callable[[Host], None]) -> None:
    own = spki(ec.generate_private_key(ec.SECP384R1()).public_key())

    def answering(path: str, body: bytes) -> bytes:
        return dumps(replace(loads(ChallengeReply, body), key_server_public=own)) if path == CHALLENGE else body

    host = Host(answering=answering)
    stand_between(host)
    assert desk.up("shop") != 0
    assert any("guest.key-server" in text for text in desk.failures(desk.shop("shop")))
    assert [path for path, _, _ in host.seen] == [CHALLENGE], "it does not even get evidence"
