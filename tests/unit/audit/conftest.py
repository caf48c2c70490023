"""Simulated deployments, decided on and packed: what the tests of this room damage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import pytest
from tests.conftest import Vectors

from evident.audit import bundle, keys
from evident.audit.case import Case, decide
from evident.endorsements.anchors import AnchorSet, production
from evident.endorsements.fetcher import RecordingFetcher
from evident.reports.json_report import Outcome
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

NONCE = bytes(range(32))


def key_of(name: bytes) -> keys.SigningKey:
    """A signing key that is the same in every run."""
    return keys.generate(lambda size: name.ljust(size, b"\x01"))


@dataclass(frozen=True)
class Packed:
    """A decision with the bundle that records it."""

    case: Case
    recorded: RecordingFetcher
    outcome: Outcome
    key: keys.SigningKey
    anchors: AnchorSet

    @cached_property
    def data(self) -> bytes:
        return bundle.build(self.case, self.recorded, self.outcome, self.key)

    def with_outcome(self, outcome: Outcome) -> Packed:
        """The same record, claiming another result."""
        return dataclasses.replace(self, outcome=outcome)

    def with_case(self, case: Case) -> Packed:
        """The same result, claiming other inputs."""
        return dataclasses.replace(self, case=case)


@pytest.fixture(scope="session")
def pack(simulator_pki: SimulatorPki) -> Callable[..., Packed]:
    """Decide on a simulated deployment, honest or under a named attack, and record it."""

    def make(attack: str | None = None) -> Packed:
        deployment = scenario.good(simulator_pki)
        if attack is not None:
            deployment = scenario.ATTACKS[attack].on(deployment)
        context = deployment.context(NONCE)
        case = Case(
            kind="snp",
            pieces=deployment.collect(NONCE),
            at=context.at,
            nonce=NONCE,
            unsafe=context.unsafe,
            policy=deployment.policy,
            references=deployment.reference.values,
        )
        recorded = RecordingFetcher(context.fetcher)
        outcome = decide(case, anchors=context.anchors, fetcher=recorded)
        return Packed(case, recorded, outcome, key_of(b"verifier"), context.anchors)

    return make


@pytest.fixture(scope="session")
def packed(pack: Callable[..., Packed]) -> Packed:
    """The honest deployment, accepted."""
    return pack()


@pytest.fixture
def tdx_case() -> Callable[[Vectors], tuple[Case, AnchorSet]]:
    """A real TDX quote with all of its collateral."""

    def make(vectors: Vectors) -> tuple[Case, AnchorSet]:
        name = "tdx/dcap-qvl-near"
        facts = vectors.facts(name)
        pieces = {"quote": (vectors.read(name, "quote.bin"),), "collateral": (vectors.read(name, "collateral.json"),)}
        at = datetime.fromisoformat(facts["evaluate_at"])
        return Case("tdx", pieces, at, report_data=bytes.fromhex(facts["report_data"])), production()

    return make
