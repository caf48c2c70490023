"""`evident attest --tls` and `--certificate`, as a user types them, of a machine whose workload serves TLS."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.tls import Authority, server, serving

from evident.evidence import binding
from evident.guest import certificate
from evident.keys.exchange import spki
from evident.platforms.driver import Collected
from evident.platforms.simulated import collector
from evident.simulator.scenario import Scenario

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the workload of a machine that is up has its key and certificates; its guest answers as a booted one does."""
    own, place = ec.generate_private_key(ec.SECP384R1()), tmp_path / "tls"
    made, key = certificate.make(own, ["localhost"], os.getuid(), place), spki(own.public_key())

    def collect(running: Scenario, nonce: bytes) -> Collected:
        said = {**running.collect(nonce), "key": (key,)}
        return Collected("snp", {**said, "report": (running.start().guest.report(binding.report_data(nonce, key)),)}, None, made)

    monkeypatch.setattr(collector, "collect", collect)
    assert run("up", "shop", "--platform", "simulated")[0] == 0
    return place


def test_the_machine_and_an_impostor(run: Run, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop.pem"
    with serving(server(place / "certificate.pem", place / "key.pem")) as port:
        code, out, err = run("attest", "shop", "--tls", f"localhost:{port}", "--certificate", str(file), "-o", "json")
        assert (code, json.loads(out)["decision"]) == (0, "accepted")
        assert f"localhost:{port} is the attested machine, by its TLS key sha256//" in err
        client = ssl.create_default_context(cafile=file)
        with socket.create_connection(("127.0.0.1", port)) as stream, client.wrap_socket(stream, server_hostname="localhost") as session:
            assert session.recv(10) == b"served"
    assert file.read_bytes() == (place / "instance.pem").read_bytes()
    file.unlink()
    with serving(Authority(tmp_path).impostor("localhost")) as port:
        code, out, err = run("attest", "shop", "--tls", f"localhost:{port}", "--certificate", str(file), "-o", "json")
    assert (code, [finding["code"] for finding in json.loads(out)["findings"]]) == (10, ["tls.other-key"])
    assert not file.exists()
    assert json.loads(run("status", "-o", "json")[1])["deployments"][0]["state"] == "attested", "the machine did nothing wrong"


def test_nobody_is_asked_before_the_machine_is_accepted(run: Run, place: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("version: 1\nname: mine\n")
    assert place.exists()
    file = tmp_path / "shop.pem"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = f"127.0.0.1:{listening.getsockname()[1]}"
        assert run("attest", "shop", "--policy", "policy.yaml", "--tls", where, "--certificate", str(file))[0] == 11
        listening.settimeout(0)
        with suppress(BlockingIOError):
            pytest.fail(f"asked by {listening.accept()}")
    assert not file.exists()


def test_a_machine_that_serves_none(run: Run, tmp_path: Path) -> None:
    run("up", "plain", "--platform", "simulated")
    code, out, err = run("attest", "plain", "--certificate", str(tmp_path / "plain.pem"))
    assert (code, out) == (12, "")
    assert "tls.no-certificate" in err
    assert not (tmp_path / "plain.pem").exists()


@pytest.mark.parametrize(
    "where",
    ["shop", "shop:", ":443", "shop:0", "shop:65536", "shop:https", "a..b:443", ".shop:443", "::1:443", "https://shop:443", "é:443"],
)
def test_a_place_that_is_none(run: Run, where: str) -> None:
    code, _, err = run("attest", "shop", "--tls", where)
    assert (code, "usage.options" in err) == (2, True)
