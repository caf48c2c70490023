"""The agent's half of the node attestor over a stand-in for a secure processor: `python -m tests.spire.stand_in PKI [ATTACK]`.

The simulator launches and reports in this very process, so nothing here is hardware, and the evidence says so by its TEST root. ATTACK is
one of the simulator's (`evident.simulator.scenario.ATTACKS`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evident.guest.node_attestor import Machine
from evident.guest.source import Evidence, Question
from evident.identity import go_plugin
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario


class StandIn:
    """A source of evidence: a machine of the simulator's, as it was launched, without the channel between."""

    name = "stand-in"

    def __init__(self, machine: Scenario) -> None:
        self._machine = machine
        self._running = machine.start()

    def collect(self, question: Question) -> Evidence:
        report = self._running.guest.report(question.report_data, vmpl=self._machine.vmpl, current_vmpl=self._machine.vmpl)
        return Evidence("snp", {"report": (self._machine.alter(report),), "auxblob": (self._running._table,)}, self.name)


def main(words: list[str]) -> None:
    machine = scenario.good(SimulatorPki.load(Path(words[0])))
    for name in words[1:]:
        machine = scenario.ATTACKS[name].on(machine)
    go_plugin.serve(Machine((StandIn(machine),)).plugin, environment=os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
