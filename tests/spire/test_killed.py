"""`up` killed by signal 9 between its steps at a real spire-server: the next `up` or `down` finds whatever it had made there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.spire.real import SERVER, Spire

from evident.lifecycle import bring_up
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import Deployment, deployment
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import BySvid, DiskKey
from evident.platforms.driver import Surroundings
from evident.platforms.order import Order
from evident.simulator.pki import SimulatorPki

DISK, NEXT = (f"{digit * 8}-2222-4333-8444-666666666666" for digit in "45")
UP = "import sys; from tests.spire.test_killed import up; up(*sys.argv[1:])"


def target(home: Path) -> Deployment:
    around = Surroundings(home / "state", lambda: datetime.now(UTC), os.urandom, lambda _: None, spire=home / "spire.json")
    return deployment("killed", around)


def up(home: str, disk: str) -> None:
    """A simulated machine, whose entries are real; nobody asks its key server here."""
    key = DiskKey(disk, b"key of the disk " * 4, by_svid=BySvid("example.org", bytes(32)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bring_up, "serve", lambda *_: None)
        bring_up.up(target(Path(home)), "simulated", Order(), release=Release(key, Path(home) / "cache"))


@pytest.fixture
def home(spire: Spire, simulator_pki: SimulatorPki, tmp_path: Path) -> Path:
    simulator_pki.save(tmp_path / "state" / "simulator")
    said = {"trust_domain": spire.trust_domain, "key_server": "spiffe://example.org/k", "workload_socket": "none", "server": spire.address}
    (tmp_path / "spire.json").write_text(json.dumps({"version": 1, **said, "server_socket": str(spire.server_socket)}))
    return tmp_path


def killing(folder: Path, after: int) -> str:
    """A PATH whose `spire-server` is the real one, and ends whoever called it once it has done its work for the `after`-th time."""
    (folder / "count").write_text("0")
    path = folder / SERVER
    lines = (
        "#!/bin/sh",
        f"count=$(($(cat {folder}/count) + 1)); echo $count > {folder}/count",
        f'{shutil.which(SERVER)} "$@"; result=$?',
        f"if [ $count = {after} ]; then kill -9 $PPID; fi",
        "exit $result",
    )
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def there(spire: Spire) -> set[str]:
    shown = json.loads(spire.cli("entry", "show", "-output", "json"))["entries"]
    return {each["id"] for each in shown if each["spiffe_id"]["path"].startswith("/evident/killed/")}


@pytest.mark.parametrize("after", [2, 4, 6])
def test_what_was_made_is_taken_up(spire: Spire, home: Path, tmp_path_factory: pytest.TempPathFactory, after: int) -> None:
    """Before anything is there, with the machine's entry alone, and with both, whose making the process did not live to see."""
    path = killing(tmp_path_factory.mktemp("path"), after)
    ended = subprocess.run((sys.executable, "-c", UP, str(home), DISK), env={**os.environ, "PATH": path}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(there(spire)) == max(0, after // 2 - 1)
    shop = target(home)
    assert shop.journal.state is State.PLANNED, "not launched, as far as anybody knows"
    if after == 4:
        up(str(home), NEXT)
        assert there(spire) == {f"evident-{NEXT}-node", f"evident-{NEXT}-key"}
    down(shop)
    assert there(spire) == set()
