"""Steps 4 to 6 of the SPIRE paper's Fig. 6 with real SPIRE: FetchKey's SVID from the machine's agent, the key server's from its host's.

This process takes FetchKey's part on a stand-in's machine; in an image it has a user and a binary of its own (`tests/boot/test_spire.py`).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.test_release import DISK, KEY, Desk
from tests.spire.real import AGENT, PATIENCE, Agent, Spire

from evident.errors import EvidentError, NotAuthentic
from evident.evidence.protobuf import encode
from evident.guest import fetch_key
from evident.guest.config import CommandLine
from evident.identity import spiffe_id, workload_api
from evident.identity.workload_api import Svid
from evident.keys.server import KeyServer
from evident.keys.store import RootVolume
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

HERE = f"unix:uid:{os.getuid()}"
KEY_SERVER = "spiffe://example.org/evident/key-server"
NODE, OTHER_NODE = "/evident/desk/machine/1", "/evident/desk/machine/2"


@pytest.fixture(scope="module")
def enrolled(spire: Spire, simulator_pki: SimulatorPki) -> Iterator[Spire]:
    """The entries of two machines, of the owner's launch and of another, and of the key server: gone again afterwards."""
    made = [spire.entry(KEY_SERVER, [HERE], parent="/host")]
    good = scenario.good(simulator_pki)
    for node, machine in ((NODE, good), (OTHER_NODE, scenario.ATTACKS["swap-kernel"].on(good))):
        launched = machine.start().guest.measurement.hex()
        made.append(spire.entry(node, ["evident:kind:snp", f"evident:measurement:{launched}"]))
        made.append(spire.entry(f"{node}/key", [HERE], parent=node))
    yield spire
    for each in made:
        spire.cli("entry", "delete", "-entryID", each)


def svid(agent: Agent, path: str) -> Svid:
    """This process's SVID of that name, among those that tests before have entries for."""
    name, deadline = f"spiffe://example.org{path}", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        command = (AGENT, "api", "fetch", "x509", "-socketPath", str(agent.workload_socket), "-output", "json")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for found in json.loads(done.stdout)["svids"] if done.returncode == 0 else ():
            if found["spiffe_id"] == name:
                parts = tuple(base64.b64decode(found[each]) for each in ("x509_svid", "x509_svid_key", "bundle"))
                return workload_api.parse(encode(((1, encode(((1, name.encode()), *enumerate(parts, 2)))),)))
        time.sleep(0.2)
    raise AssertionError(f"no SVID of {name}: {agent.log[-2000:]}")


@pytest.fixture
def desk(tmp_path: Path, simulator_pki: SimulatorPki) -> Desk:
    machine = scenario.good(simulator_pki)
    made = Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))
    made.store(RootVolume(1, DISK, "image", spiffe_id=f"spiffe://example.org{NODE}/key"), KEY)
    return made


@pytest.fixture
def line(desk: Desk, enrolled: Spire) -> Iterator[CommandLine]:
    """The measured command line of a machine, with the key server's address in it."""
    own = svid(enrolled.host_agent(), "/evident/key-server")
    with KeyServer(("127.0.0.1", 0), desk.service, on_event=desk.events.append, tls=lambda: own) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        there = ("127.0.0.1", server.server_address[1])
        yield CommandLine("encrypted", "simulated", verifier=there, key_server=spiffe_id.parse(KEY_SERVER), data=DISK)
        server.shutdown()
        thread.join(5)


def test_the_machine_that_spire_attested_gets_its_key(enrolled: Spire, desk: Desk, line: CommandLine) -> None:
    fetched = svid(enrolled.machine().answers(), f"{NODE}/key")
    assert fetch_key.released(line, fetched).key == KEY
    assert [(entry.event, entry.spiffe_id) for entry in desk.log.entries()] == [("released", f"spiffe://example.org{NODE}/key")]


@pytest.mark.attack(
    "AT-53", "A machine that SPIRE has attested asks with its own SVID for the disk of another one.", "keys.spiffe-id", "refused"
)
def test_another_attested_machine_does_not(enrolled: Spire, desk: Desk, line: CommandLine) -> None:
    fetched = svid(enrolled.machine("swap-kernel").answers(), f"{OTHER_NODE}/key")
    with pytest.raises(EvidentError, match=r"keys\.spiffe-id"):
        fetch_key.released(line, fetched)
    assert [(entry.event, entry.codes) for entry in desk.log.entries()] == [("denied", ("keys.spiffe-id",))]


def test_the_key_server_is_known_by_its_own_svid(enrolled: Spire, desk: Desk, line: CommandLine) -> None:
    """BW-14: whoever answers in its place has an SVID of the trust domain at most, and not that name."""
    fetched = svid(enrolled.machine().answers(), f"{NODE}/key")
    with pytest.raises(NotAuthentic, match=r"guest\.key-server"):
        fetch_key.released(replace(line, key_server=spiffe_id.parse("spiffe://example.org/other")), fetched)
    assert desk.log.entries() == ()
