"""Shared fixtures: the vectors of real evidence, wherever they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from evident.simulator.pki import SimulatorPki

if TYPE_CHECKING:
    from tests.spire.real import Spire

REPOSITORY = Path(__file__).resolve().parent.parent
VECTORS = Path(os.environ.get("EVIDENT_VECTORS", REPOSITORY.parent / "shared" / "vectors"))

# Every fuzz harness takes its count from here, so that one variable turns a short run into a long one.
settings.register_profile(
    "evident",
    max_examples=int(os.environ.get("EVIDENT_FUZZ_EXAMPLES", "200")),
    deadline=None,
    derandomize="EVIDENT_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
settings.load_profile("evident")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes by their length: ids must be the same in every worker, and what a compressor or a key made need not be."""
    return f"{len(val)}B" if isinstance(val, bytes) else None


class Vectors:
    """Cases of the manifest by path, and their files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        entries = json.loads((root / "manifest.json").read_text())["entries"]
        self.cases: dict[str, dict[str, Any]] = {entry["path"]: entry for entry in entries}

    def read(self, case: str, name: str) -> bytes:
        return (self.root / case / name).read_bytes()

    def facts(self, case: str) -> dict[str, Any]:
        facts: dict[str, Any] = self.cases[case]["facts"]
        return facts


def vector_cases(prefix: str) -> list[str]:
    """Case paths below `prefix` for parametrisation; one skipping placeholder where the vectors are absent."""
    if not (VECTORS / "manifest.json").is_file():
        return ["absent"]
    return [case for case in Vectors(VECTORS).cases if case.startswith(prefix)]


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    if not (VECTORS / "manifest.json").is_file():
        pytest.skip(f"no vectors of real evidence at {VECTORS} (set EVIDENT_VECTORS)")
    return Vectors(VECTORS)


@pytest.fixture(scope="session")
def simulator_pki(pytestconfig: pytest.Config) -> SimulatorPki:
    """TEST roots of the simulator, valid from 2026-05-31: made once and kept in pytest's cache, for RSA-4096 keys take seconds."""
    return SimulatorPki.load_or_generate(pytestconfig.cache.mkdir("simulator-pki"), made_at=datetime(2026, 6, 1, tzinfo=UTC))


@pytest.fixture(scope="session")
def spire(tmp_path_factory: pytest.TempPathFactory, simulator_pki: SimulatorPki) -> Iterator[Spire]:
    """A real SPIRE server that takes machines of `simulator_pki`; skipped, saying so, where there is none on PATH."""
    from tests.spire.real import running

    yield from running(tmp_path_factory.mktemp("spire"), simulator_pki)
