"""The steps before the disk of a machine that attests by SPIRE: its agent attests it, FetchKey gets an SVID, and with that the disk's key.
Then, where units have SVIDs, the agent that they get those of.

    3 agent   4 node   5 svid   6 release

The agent believes the bundle that is measured with it, and whoever listens at ``evident.spire`` has to have a certificate by it. It is
root's, and FetchKey a user's of its own, whom the agent knows by user, path and digest of the program. Both have ended before the disk is
opened. Nothing of either is on a disk: the agent keeps its keys in its memory, its log and socket are in /run.

The units' agent is another process of the same program, from the same initrd, whose mounts it keeps. It attests the machine anew, and so
does one that takes its place when it ends.

Source: SPIRE 1.13, doc/spire_agent.md; ``pkg/agent/agent.go`` (the Workload API is opened once the node is attested).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evident import codec
from evident.errors import Indeterminate
from evident.guest import apart, libc
from evident.guest.config import CommandLine, Unit
from evident.guest.console import Console
from evident.keys.messages import WHAT, Volume

AGENT, CONFIGURATION = "/usr/bin/spire-agent", "/etc/spire/agent.conf"
PLACE = Path("/run/spire")
SOCKET, LOG = PLACE / "agent.sock", PLACE / "agent.log"
VARIABLE = "SPIFFE_ENDPOINT_SOCKET"
"""By which programs find a Workload API (SPIFFE Workload Endpoint, section 4)."""
FOR_UNITS = "spire-agent"
"""The units' agent, as the console names it; no unit of an image's may be called so."""
FETCH_KEY = ("/usr/bin/python3", "-ISBm", "evident.guest.fetch_key")
FETCHER = 900
"""User and group of FetchKey; units have numbers from 1000."""
_PATIENCE = 300.0
"""Seconds for the machine's attestation; an agent whose server is out of reach gives up sooner."""
_ATTESTED = "Node attestation was successful"


def attest(console: Console, line: CommandLine) -> Volume:
    """Steps 3 to 6: from no identity at all to the disk key and secrets."""
    with console.step("agent"):
        agent = _start(line)
    with _ended(agent):
        with console.step("node"):
            _wait(agent)
            console.say(f"this machine is {_attested(LOG.read_text())}")
        return _fetched(console)


def unit(line: CommandLine) -> Unit:
    """The units' agent, with its place made; what it complains of is for the console. Raises `OSError`."""
    _make_place()
    return Unit(FOR_UNITS, (*_words(line), "-logLevel", "WARN"), 0, on_end="restart")


def _words(line: CommandLine) -> tuple[str, ...]:
    host, port = line.spire
    return (AGENT, "run", "-config", CONFIGURATION, "-serverAddress", host, "-serverPort", str(port))


def _make_place() -> None:
    """Everybody may ask the agent who they are; nobody else reads what it keeps."""
    PLACE.mkdir(mode=0o755)
    (PLACE / "data").mkdir(mode=0o700)


def _start(line: CommandLine) -> subprocess.Popen[bytes]:
    _make_place()
    descriptor = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as log:
        return subprocess.Popen(_words(line), env={}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - ours


@contextmanager
def _ended(agent: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, agent and plug-in are gone afterwards, with their keys; they have nothing to save."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it ended before, and its plug-in with it
            os.killpg(agent.pid, signal.SIGKILL)
        agent.wait()
        shutil.rmtree(PLACE)


def _wait(agent: subprocess.Popen[bytes]) -> None:
    """Until it serves the Workload API; `Indeterminate` ``guest.spire-agent`` with its last error where it does not come to that."""
    deadline = time.monotonic() + _PATIENCE
    while not _listens():
        ended = agent.poll() is not None
        if ended or time.monotonic() >= deadline:
            raise Indeterminate.of(
                "guest.spire-agent",
                expected="this machine attested by its SPIRE agent",
                found=_error(LOG.read_text()) or ("it ended" if ended else f"not within {_PATIENCE:.0f} s"),
                remedy="Read its server's log. It may not be where evident.spire says, or not have a certificate by the image's bundle.",
                layer="identity",
            )
        time.sleep(0.05)


def _listens() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(SOCKET)) == 0


def _lines(log: str) -> Iterator[Mapping[str, Any]]:
    """The agent's log: one JSON object a line, but for what the program says before it has read its configuration."""
    for line in log.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _error(log: str) -> str:
    """The last error that it told of; empty for none."""
    return next((str(line["error"]) for line in reversed([*_lines(log)]) if "error" in line), "")


def _attested(log: str) -> str:
    """The SPIFFE ID that the machine has as an agent."""
    return next((str(line["spiffe_id"]) for line in _lines(log) if line.get("msg") == _ATTESTED), "attested")


def _fetched(console: Console) -> Volume:
    """Steps 5 and 6: FetchKey is nobody but itself, without capabilities, and gets none by running another program."""
    with subprocess.Popen(  # noqa: S603 - our own program
        FETCH_KEY,
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        user=FETCHER,
        group=FETCHER,
        extra_groups=(),
        preexec_fn=libc.no_new_privileges,
    ) as fetcher:
        with console.step("svid"):
            console.say(f"FetchKey, user {FETCHER}, is {_told(fetcher)['svid']}")
        with console.step("release"):
            volume = codec.decode(Volume, _told(fetcher)["volume"], WHAT)
            console.say(f"released for {volume.disk}: " + ", ".join((*(("its key",) if volume.key else ()), *sorted(volume.secrets))))
    return volume


def _told(fetcher: subprocess.Popen[bytes]) -> Mapping[str, Any]:
    """Its next line; raises what it says went wrong, and `RuntimeError` where it says nothing."""
    line = fetcher.stdout.readline() if fetcher.stdout else b""
    said: Mapping[str, Any] = json.loads(line or b"{}")
    apart.raise_told(said)
    return said
