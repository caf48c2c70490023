"""kill -9 of the launcher at 50 random moments (200 with `make lives`), and of the key server at 10: nothing leaks, nothing is lost.

The machine is real (attendant, swtpm, QEMU) and stays before its first instruction, so that a launch takes a second.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evident import processes
from evident.keys.messages import CHALLENGE, ChallengeReply, ChallengeRequest, dumps, loads
from evident.lifecycle import keyserver, keystore
from evident.lifecycle.deployment import Deployment, up
from evident.lifecycle.farewell import down
from evident.lifecycle.keystore import DiskKey
from evident.platforms.driver import PORT_FILE
from evident.platforms.order import Order
from evident.platforms.qemu import launch, probe
from evident.platforms.qemu.probe import Probed

MOMENTS = 50
ROUNDS = 10
DISK = "11111111-2222-3333-4444-555555555555"
Named = Callable[[str], Deployment]


@pytest.fixture(autouse=True)
def paused(monkeypatch: pytest.MonkeyPatch) -> None:
    described = launch.described
    monkeypatch.setattr(launch, "described", lambda ordered: replace(described(ordered), paused=True, memory_mib=64))
    monkeypatch.setattr(probe, "kvm", lambda _machine, _image: Probed(False, "not asked"))


@pytest.fixture
def launch_seconds(named: Named) -> float:
    """How long a launch takes here and now, at least."""
    began = time.monotonic()
    up(named("undisturbed"), "qemu", Order())
    took = time.monotonic() - began
    assert down(named("undisturbed"))
    return took


def inside(directory: Path) -> list[int]:
    """Every process of this host whose working directory lies in `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").readlink().is_relative_to(directory):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def launched_and_killed(desk: Deployment, after: float) -> None:
    child = os.fork()
    if not child:
        try:
            up(desk, "qemu", Order())
        finally:
            os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, *(pytest.param(seed, marks=pytest.mark.life) for seed in (6, 7, 8))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads: the child is killed, whatever it does
def test_kill_9_at_random_moments_neither_leaks_nor_loses(
    named: Named, launch_seconds: float, eventually: Callable[..., None], tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    states: list[str] = []
    for number in range(MOMENTS):
        desk = named(f"desk-{number}")
        launched_and_killed(desk, moments.uniform(0, 1.3 * launch_seconds))
        state = desk.journal.state
        states.append(str(state))
        if state is None:
            assert not desk.machine.exists(), "something was made before it was journalled"
            continue
        # Whatever runs is on record; a shell that waits at the gate sees its launcher gone.
        records = processes.recorded(desk.machine) if desk.machine.exists() else ()
        known = {process.pid for process in records}
        eventually(lambda known=known: set(inside(tmp_path)) <= known, "the end of what is not on record", seconds=10)
        assert down(desk)
        assert not any(process.alive for process in records)
        assert not desk.machine.exists()
        assert not inside(tmp_path)
    assert {"planned", "launched"} <= set(states), f"the moments miss a phase: {states}"


def test_after_a_kill_the_same_name_comes_up_again(named: Named, launch_seconds: float, tmp_path: Path) -> None:
    desk = named("desk")
    launched_and_killed(desk, launch_seconds / 2)
    up(desk, "qemu", Order()) if desk.journal.state != "launched" else None
    assert desk.driver().parts(desk.machine) == {"attendant": True, "qemu": True, "swtpm": True}
    down(desk)
    assert not inside(tmp_path)


@pytest.mark.slow
def test_kill_9_of_the_key_server_loses_no_challenge_and_no_line(named: Named, tmp_path: Path) -> None:
    """Every challenge that it gave is on record, the log's chain holds whatever was torn, and it starts again."""
    desk, moments = named("desk"), random.Random(7)
    up(desk, "simulated", Order())
    keyserver.register(desk, DiskKey(DISK, bytes(64)))
    log, given = keystore.open_store(desk.surroundings).log, 0
    for _ in range(ROUNDS):
        server = keyserver.begin(desk, tmp_path / "cache")
        nonces: list[bytes] = []
        asking = threading.Thread(target=ask_until_it_ends, args=(int((desk.machine / PORT_FILE).read_text()), nonces))
        asking.start()
        time.sleep(moments.uniform(0, 0.3))
        os.kill(server.pid, signal.SIGKILL)
        asking.join()
        assert server.wait(5)
        digests = {hashlib.sha256(nonce).hexdigest() for nonce in nonces}
        assert digests <= {entry.challenge for entry in log.entries()}
        assert digests <= {path.stem for path in (desk.surroundings.state / "challenges").glob("*.open")}
        given += len(nonces)
    assert given > ROUNDS, "it was killed before it did anything"
    assert down(desk)
    assert not inside(tmp_path)


def ask_until_it_ends(port: int, nonces: list[bytes]) -> None:
    while True:
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            server.request("POST", CHALLENGE, dumps(ChallengeRequest(1, DISK)))
            answer = server.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return
        finally:
            server.close()
        if answer.status != 200:
            return  # as often as it may
        nonces.append(loads(ChallengeReply, body).nonce)


def test_a_process_id_given_to_another_process_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    mine = processes.start(tmp_path / "a", "sleeper", ("sleep", "60"))
    for changed in (replace(mine, started=mine.started + 1), replace(mine, boot="another boot"), replace(mine, command=bytes(32))):
        assert not changed.alive
        changed.stop()
        assert mine.alive
    mine.stop()
    assert not mine.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the child is nobody's on purpose
def test_a_launcher_that_dies_before_the_record_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "write_private", crash)
    with pytest.raises(KeyboardInterrupt):
        processes.start(tmp_path, "sleeper", ("sleep", "60"))
    deadline = time.monotonic() + 5
    while inside(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in inside(tmp_path) if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]
