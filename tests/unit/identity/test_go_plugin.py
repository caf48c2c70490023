"""A plug-in in a process of its own, asked over its socket as SPIRE asks (messages by hand: the client is not ours either)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest

from evident.identity import go_plugin

SERVICE = "spire.plugin.server.nodeattestor.v1.NodeAttestor"
PROGRAM = f"""
import os
from pathlib import Path
from evident.errors import NotAuthentic
from evident.identity.go_plugin import Plugin, serve

def converse(requests, trust_domain):
    for request in requests:
        if request == b"refuse":
            raise NotAuthentic.of("test.code", expected="secret words", found="", remedy="")
        yield trust_domain.encode() + b":" + request

serve(Plugin("NodeAttestor", "{SERVICE}", "Attest", converse), environment=os.environ, directory=Path(os.environ["PLACE"]))
"""
CONFIGURATION = b"\x0a\x0d\x0a\x0bexample.org"
"""ConfigureRequest {core_configuration {trust_domain: "example.org"}}."""


@dataclass
class Running:
    process: subprocess.Popen[str]
    line: str
    channel: Any

    def call(self, method: str, request: bytes = b"") -> bytes:
        answer: bytes = self.channel.unary_unary(method)(request, timeout=20)
        return answer

    def converse(self, *messages: bytes) -> list[bytes]:
        return list(self.channel.stream_stream(f"/{SERVICE}/Attest")(iter(messages), timeout=20))

    def configure(self, request: bytes = CONFIGURATION) -> bytes:
        return self.call(f"/{go_plugin.CONFIG}/Configure", request)


@contextmanager
def plugin(place: Path, **environment: str) -> Iterator[Running]:
    words = {**os.environ, "PLACE": str(place), "NodeAttestor": "NodeAttestor", **environment}
    with subprocess.Popen((sys.executable, "-c", PROGRAM), env=words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        with grpc.insecure_channel("unix:" + line.split("|")[3]) as channel:
            yield Running(process, line, channel)
            process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with plugin(tmp_path_factory.mktemp("plugin")) as made:
        made.configure()
        yield made


def test_one_line_says_where_it_is_served(running: Running) -> None:
    core, application, network, address, protocol = running.line.rstrip("\n").split("|")
    assert (core, application, network, protocol) == ("1", "1", "unix", "grpc")
    assert Path(address).parent.stat().st_mode & 0o077 == 0, "nobody else may ask it anything"


def test_the_host_finds_what_go_plugin_asks_for(running: Running) -> None:
    assert running.call("/grpc.health.v1.Health/Check", b"\x0a\x06plugin") == b"\x08\x01"


def test_it_ends_with_its_host(tmp_path: Path) -> None:
    with plugin(tmp_path) as running:
        broker = running.channel.stream_stream("/plugin.GRPCBroker/StartStream")(iter(lambda: b"\x08\x01", b""), timeout=0.3)
        with pytest.raises(grpc.RpcError) as caught:
            next(broker)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "its stream stays open"
        assert running.process.wait(20) == 0
        assert not list(tmp_path.iterdir()), "and leaves nothing behind"


def test_it_says_what_it_serves(running: Running) -> None:
    answer = running.call("/spire.service.private.init.v1.Init/Init")
    names = (SERVICE, go_plugin.CONFIG)
    assert answer == b"".join(b"\x0a" + bytes([len(name)]) + name.encode() for name in names)


def test_a_conversation_hears_the_trust_domain(running: Running) -> None:
    assert running.converse(b"one", b"two") == [b"example.org:one", b"example.org:two"]


def test_a_refusal_reaches_the_host_by_its_code_alone(running: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        running.converse(b"refuse")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert caught.value.details() == "test.code"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (CONFIGURATION + b"\x12\x05a = 1", "spire.plugin-data"),
        (b"\x0a\x05\x0a\x03a b", "spiffe.id"),
        (b"\xff", "spire.configuration.protobuf"),
    ],
    ids=["plugin_data", "trust domain", "no message"],
)
def test_what_it_cannot_be_told_is_refused(running: Running, request_: bytes, code: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        running.configure(request_)
    assert code in (caught.value.details() or "")
    answer = running.call(f"/{go_plugin.CONFIG}/Validate", request_)
    assert answer[:1] == b"\x12", "notes, and not valid"
    assert code.encode() in answer
    assert running.call(f"/{go_plugin.CONFIG}/Validate", CONFIGURATION) == b"\x08\x01"
    assert running.converse(b"x") == [b"example.org:x"], "what was told before holds"


def test_nobody_is_attested_before_the_trust_domain_is_known(tmp_path: Path) -> None:
    with plugin(tmp_path) as made, pytest.raises(grpc.RpcError) as caught:
        made.converse(b"x")
    assert caught.value.details() == "spire.order"


@pytest.mark.parametrize("end", ["shutdown", "SIGTERM"])
def test_it_ends_when_it_is_told_and_leaves_nothing(tmp_path: Path, end: str) -> None:
    with plugin(tmp_path) as made:
        made.configure()
        assert len(list(tmp_path.iterdir())) == 1
        made.process.send_signal(2)  # an interrupt is the host's affair
        assert made.converse(b"x") == [b"example.org:x"]
        if end == "shutdown":
            made.call("/plugin.GRPCController/Shutdown")
        else:
            made.process.terminate()
        assert made.process.wait(20) == 0
    assert not list(tmp_path.iterdir())


def test_whoever_stays_silent_is_hung_up_on(tmp_path: Path) -> None:
    program = PROGRAM.replace("serve(", "import evident.identity.go_plugin as g; g.CONVERSATION_SECONDS = 0.2\nserve(")
    words = {**os.environ, "PLACE": str(tmp_path), "NodeAttestor": "NodeAttestor"}
    with subprocess.Popen((sys.executable, "-c", program), env=words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with grpc.insecure_channel("unix:" + process.stdout.readline().split("|")[3]) as channel:
            made = Running(process, "", channel)
            made.configure()
            over = Event()
            silent = iter(over.wait, True)
            with pytest.raises(grpc.RpcError) as caught:
                next(channel.stream_stream(f"/{SERVICE}/Attest")(silent, timeout=20))
            over.set()
            assert caught.value.code() is grpc.StatusCode.CANCELLED
            process.kill()


def test_nobody_but_spire_starts_it() -> None:
    words = {name: value for name, value in os.environ.items() if name != "NodeAttestor"}
    done = subprocess.run((sys.executable, "-c", PROGRAM), env={**words, "PLACE": "/"}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "spire.not-started-by-spire" in done.stderr


def test_the_log_is_in_the_form_that_spire_repeats() -> None:
    line = json.loads(go_plugin.log_line(datetime(2026, 11, 22, 12, tzinfo=UTC), "warn", "denied", codes="snp.signature"))
    assert line == {"@level": "warn", "@message": "denied", "@timestamp": "2026-11-22T12:00:00.000000Z", "codes": "snp.signature"}
