"""Machines attested to a real spire-server by real spire-agents, through Evident's node attestor on both sides (Pontes et al., Fig. 4).

The secure processor under each machine is the simulator's; everything else is what an owner runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.spire.real import Agent, Spire, wait
from tests.tls import Authority

from evident.errors import EvidentError
from evident.identity import selectors, workload_api
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

HERE = f"unix:uid:{os.getuid()}"
ANY, OWN = "spiffe://example.org/any/here", "spiffe://example.org/shop/machine/key"


@pytest.fixture(scope="module")
def registered(spire: Spire, simulator_pki: SimulatorPki) -> Iterator[Spire]:
    """Entries for machines of the owner's launch alone and for a workload on them (BW-05, BW-06), and others for any machine."""
    demanded = selectors.expected(scenario.good(simulator_pki).reference)
    made = [
        spire.entry("/shop/machine", [f"evident:{value}" for value in demanded]),
        spire.entry(OWN, [HERE], parent="/shop/machine"),
        spire.entry("/any", ["evident:kind:snp", "evident:simulated:true"]),
        spire.entry(ANY, [HERE], parent="/any"),
    ]
    yield spire
    for each in made:
        spire.cli("entry", "delete", "-entryID", each)


def agent_id(agent: Agent) -> str:
    found = re.search(r"spiffe://example\.org/spire/agent/evident/[0-9a-f]{32}", agent.log)
    assert found is not None, agent.log
    return found[0]


def test_the_owners_machine_gets_its_identities(registered: Spire) -> None:
    """First the agent's own ID, then what entries add by selectors (SP-16)."""
    machine = registered.machine().answers()
    assert machine.identities(ANY, OWN) == {ANY, OWN}
    assert str(workload_api.fetch(machine.workload_socket, timeout=30).spiffe_id) in (ANY, OWN)
    shown = registered.cli("agent", "show", "-spiffeID", agent_id(machine))
    assert re.search(r"Can re-attest\s*:\s*true", shown)
    assert "evident:simulated:true" in shown, "nothing simulated is presented as hardware"
    assert "evident:level:nominal:1" in shown
    assert "attested" in registered.log


@pytest.mark.attack("BW-05", "The host launches another kernel: the machine is genuine, and gets no identity of the owner's.", "svid.none")
@pytest.mark.parametrize("name", ["swap-kernel", "swap-initrd", "swap-command-line"])
def test_another_machine_gets_no_identity_of_the_owners(registered: Spire, name: str) -> None:
    """It is attested like any other (an entry for any machine shows that), and matches no entry that demands the owner's measurement."""
    assert registered.machine(name).answers().identities() == {ANY}


@pytest.mark.attack("NA-29", "The host alters the report on its way.", "snp.signature", "refused")
def test_altered_evidence_is_denied(registered: Spire) -> None:
    machine = registered.machine("altered-report")
    assert "snp.signature" in machine.says("PermissionDenied")
    assert "snp.signature" in registered.log
    assert not machine.workload_socket.exists()


@pytest.mark.attack("SP-17", "Somebody answers in spire-server's place.", "x509svid: could not verify leaf certificate")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_an_agent_refuses_another_server(registered: Spire, tmp_path: Path, checked: bool) -> None:
    """The bundle is measured with the machine: who is of another authority hears nothing of it. Without one it would trust anybody."""
    machine = registered.machine(bundle=Authority(tmp_path).file.read_text() if checked else "")
    if not checked:
        assert machine.answers()
        return
    assert machine.says("could not verify leaf certificate")
    assert not machine.workload_socket.exists()


def test_a_banned_agent_serves_nobody_any_more(registered: Spire) -> None:
    machine = registered.machine().answers()
    assert OWN in machine.identities(OWN)
    registered.cli("agent", "ban", "-spiffeID", agent_id(machine))
    assert machine.says("banned")
    machine.process.wait(30)
    with pytest.raises(EvidentError, match=r"svid\.unreachable"):
        workload_api.fetch(machine.workload_socket, timeout=30)


def test_a_plug_in_does_not_outlive_an_agent_that_was_killed(registered: Spire) -> None:
    machine = registered.machine().answers()
    of_its_threads = Path(f"/proc/{machine.process.pid}/task").glob("*/children")
    plugins = [Path("/proc", pid) for each in of_its_threads for pid in each.read_text().split()]
    assert plugins
    machine.process.kill()
    machine.process.wait(10)
    wait(lambda: not any(each.exists() for each in plugins), "end of its plug-ins", None, machine.directory / "agent.log")
