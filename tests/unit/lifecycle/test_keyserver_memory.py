"""AT-28 at the key server: it knows the newest revocation list that this machine has seen, also one that it saw itself since it started."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evident.errors import EvidentError
from evident.evidence import cmw
from evident.keys.messages import EvidenceRequest
from evident.lifecycle import keyserver
from evident.lifecycle.keystore import DiskKey
from evident.platforms.driver import Believed
from evident.simulator.kds import KdsFetcher, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki

DISK = "11111111-2222-3333-4444-555555555555"


@pytest.mark.attack("AT-28", "The key server is handed last month's list, after it has seen a newer one.", "crl.replayed")
@pytest.mark.parametrize("remembers", [False, True], ids=["memory off", "memory on"])
def test_an_older_list_than_the_last_opens_no_disk(
    owner: Any, simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch, remembers: bool
) -> None:
    target = owner.up()
    keyserver.register(target, DiskKey(DISK, bytes(64)))
    # TEST roots are left out of the memory, so they stand for production's here.
    trusted = tuple(replace(anchor, simulated=False) for anchor in simulator_pki.anchors())
    kds = SimulatedKds(simulator_pki, clock=lambda: owner.now, mode=Mode(crl_number=9))
    vendor = KdsFetcher(kds, clock=lambda: owner.now)
    monkeypatch.setattr(type(target.driver()), "believed", lambda *_: Believed(trusted, frozenset(), vendor))
    if not remembers:
        monkeypatch.setattr(keyserver, "RememberingFetcher", lambda _cache, inner, _trusted: inner)
    service = keyserver.service(target, target.surroundings.state / "cache")

    def boot() -> None:
        nonce = service.challenge(DISK)
        collected = target.driver().collect(target.machine, nonce)
        form = cmw.encode(cmw.of_pieces(collected.kind, {role: each for role, each in collected.pieces.items() if role != "key"}))
        service.release(EvidenceRequest(1, DISK, nonce, collected.pieces["key"][0], form))

    boot()
    kds.mode = Mode(crl_number=8)
    if not remembers:
        boot()
        return
    with pytest.raises(EvidentError) as replayed:
        boot()
    assert "crl.replayed" in {finding.code for finding in replayed.value.findings}
