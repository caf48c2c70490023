"""A machine's SSH host key is written for an accepted answer that binds it, where its port is published, and otherwise not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evident.appraisal.appraise import appraise
from evident.errors import NotAuthentic, UsageError
from evident.evidence import binding
from evident.keys.exchange import spki
from evident.lifecycle import logins
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki
from evident.verification import snp

NONCE = bytes(range(32))
OWN, OTHER = (spki(ec.generate_private_key(ec.SECP384R1()).public_key()) for _ in range(2))


def answer(pki: SimulatorPki) -> Any:
    machine = scenario.good(pki)
    running = machine.start()
    pieces = {"report": (running.guest.report(binding.report_data(NONCE, OWN)),), "auxblob": (running._table,), "key": (OWN,)}
    statement = appraise(snp.verify(pieces, machine.context(NONCE)), policy=machine.policy, references=machine.reference.values)
    return SimpleNamespace(outcome=statement, case=SimpleNamespace(pieces=pieces))


def reached(**addresses: str) -> Any:
    """A deployment whose published ports lead there."""
    at = {int(port.removeprefix("port")): address for port, address in addresses.items()}
    return SimpleNamespace(name="shop", machine=Path(), driver=lambda: SimpleNamespace(addresses=lambda _: at))


@pytest.mark.parametrize(("address", "host"), [("127.0.0.1:40022", "[127.0.0.1]:40022"), ("192.0.2.7:22", "192.0.2.7")])
def test_the_line_is_for_where_it_is_reached(simulator_pki: SimulatorPki, tmp_path: Path, address: str, host: str) -> None:
    logins.remember(reached(port22=address, port80="127.0.0.1:1"), answer(simulator_pki), tmp_path / "known_hosts")
    assert (tmp_path / "known_hosts").read_text().startswith(f"{host} ecdsa-sha2-nistp384 ")


def test_nothing_is_written_for_anything_else(simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    known, good = tmp_path / "known_hosts", answer(simulator_pki)
    for outcome in (replace(good.outcome, decision="refused"), NotAuthentic.of("snp.signature", expected="x", found="y", remedy="z")):
        logins.remember(reached(port22="127.0.0.1:2"), SimpleNamespace(outcome=outcome, case=good.case), known)
    with pytest.raises(UsageError, match=r"ssh\.unpublished"):
        logins.remember(reached(), good, known)
    swapped = SimpleNamespace(outcome=good.outcome, case=SimpleNamespace(pieces={**good.case.pieces, "key": (OTHER,)}))
    with pytest.raises(NotAuthentic, match=r"ssh\.host-key"):
        logins.remember(reached(port22="127.0.0.1:2"), swapped, known)
    assert not known.exists()
