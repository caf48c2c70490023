"""An encrypted root in a cloud: its key stays with a key server of this host, which the machine reaches at the address in its document."""

from __future__ import annotations

import http.client
import socket
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.lifecycle.images import an_image, digest

from evident import processes
from evident.errors import PolicyRefused, UsageError
from evident.evidence import disk as partitions
from evident.keys.messages import CHALLENGE, HEALTH, ChallengeRequest, dumps
from evident.lifecycle import disks, farewell, keystore, retire, revoke
from evident.lifecycle.journal import State

CENTURY = timedelta(days=36525)
"""A window that the key server's own clock does not reach."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", HEALTH)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("platform", ["aws"])
def test_the_key_server_is_where_the_document_says(life: Any) -> None:
    port = free_port()
    folder = life.home / "sealed"
    an_image(folder, life.key, name="sealed", at=life.now(), profile="encrypted")
    life.write(image={"path": "sealed", "sha256": digest(folder).hex()}, disks={"root_key": "key-server"}, key_server=f"127.0.0.1:{port}")
    with pytest.raises(PolicyRefused, match=r"plan\.key-server-port"):
        life.up()
    inbound = [{"port": 8442, "peer": "203.0.113.0/24"}]
    life.write(network={"inbound": inbound, "outbound": [{"port": port, "peer": "127.0.0.1/32"}]})
    target = life.up()
    try:
        assert healthy(port)
        disk = keystore.open_store(target.surroundings).volumes.disks_under("shop")
        uploaded = disks.path(target.directory, disk[0]).read_bytes()[: 1 << 20]
        assert disk[0] in {each.guid for each in partitions.read_partition_table(uploaded)[0].partitions}
        line = next(value.command_line for value in target.references.values if value.command_line)
        assert f"evident.verifier=127.0.0.1:{port}" in line
        assert f"evident.key={keystore.open_store(target.surroundings).pin.hex()}" in line
        assert target.journal.state is State.LAUNCHED
        life.up()  # it runs on, and nothing is made again
        assert healthy(port)
        for process in processes.recorded(target.directory):
            process.stop()
        assert not healthy(port)
        life.up()
        assert healthy(port), "it is started again"
    finally:
        farewell.down(target)
    assert not healthy(port)
    assert life.cloud.live() == []


@pytest.mark.parametrize("platform", ["aws"])
def test_an_update_leaves_the_old_machine_its_key_until_the_window_is_over(life: Any) -> None:
    port = free_port()
    network = {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}], "outbound": [{"port": port, "peer": "127.0.0.1/32"}]}
    life.write(disks={"root_key": "key-server"}, key_server=f"127.0.0.1:{port}", network=network)

    def sealed(name: str) -> None:
        an_image(life.home / name, life.key, name=name, at=life.now(), profile="encrypted")
        life.write(image={"path": name, "sha256": digest(life.home / name).hex()})

    sealed("first")
    target = life.up()
    try:
        volumes = keystore.open_store(target.surroundings).volumes
        (old,) = volumes.disks_under("shop")
        sealed("second")
        life.turned = True
        with pytest.raises(PolicyRefused, match=r"update\.kept"):
            life.update(CENTURY)
        assert (volumes.disks_under("shop"), asks(port, old)) == ((old,), True), "it was told of the new machine, and is as before"
        life.turned = False
        life.update(CENTURY)
        (new,) = set(volumes.disks_under("shop")) - {old}
        assert (asks(port, old), asks(port, new)) == (True, True)
        assert disks.made(target.home) == (disks.path(target.home, new),)
        life.later += CENTURY
        retire.finish(target)
        assert volumes.disks_under("shop") == (new,)
        assert (asks(port, old), asks(port, new)) == (False, True)
        assert disks.made(target.directory) == ()
    finally:
        farewell.down(target)
    assert not healthy(port)


@pytest.mark.parametrize("platform", ["aws"])
@pytest.mark.parametrize("way", ["tpm", "key-server"])
def test_a_machine_that_reopens_its_disk_starts_again_without_its_key_server(life: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the key server would have given it is not held against the machine that does not get it."""
    port = free_port()
    network = {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}], "outbound": [{"port": port, "peer": "127.0.0.1/32"}]}
    disks = {"root_key": "key-server", "reopened_by": way}
    an_image(life.home / "sealed", life.key, name="sealed", at=life.now(), profile="encrypted")
    image = {"path": "sealed", "sha256": digest(life.home / "sealed").hex()}
    life.write(image=image, disks=disks, key_server=f"127.0.0.1:{port}", network=network)
    target = life.up()
    try:
        line = next(value.command_line for value in target.references.values if value.command_line)
        assert ("evident.reopened=tpm" in line) == (way == "tpm")
        for process in processes.recorded(target.directory):
            process.stop()
        with socket.create_server(("", port)):  # another program's now
            if way == "tpm":
                assert life.up().journal.state is State.LAUNCHED
                monkeypatch.setattr(type(target.driver()), "settle", refused)
            with pytest.raises(UsageError, match=r"keys\.server"):
                life.up()
        assert target.journal.state is State.LAUNCHED, "it is not quarantined"
        told: list[str] = []
        revoke.revoke(replace(target, surroundings=replace(target.surroundings, progress=told.append)), "a test")
        assert any("its disk opens by its tpm wherever its host starts it again" in text for text in told) == (way == "tpm")
    finally:
        farewell.down(target)


def refused(*_: object) -> None:
    raise PolicyRefused.of("guest.http", expected="an answer", found="none", remedy="Start the key server.")


def asks(port: int, disk: str) -> bool:
    """Whether whoever asks the key server for this disk gets a challenge."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", CHALLENGE, dumps(ChallengeRequest(1, disk)), {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    finally:
        connection.close()
