"""AT-28 at the key server: it knows the newest revocation list that this machine has seen, also one that it saw itself since it started."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.endorsements import crl, intel
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import Fetched
from evident.errors import EvidentError
from evident.evidence import cmw, content
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
        monkeypatch.setattr(keyserver, "remember_crls", lambda *_: None)
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


def test_intels_lists_are_known_by_the_quote_that_names_their_ca(owner: Any, vectors: Any) -> None:
    """Whose list it is stands in the quote alone, so it can only be told together with that."""
    target = owner.up()
    cache, at = target.surroundings.state / "cache", datetime(2025, 10, 1, tzinfo=UTC)
    body = json.loads(vectors.read("tdx/dcap-qvl-near", "collateral.json"))["pck_crl"].encode()
    fetched = {url: Fetched(url, body, at) for url in map(intel.pck_crl_url, ("platform", "processor"))}
    remember = keyserver.service(target, cache)._surety.remember
    remember(fetched, {})
    assert Cache(cache).crl_floors() == {}
    remember(fetched, {"quote": (vectors.read("tdx/dcap-qvl-near", "quote.bin"),)})
    assert list(Cache(cache).crl_floors().values()) == [int(crl.issued(crl.load(content.unhex(body))))]
