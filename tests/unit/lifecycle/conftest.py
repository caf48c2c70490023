"""A state directory with TEST keys in it, a clock, and counted randomness: what the tests of this room bring deployments up in."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from evident.appraisal.policy import Policy
from evident.audit import keys
from evident.endorsements import anchors
from evident.endorsements.fetcher import StaticFetcher
from evident.lifecycle.attest import Answer, Verifier, attest
from evident.lifecycle.deployment import Deployment, deployment, up
from evident.platforms.driver import Surroundings
from evident.platforms.order import Order
from evident.simulator.pki import SimulatorPki


class PowerCut(BaseException):
    """The process ends here."""


class Owner:
    """Whoever runs Evident in a directory of their own, on simulated machines."""

    def __init__(self, state: Path, pki: SimulatorPki) -> None:
        self.state = state
        self.now = pki.made_at + timedelta(days=2)
        self._count = 0
        pki.save(state / "simulator")
        self.surroundings = Surroundings(state, lambda: self.now, self._random, lambda _: None)
        self.key = keys.load_or_create(state, self._random)

    def _random(self, count: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(4, "big").rjust(count, b"\x33")

    def deployment(self, name: str = "shop") -> Deployment:
        return deployment(name, self.surroundings)

    def up(self, name: str = "shop", **order: object) -> Deployment:
        target = self.deployment(name)
        up(target, "simulated", Order(**order))  # type: ignore[arg-type]  # a test's own keywords
        return target

    def attest(self, target: Deployment, policy: Policy | None = None) -> Answer:
        self.now += timedelta(seconds=1)
        return attest(target, Verifier(anchors.production(), StaticFetcher({}), self.key), policy=policy)


@pytest.fixture
def owner(tmp_path: Path, simulator_pki: SimulatorPki) -> Owner:
    return Owner(tmp_path, simulator_pki)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object], int], bool]:
    """Does something until the process has made so many durable writes, and dies at the next one; tells whether it did."""
    fsync = os.fsync

    def run(action: Callable[[], object], survived: int) -> bool:
        left = survived

        def cut(descriptor: int) -> None:
            nonlocal left
            if not left:
                raise PowerCut
            left -= 1
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", cut)
            try:
                action()
            except PowerCut:
                return True
        return False

    return run
