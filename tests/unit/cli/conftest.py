"""The command line in a home of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evident.cli.main import main
from evident.simulator.pki import SimulatorPki


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], simulator_pki: SimulatorPki
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line; gives exit code, stdout and stderr."""
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    simulator_pki.save(tmp_path / "state" / "simulator")

    def command(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command
