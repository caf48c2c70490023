"""Which evidence a simulated VM gives, and how: asked in this process, for the verifier's own challenge.

* ``report``: REPORT_DATA binds the nonce and the guest's key (`evident.evidence.binding`), VMPL 0
* ``auxblob``: the host's certificate table (TEST-VCEK or TEST-VLEK and its chain)
* ``key``: the guest's public key
* ``launch``: what the guest says was launched, believed only where it reproduces the measurement
"""

from __future__ import annotations

from evident.platforms.driver import Collected
from evident.simulator.scenario import Scenario

KIND = "snp"


def collect(running: Scenario, nonce: bytes) -> Collected:
    """The machine's answer to `nonce`."""
    return Collected(KIND, running.collect(nonce))
