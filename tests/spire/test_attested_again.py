"""An agent's SVID is short-lived here: SPIRE has the machine attest again, with a challenge of its own each time (NA-28)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.spire.real import Spire, running, wait

from evident.simulator.pki import SimulatorPki


@pytest.fixture
def hasty(tmp_path: Path, simulator_pki: SimulatorPki) -> Iterator[Spire]:
    """A server whose agents are known for seconds only."""
    yield from running(tmp_path, simulator_pki, 'agent_ttl = "6s"')


@pytest.mark.slow
def test_a_machine_attests_again_before_its_svid_ends(hasty: Spire) -> None:
    machine = hasty.machine().answers()
    wait(lambda: hasty.log.count("msg=attested") >= 3, "third attestation", machine.process, hasty.directory / "server.log")
    assert len(hasty.agents()) == 1, "it is the same agent all the time"
