"""FetchKey asks one key server and no other, and tells what came of it (BW-12 to BW-14).

The authorities are TEST ones of this process; real machines, agents and SVIDs are in `tests/boot/test_spire.py`.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.svid import TrustDomain

from evident import codec
from evident.errors import NotAuthentic, PolicyRefused
from evident.guest import fetch_key, http
from evident.guest.config import parse_command_line
from evident.identity.workload_api import Svid
from evident.keys import mutual_tls
from evident.keys.messages import KEY, KeyRequest, Refusal, Volume, dumps, loads

DISK = "11111111-2222-3333-4444-555555555555"
TRUST, STRANGERS = TrustDomain(), TrustDomain("example.com")
PINNED = "/evident/key-server"
OWN = TRUST.svid("/evident/shop/machine/1/key")
VOLUME = Volume(1, DISK, bytes(range(64)))


def command_line(port: int) -> str:
    return (
        f"evident.mode=encrypted evident.data={DISK} evident.hashoffset=4096 evident.tee=simulated roothash={'cd' * 32} "
        f"evident.verifier=127.0.0.1:{port} evident.keyserver=spiffe://{TRUST.name}{PINNED} evident.spire=127.0.0.1:8081"
    )


@contextmanager
def serving(shown: Svid, answer: object = VOLUME, status: int = 200) -> Iterator[tuple[int, list[bytes]]]:
    """A key server of the machine's trust domain, or of whatever `shown` is; its port, and what it was asked."""
    asked: list[bytes] = []
    settings = mutual_tls.context(shown)
    settings.load_verify_locations(cadata=TRUST.certificate)

    def serve(listening: socket.socket) -> None:
        with suppress(OSError), listening.accept()[0] as plain, settings.wrap_socket(plain, server_side=True) as stream:
            asked.append(stream.recv(1 << 16))
            body = dumps(answer)
            stream.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        thread.join(10)


def ask(shown: Svid, answer: object = VOLUME, status: int = 200) -> tuple[Volume, list[bytes]]:
    with serving(shown, answer, status) as (port, asked):
        volume = fetch_key.released(parse_command_line(command_line(port)), OWN)
    return volume, asked


def test_the_key_comes_from_the_server_that_is_pinned() -> None:
    volume, (asked,) = ask(TRUST.svid(PINNED))
    path, body = http.parse_request(asked)
    assert (volume, path, loads(KeyRequest, body)) == (VOLUME, KEY, KeyRequest(1, DISK))


def unpinned(trusted: ssl.SSLContext, stream: socket.socket, _: object) -> ssl.SSLSocket:
    return trusted.wrap_socket(stream)


def believing(_: Svid) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    OWN.shown_in(made)
    return made


IMPOSTORS = {
    "another name": TRUST.svid("/evident/shop/machine/2/key"),
    "two names": TRUST.svid(PINNED, uris=[f"spiffe://{TRUST.name}{PINNED}", f"spiffe://{TRUST.name}/other"]),
    "no name": TRUST.svid(PINNED, uris=[]),
}


@pytest.mark.attack("AT-03", "Another workload of the trust domain answers in the key server's place.", "guest.key-server", "refused")
@pytest.mark.parametrize("impostor", IMPOSTORS.values(), ids=IMPOSTORS)
def test_whoever_is_not_pinned_is_asked_nothing(impostor: Svid, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(impostor) as (port, asked), pytest.raises(NotAuthentic, match=r"guest\.key-server"):
        fetch_key.released(parse_command_line(command_line(port)), OWN)
    assert b"POST" not in b"".join(asked)
    monkeypatch.setattr(fetch_key, "handshake", unpinned)
    assert ask(impostor)[0] == VOLUME


@pytest.mark.attack("AT-03", "Another trust domain's authority certifies the key server's name.", "guest.key-server", "refused")
def test_the_name_alone_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    impostor = STRANGERS.svid(PINNED, uris=[f"spiffe://{TRUST.name}{PINNED}"])
    with serving(impostor) as (port, asked), pytest.raises(NotAuthentic, match=r"guest\.key-server.*does not verify"):
        fetch_key.released(parse_command_line(command_line(port)), OWN)
    assert not asked
    monkeypatch.setattr(fetch_key, "handshake", unpinned)
    monkeypatch.setattr(fetch_key, "context", believing)
    assert ask(impostor)[0] == VOLUME


def test_what_is_released_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Volume(1, "another-disk", bytes(64))
    with pytest.raises(NotAuthentic, match=r"guest\.other-disk"):
        ask(TRUST.svid(PINNED), other)
    monkeypatch.setattr(fetch_key, "check_disk", lambda *_: None)
    assert ask(TRUST.svid(PINNED), other)[0] == other


def test_a_refusal_is_told_by_its_codes() -> None:
    with pytest.raises(PolicyRefused, match=r"guest\.denied.*keys\.revoked"):
        ask(TRUST.svid(PINNED), Refusal(1, "refused", ("keys.revoked",)), 403)


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, fetch: Callable[..., Svid]) -> list[Any]:
    with serving(TRUST.svid(PINNED)) as (port, _):
        (tmp_path / "cmdline").write_text(command_line(port))
        monkeypatch.setattr(fetch_key, "COMMAND_LINE", tmp_path / "cmdline")
        monkeypatch.setattr(fetch_key, "fetch", fetch)
        fetch_key.main()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()  # where nobody asked
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_tells_who_it_is_and_what_was_released(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = told(monkeypatch, capsys, tmp_path, lambda *_, **_more: OWN)
    assert said == [{"error": None, "svid": str(OWN.spiffe_id)}, {"error": None, "volume": codec.encode(VOLUME)}]


def test_or_what_went_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def none(*_: object, **_more: object) -> Svid:
        raise PolicyRefused.of("svid.none", expected="x", found="y", remedy="z")

    monkeypatch.setattr(fetch_key, "_PATIENCE", 0)
    (said,) = told(monkeypatch, capsys, tmp_path, none)
    assert (said["error"], said["findings"][0]["code"]) == ("PolicyRefused", "svid.none")


def test_entries_that_are_not_there_yet_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = [PolicyRefused.of("svid.none", expected="x", found="y", remedy="z")]

    def fetch(*_: object, **_more: object) -> Svid:
        if refusals:
            raise refusals.pop()
        return OWN

    monkeypatch.setattr(fetch_key, "fetch", fetch)
    monkeypatch.setattr(fetch_key, "_PAUSE", 0)
    assert fetch_key.identity() == OWN
