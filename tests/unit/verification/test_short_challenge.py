"""A nonce that can be guessed: evidence that answers it may have been collected before it was sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Freshness, Policy
from evident.appraisal.statement import TrustStatement
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import good
from evident.verification import kinds
from evident.verification.kinds import LEAST_CHALLENGE

POLICY = Policy(1, allow_simulated=True)


def answered(pki: SimulatorPki, nonce: bytes, policy: Policy = POLICY, *unsafe: str) -> TrustStatement:
    machine = good(pki)
    pieces = {**machine.collect(nonce), "nonce": (nonce,)}
    context = machine.context(None, unsafe=frozenset({"simulated-root", *unsafe}))
    return appraise(kinds.verify("snp", pieces, context), policy=policy, references=machine.reference.values)


@pytest.mark.attack("AT-05", "The host has an answer ready for each of the few nonces that the verifier sends.", "challenge.short")
def test_an_answer_to_a_short_nonce_is_not_fresh(simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch) -> None:
    guessable = bytes(LEAST_CHALLENGE - 1)
    found = answered(simulator_pki, guessable)
    assert (found.decision, "challenge.short" in {each.code for each in found.findings}) == ("indeterminate", True)
    monkeypatch.setattr(kinds, "LEAST_CHALLENGE", 1)
    assert answered(simulator_pki, guessable).decision == "accepted", "with just this check off"


def test_sixteen_bytes_are_enough(simulator_pki: SimulatorPki) -> None:
    assert answered(simulator_pki, bytes(LEAST_CHALLENGE)).decision == "accepted"


def test_who_needs_no_challenge_takes_a_short_one(simulator_pki: SimulatorPki) -> None:
    assert answered(simulator_pki, b"short", replace(POLICY, freshness=Freshness(require_challenge=False))).decision == "accepted"
    waived = answered(simulator_pki, b"short", POLICY, "no-challenge")
    assert waived.decision == "accepted"
    assert "no-challenge" in waived.unsafe
