"""TLS to an attested machine: a live connection by its key, and nobody else's, however good the certificate (AT-50)."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.tls import Authority, server, serving

from evident.appraisal.appraise import appraise
from evident.errors import EvidentError, Indeterminate, Malformed, NotAuthentic
from evident.evidence import binding
from evident.guest import certificate
from evident.keys import tls
from evident.keys.exchange import spki
from evident.lifecycle import connections
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.verification import snp

NONCE, HOST = bytes(range(32)), "localhost"


class Machine:
    """A boot: its key, what it wrote for its workload in `place`, and its answer."""

    def __init__(self, pki: SimulatorPki, place: Path) -> None:
        own = ec.generate_private_key(ec.SECP384R1())
        self.place = place
        machine, key = scenario.good(pki), spki(own.public_key())
        running = machine.start()
        pieces = {"report": (running.guest.report(binding.report_data(NONCE, key)),), "auxblob": (running._table,), "key": (key,)}
        statement = appraise(snp.verify(pieces, machine.context(NONCE)), policy=machine.policy, references=machine.reference.values)
        made = certificate.make(own, [HOST], os.getuid(), place)
        self.answer: Any = SimpleNamespace(outcome=statement, case=SimpleNamespace(pieces=pieces), certificates=made)

    @property
    def known(self) -> tls.Certified:
        known = connections.certified(self.answer)
        assert known is not None
        return known

    def server(self, certificate: bytes = b"") -> ssl.SSLContext:
        """Of the workload, by its own certificate or another for its key."""
        if certificate:
            (self.place.parent / "other.pem").write_bytes(certificate)
        return server(self.place.parent / "other.pem" if certificate else self.place / "certificate.pem", self.place / "key.pem")


@pytest.fixture
def machine(simulator_pki: SimulatorPki, tmp_path: Path) -> Machine:
    return Machine(simulator_pki, tmp_path / "tls")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def ordinary(port: int, trusted: Path) -> bytes:
    """What a client gets that believes a certificate for the name, as browsers do."""
    client = ssl.create_default_context(cafile=trusted)
    with socket.create_connection(("127.0.0.1", port)) as stream, client.wrap_socket(stream, server_hostname=HOST) as session:
        return session.recv(10)


def test_the_machine_by_its_own_certificate(machine: Machine, tmp_path: Path) -> None:
    connections.remember(machine.known, tmp_path / "machine.pem")
    with serving(machine.server()) as port:
        connections.check(machine.known, HOST, port)
        assert ordinary(port, tmp_path / "machine.pem") == b"served"
    assert (tmp_path / "machine.pem").read_bytes() == (machine.place / "instance.pem").read_bytes()


def test_the_machine_by_an_ordinary_authoritys_certificate(machine: Machine, authority: Authority) -> None:
    """The request of the boot, granted: the very same key."""
    with serving(machine.server(authority.grant(machine.place / "request.pem"))) as port:
        assert ordinary(port, authority.file) == b"served"
        connections.check(machine.known, HOST, port)


@pytest.mark.attack("AT-50", "A name leads to another server, with a key of its own and a valid certificate for the name.", "tls.other-key")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_valid_certificate_of_another_server(
    machine: Machine, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    connections.remember(machine.known, tmp_path / "machine.pem")
    with serving(authority.impostor(HOST)) as port:
        assert ordinary(port, authority.file) == b"served", "the chain is valid, and the name is right"
        if not checked:
            monkeypatch.setattr(tls, "check_served", lambda *_: None)
            connections.check(machine.known, HOST, port)
            return
        with pytest.raises(NotAuthentic, match=r"tls\.other-key.*TEST authority"):
            connections.check(machine.known, HOST, port)
        with pytest.raises(ssl.SSLCertVerificationError):
            ordinary(port, tmp_path / "machine.pem")


@pytest.mark.attack("AT-50", "A name leads to another machine of the same image, which would attest as well.", "tls.other-key")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_another_machine_of_the_same_image(
    machine: Machine, authority: Authority, simulator_pki: SimulatorPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """Or another boot of the same machine."""
    other = Machine(simulator_pki, tmp_path / "other" / "tls")
    for granted in (b"", authority.grant(other.place / "request.pem")):
        with serving(other.server(granted)) as port:
            connections.check(other.known, HOST, port)
            if not checked:
                with monkeypatch.context() as off:
                    off.setattr(tls, "check_served", lambda *_: None)
                    connections.check(machine.known, HOST, port)
                continue
            with pytest.raises(NotAuthentic, match=r"tls\.other-key"):
                connections.check(machine.known, HOST, port)


def test_a_relay_that_changes_something_gets_no_handshake(machine: Machine) -> None:
    with serving(machine.server()) as port, relaying(port, _spoiling) as spoiled, pytest.raises(NotAuthentic, match=r"tls\.handshake"):
        connections.check(machine.known, HOST, spoiled)


def _spoiling(answer: bytes) -> bytes:
    return answer[:-1] + bytes((answer[-1] ^ 1,))


def test_a_relay_that_only_forwards_is_the_machine(machine: Machine) -> None:
    """It reads nothing and changes nothing: the key is at the far end."""
    with serving(machine.server()) as port, relaying(port, bytes) as relayed:
        connections.check(machine.known, HOST, relayed)


@contextmanager
def relaying(port: int, change: Callable[[bytes], bytes]) -> Iterator[int]:
    """Somebody between client and server, who changes what the server says."""

    def relay(stream: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            for here, there, how in ((stream, far, bytes), (far, stream, change)):
                while data := here.recv(65536):
                    there.sendall(how(data))
                    if here is stream:
                        break

    with peer(relay) as between:
        yield between


@contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """Somebody at a port, who deals so with one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as stream:
                behave(stream)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def greets(stream: socket.socket) -> None:
    stream.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
    stream.recv(1000)


