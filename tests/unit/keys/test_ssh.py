"""known_hosts is written for an attested key alone; another one's line is shown being written with the check off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from evident.appraisal.appraise import appraise
from evident.errors import Malformed, NotAuthentic, PolicyRefused
from evident.evidence import binding
from evident.keys import ssh
from evident.keys.exchange import spki
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.verification import snp

NONCE = bytes(range(32))


def attested(machine: Scenario, key: bytes, owner: Scenario) -> tuple[Any, bytes | None]:
    """Statement and bound key of a machine that has its host key bound into a report."""
    running = machine.start()
    pieces = {"report": (running.guest.report(binding.report_data(NONCE, key)),), "auxblob": (running._table,), "key": (key,)}
    verified = snp.verify(pieces, machine.context(NONCE))
    return appraise(verified, policy=owner.policy, references=owner.reference.values), verified.facts.bound_key


@pytest.fixture(scope="module")
def machine(simulator_pki: SimulatorPki) -> Scenario:
    return scenario.good(simulator_pki)


def test_the_attested_host_key_is_remembered(machine: Scenario, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    statement, bound = attested(machine, spki(key), machine)
    line = ssh.known_hosts_line("[127.0.0.1]:2222", spki(key), statement, bound)
    host, kind, text = line.split(" ")
    assert (host, kind) == ("[127.0.0.1]:2222", "ecdsa-sha2-nistp384")
    assert load_ssh_public_key(f"{kind} {text}".encode()).public_numbers() == key.public_numbers()  # type: ignore[union-attr]
    file = tmp_path / "known_hosts"
    file.write_text("other ssh-ed25519 AAAA\n[127.0.0.1]:2222 ecdsa-sha2-nistp384 OLD\n")
    ssh.remember(file, line)
    assert file.read_text().splitlines() == ["other ssh-ed25519 AAAA", line]


@pytest.mark.attack("SG-02", "The host answers with an SSH host key of its own.", "ssh.host-key")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_swapped_host_key(machine: Scenario, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    own, swapped = (spki(ec.generate_private_key(ec.SECP384R1()).public_key()) for _ in range(2))
    statement, bound = attested(machine, own, machine)
    if not checked:
        monkeypatch.setattr(ssh, "check_bound", lambda *_: None)
        assert ssh.known_hosts_line("vm", swapped, statement, bound)
        return
    for claimed in (bound, None):
        with pytest.raises(NotAuthentic, match=r"ssh\.host-key"):
            ssh.known_hosts_line("vm", swapped, statement, claimed)


def test_a_refused_machine_is_not_remembered(machine: Scenario) -> None:
    key = spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    statement, bound = attested(scenario.ATTACKS["swap-kernel"].on(machine), key, machine)
    with pytest.raises(PolicyRefused):
        ssh.known_hosts_line("vm", key, statement, bound)


@pytest.mark.parametrize("host", ["", "a b", "a,b", "*", "vm\nother", "@revoked"])
def test_one_plain_host_is_named(machine: Scenario, host: str) -> None:
    key = spki(ec.generate_private_key(ec.SECP384R1()).public_key())
    statement, bound = attested(machine, key, machine)
    with pytest.raises(Malformed, match=r"ssh\.host"):
        ssh.known_hosts_line(host, key, statement, bound)
