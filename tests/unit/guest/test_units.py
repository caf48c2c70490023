"""Units: started in their order, and what comes of it when one ends."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from evident.errors import PolicyRefused
from evident.guest import supervise, units
from evident.guest.config import CommandLine, Unit
from evident.guest.console import Console
from evident.guest.listener import Listener
from evident.guest.units import Units

WELL, BADLY = 0, 3 << 8
"""Statuses as wait(2) has them."""
KILLED = 9


class Machine:
    """Units that run on paper, under a clock of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *given: Unit) -> None:
        self.said: list[str] = []
        self.now = 0.0
        self.pids: dict[str, int] = {}
        monkeypatch.setattr(units, "start", self._process)
        self.units = Units(given, self.said.append, clock=lambda: self.now)
        self.units.start()

    def _process(self, unit: Unit, _: int | None = None) -> Any:
        self.pids[unit.name] = 100 + len(self.said)
        return type("Process", (), {"pid": self.pids[unit.name]})()

    def ends(self, name: str, status: int = WELL) -> bool:
        over = self.units.ended(self.pids.pop(name), status)
        self.units.start()
        return over


def unit(name: str, **more: Any) -> Unit:
    return Unit(name, (f"/bin/{name}",), 1000, **more)


def test_what_comes_after_a_one_shot_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, unit("first", on_end="next"), unit("second", on_end="next"), unit("web"), unit("exporter"))
    assert machine.pids.keys() == {"first"}
    machine.ends("first")
    assert machine.pids.keys() == {"second"}
    assert machine.said == ["unit first started: /bin/first", "unit first ended: exit code 0", "unit second started: /bin/second"]
    machine.ends("second")
    assert machine.pids.keys() == {"web", "exporter"}
    assert machine.said[-1] == "every unit started"


@pytest.mark.parametrize(("status", "found"), [(BADLY, "exit code 3"), (KILLED, "signal 9")])
def test_a_one_shot_that_fails_ends_the_boot(monkeypatch: pytest.MonkeyPatch, status: int, found: str) -> None:
    machine = Machine(monkeypatch, unit("first", on_end="next"), unit("web"))
    with pytest.raises(PolicyRefused, match=rf"guest\.unit.*first.*{found}"):
        machine.ends("first", status)
    assert not machine.pids


@pytest.mark.parametrize("status", [WELL, BADLY])
def test_the_end_of_one_is_the_machine_s_or_nobody_s(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    machine = Machine(monkeypatch, unit("helper", on_end="nothing"), unit("web"))
    assert not machine.ends("helper", status)
    assert machine.pids.keys() == {"web"}
    assert machine.ends("web", status)


def test_an_orphan_s_end_is_nobody_s(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, unit("web"))
    assert not machine.units.ended(7, BADLY)
    assert machine.said[1:] == ["every unit started"]


def test_it_is_started_again_after_a_pause_that_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, unit("exporter", on_end="restart"), unit("web"))

    def pause(ran: float) -> float:
        """Seconds until it is started again, having run for so long."""
        machine.now += ran
        assert not machine.ends("exporter", KILLED)
        began = machine.now
        while "exporter" not in machine.pids:
            machine.now += 0.5
            machine.units.start()
        return machine.now - began

    assert [pause(0.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [pause(ran) for ran in (60.0, 0.0, 59.0)] == [1, 2, 4]
    assert "unit exporter ended: signal 9" in machine.said
    assert "web" in machine.pids


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs units of root's under PID 1's supervision, answering challenges or not: what was said."""

    def run(*given: Unit, attest: bool) -> list[str]:
        said: list[str] = []
        supervisor = supervise.Supervisor(Console(said.append), CommandLine("microcvm", "simulated"))
        if not attest:
            supervisor.run(given)
            return said
        with socket.create_server(("127.0.0.1", 0)) as stream:
            monkeypatch.setattr(supervisor, "_listen", lambda: Listener(stream, supervisor._responder.answer))
            supervisor.run(given)
        return said

    return run


@pytest.mark.parametrize("attest", [False, True])
def test_units_really_run_with_the_configured_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervised: Callable[..., list[str]], attest: bool
) -> None:
    monkeypatch.setenv("FROM_THE_KERNEL", "host's words")
    program = f"import os, pathlib; pathlib.Path({str(tmp_path / 'env')!r}).write_text(repr(dict(os.environ)))"
    first = Unit("first", (sys.executable, "-I", "-c", program), 0, {"A": "b"}, on_end="next")
    last = Unit("last", (sys.executable, "-I", "-c", "raise SystemExit(3)"), 0)
    said = supervised(first, last, attest=attest)
    assert [line.removeprefix("evident: ").strip() for line in said] == [
        f"unit first started: {sys.executable}",
        "unit first ended: exit code 0",
        f"unit last started: {sys.executable}",
        "every unit started",
        "unit last ended: exit code 3",
    ]
    seen = ast.literal_eval((tmp_path / "env").read_text())
    assert seen["A"] == "b"
    assert "FROM_THE_KERNEL" not in seen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_user_s_unit_has_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AT-44: no capability, none to be had, no group, any port, and files that nobody else reads."""
    monkeypatch.setattr(units, "SETTINGS", tmp_path)
    for name in units.FOR_USERS:
        (tmp_path / name).parent.mkdir(parents=True)
    with (tmp_path / "out").open("wb") as out, monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", partial(subprocess.Popen, stdout=out))
        assert units.start(Unit("web", ("/usr/bin/env", "cat", "/proc/self/status"), 1001)).wait() == 0
    said = dict(line.split(":\t", 1) for line in (tmp_path / "out").read_text().splitlines())
    assert said["Uid"].split() == said["Gid"].split() == ["1001"] * 4
    assert said["Groups"].split() == []
    assert {said[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
    assert (said["NoNewPrivs"], said["Umask"]) == ("1", "0077")
    assert {name: (tmp_path / name).read_text() for name in units.FOR_USERS} == units.FOR_USERS


def test_a_unit_with_an_svid_is_told_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPIFFE Workload Endpoint, section 4. What the image says of its environment is the last word."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(units.subprocess, "Popen", lambda _, **how: started.append(how["env"]))
    for each in (Unit("web", ("/bin/web",), 0, svid=True), Unit("web", ("/bin/web",), 0)):
        units.start(each)
    assert started == [{"PATH": units.PATH, "SPIFFE_ENDPOINT_SOCKET": "unix:///run/spire/agent.sock"}, {"PATH": units.PATH}]


def test_one_that_belongs_elsewhere_is_started_there_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[tuple[str, int | None]] = []

    def start(unit: Unit, mounts: int | None) -> Any:
        where.append((unit.name, mounts))
        return type("Process", (), {"pid": len(where)})()

    now = [0.0]
    monkeypatch.setattr(units, "start", start)
    running = Units((unit("agent", on_end="restart"), unit("web")), lambda _: None, elsewhere={"agent": 7}, clock=lambda: now[0])
    running.start()
    running.ended(1, KILLED)
    now[0] = units.LEAST_PAUSE
    running.start()
    assert where == [("agent", 7), ("web", None), ("agent", 7)]
