"""AT-28 at the command line: a revocation list that is older than one this machine has seen is a replay, also in another process's run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evident.cli import case
from evident.cli.main import main
from evident.endorsements.anchors import AnchorSet
from evident.simulator.kds import KdsServer, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import good

NONCE = bytes(range(32))


@pytest.mark.attack("AT-28", "The key service hands out last month's list, after this machine has seen a newer one.", "crl.replayed")
@pytest.mark.parametrize("remembers", [False, True], ids=["memory off", "memory on"])
def test_the_highest_number_is_remembered(
    simulator_pki: SimulatorPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], remembers: bool
) -> None:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    # TEST roots are left out of the memory, so they stand for production's here.
    trusted = AnchorSet([replace(anchor, simulated=False) for anchor in simulator_pki.anchors()])
    monkeypatch.setattr(case, "trusted_anchors", lambda _: trusted)
    if not remembers:
        monkeypatch.setattr(case, "remember_crls", lambda *_: None)
    deployment = good(simulator_pki)
    words = []
    for role, (content,) in {**deployment.collect(NONCE), "nonce": (NONCE,)}.items():
        path = tmp_path / role
        path.write_bytes(content)
        words.append(f"{role}={path}")

    def verify(number: int) -> tuple[int, dict[str, Any]]:
        service = SimulatedKds(simulator_pki, clock=lambda: deployment.at, mode=Mode(crl_number=number))
        with KdsServer(service) as server:  # another port, so another entry of the cache
            code = main(
                ["verify", "--kind", "snp", "--at", f"{deployment.at:%Y-%m-%dT%H:%M:%SZ}", "--kds", server.base_url, "-o", "json", *words]
            )
        return code, json.loads(capsys.readouterr().out)

    code, answer = verify(9)
    assert (code, answer["authentic"], answer["revocation"]) == (12, True, "good")
    code, answer = verify(8)
    if remembers:
        assert code == 10
        assert "crl.replayed" in {finding["code"] for finding in answer["findings"]}
    else:
        assert (code, answer["revocation"]) == (12, "good")