def alerts(stream: socket.socket) -> None:
    stream.sendall(b"\x15\3\3\0\2\2\x28")


def repeats(stream: socket.socket) -> None:
    while stream.recv(1000):
        stream.sendall(bytes(1000))


def ends(_: socket.socket) -> None:
    """At once."""


def says_nothing(stream: socket.socket) -> None:
    while stream.recv(1000):
        pass
    time.sleep(0.1)


def drips(stream: socket.socket) -> None:
    """A record that never ends, one byte at a time: each wait is short."""
    stream.sendall(b"\x16\3\3\x3f\xff\2\0\x3f\xfb")
    while True:
        stream.sendall(b"\0")
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("behave", "kind", "code"),
    [
        (greets, NotAuthentic, "tls.handshake"),
        (alerts, NotAuthentic, "tls.handshake"),
        (repeats, NotAuthentic, "tls.handshake"),
        (ends, Indeterminate, "tls.unreachable"),
        (says_nothing, Indeterminate, "tls.unreachable"),
        (drips, Indeterminate, "tls.unreachable"),
    ],
)
def test_whatever_else_answers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, behave: Callable[[socket.socket], None], kind: type[EvidentError], code: str
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT", 0.5)
    began = time.monotonic()
    with peer(behave) as port, pytest.raises(kind) as caught:
        connections.check(machine.known, HOST, port)
    assert caught.value.code == code
    assert time.monotonic() - began < 5


def test_nobody_there(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for host in (HOST, "name.invalid"):
        with pytest.raises(Indeterminate, match=r"tls\.unreachable"):
            connections.check(machine.known, host, port)


@pytest.mark.parametrize(("padding", "kind", "code"), [(80_000, Malformed, "x509.oversized"), (120_000, NotAuthentic, "tls.handshake")])
def test_a_huge_certificate(machine: Machine, authority: Authority, padding: int, kind: type[EvidentError], code: str) -> None:
    """Even one for the very key."""
    key = load_pem_private_key((machine.place / "key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with serving(machine.server(authority.certify(key.public_key(), HOST, padding=padding))) as port, pytest.raises(kind) as caught:
        connections.check(machine.known, HOST, port)
    assert caught.value.code == code


def test_a_long_chain(machine: Machine, authority: Authority) -> None:
    """What comes behind the certificate counts for nothing, up to what OpenSSL reads at all."""
    own = (machine.place / "certificate.pem").read_bytes()
    with serving(machine.server(own + 20 * authority.file.read_bytes())) as port:
        connections.check(machine.known, HOST, port)
    with (
        serving(machine.server(own + 400 * authority.file.read_bytes())) as port,
        pytest.raises(NotAuthentic, match=r"tls\.handshake.*EXCESSIVE_MESSAGE_SIZE"),
    ):
        connections.check(machine.known, HOST, port)


def test_an_answer_that_was_not_accepted_certifies_nothing(machine: Machine) -> None:
    for outcome in (
        replace(machine.answer.outcome, decision="refused"),
        NotAuthentic.of("snp.signature", expected="x", found="y", remedy="z"),
    ):
        machine.answer.outcome = outcome
        assert connections.certified(machine.answer) is None


def test_a_key_that_the_statement_does_not_name(machine: Machine, simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    """The key came from the network beside the evidence; so did the certificates."""
    other = Machine(simulator_pki, tmp_path / "other" / "tls")
    machine.answer.case.pieces["key"], machine.answer.certificates = other.answer.case.pieces["key"], other.answer.certificates
    with pytest.raises(NotAuthentic, match=r"tls\.instance-key"):
        connections.certified(machine.answer)
