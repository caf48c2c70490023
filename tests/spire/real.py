"""A real SPIRE server with Evident's node attestor in it, and real SPIRE agents: for every test that talks to one.

`tools/install-spire` makes ``spire-server`` and ``spire-agent``; without them on PATH such a test is skipped, and says so. What is not
real is the machine under an agent: its secure processor is the simulator's, in a helper process (`tests.spire.stand_in`), and the server
takes it because it was told to take the simulator's TEST root.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.simulator.kds import KdsServer, SimulatedKds
from evident.simulator.pki import ROOTS_FILE, SimulatorPki

SERVER, AGENT = "spire-server", "spire-agent"
TRUST_DOMAIN = "example.org"
PATIENCE = 60.0
"""Seconds for a process to come up where the host has other things to do."""
ATTESTOR = "from evident.cli.spire_attestor import main; raise SystemExit(main())"
POLICY = {"version": 1, "name": "spire tests", "allow_simulated": True, "levels": {"nominal": 1, "verifiability": {"root_of_trust": 1}}}


def missing() -> list[str]:
    return [name for name in (SERVER, AGENT) if shutil.which(name) is None]


@dataclass
class Agent:
    """One running spire-agent."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def workload_socket(self) -> Path:
        return self.directory / "agent.sock"

    @property
    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    def answers(self) -> Agent:
        """This agent once its Workload API is there, so after it was attested."""
        wait(self.workload_socket.exists, f"{self.workload_socket}", self.process, self.directory / "agent.log")
        return self

    def identities(self, *wanted: str) -> set[str]:
        """What this process gets of it, as soon as that is there, or all `wanted` are: server's cache and agent's syncs take their time."""
        deadline = time.monotonic() + PATIENCE
        while True:
            command = (AGENT, "api", "fetch", "x509", "-socketPath", str(self.workload_socket), "-output", "json")
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = {svid["spiffe_id"] for svid in json.loads(done.stdout)["svids"]} if done.returncode == 0 else set()
            if (found and found >= set(wanted)) or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def says(self, text: str) -> str:
        """The first line of its log with `text`, as soon as it is there."""
        wait(lambda: text in self.log, text, None, self.directory / "agent.log")
        return next(line for line in self.log.splitlines() if text in line)


@dataclass
class Spire:
    """One server; `address` is where it listens for agents, `server_socket` where its owner speaks to it."""

    directory: Path
    port: int
    trust_domain: str = TRUST_DOMAIN
    _ends: ExitStack = field(default_factory=ExitStack)
    _agents: int = 0
    _host: Agent | None = None

    @property
    def server_socket(self) -> Path:
        return self.directory / "api.sock"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def bundle_pem(self) -> str:
        return self.cli("bundle", "show")

    @property
    def log(self) -> str:
        return (self.directory / "server.log").read_text()

    def cli(self, *words: str) -> str:
        """What ``spire-server`` says to `words`."""
        done = subprocess.run((SERVER, *words, "-socketPath", str(self.server_socket)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def entry(self, spiffe_id: str, selectors: Sequence[str], *, parent: str | None = None) -> str:
        """Register an identity, a path or a whole SPIFFE ID: of a machine where it has no `parent`. Its entry's id."""
        own = ("-node",) if parent is None else ("-parentID", self.named(parent))
        chosen = [word for selector in selectors for word in ("-selector", selector)]
        made = json.loads(self.cli("entry", "create", "-output", "json", "-spiffeID", self.named(spiffe_id), *own, *chosen))
        identifier: str = made["results"][0]["entry"]["id"]
        return identifier

    def named(self, spiffe_id: str) -> str:
        return spiffe_id if spiffe_id.startswith("spiffe://") else f"spiffe://{self.trust_domain}{spiffe_id}"

    def agents(self) -> list[dict[str, object]]:
        """The agents that the server attested."""
        found: list[dict[str, object]] = json.loads(self.cli("agent", "list", "-output", "json"))["agents"]
        return found

    def host_agent(self) -> Agent:
        """An ordinary agent on this host, by join token, with the ID ``/host``: there the key server gets its own SVID. Always the same."""
        if self._host is None:
            token = self.cli("token", "generate", "-spiffeID", self.named("/host")).split()[1]
            self._host = self.agent('NodeAttestor "join_token" { plugin_data {} }', f'join_token = "{token}"').answers()
        return self._host

    def machine(self, *words: str, bundle: str | None = None) -> Agent:
        """An agent on a stand-in for a confidential VM; `words` are `tests.spire.stand_in`'s.

        `bundle` is what it takes for the server's, None the right one; with an empty one it believes the first that answers.
        """
        arguments = json.dumps(["-m", "tests.spire.stand_in", str(self.directory / "pki"), *words])
        return self.agent(f'NodeAttestor "evident" {{ plugin_cmd = "{sys.executable}" plugin_args = {arguments} }}', bundle=bundle)

    def agent(self, attestor: str, more: str = "", *, bundle: str | None = None) -> Agent:
        """A running spire-agent, which may not have been attested yet."""
        self._agents += 1
        directory = self.directory / str(self._agents)
        directory.mkdir()
        (directory / "bundle.pem").write_text(self.bundle_pem if bundle is None else bundle)
        believed = "insecure_bootstrap = true" if bundle == "" else f'trust_bundle_path = "{directory}/bundle.pem"'
        (directory / "agent.conf").write_text(
            f"""agent {{
              data_dir = "{directory}" socket_path = "{directory}/agent.sock" {believed}
              trust_domain = "{self.trust_domain}" server_address = "127.0.0.1" server_port = "{self.port}" log_level = "DEBUG" {more}
              experimental {{ sync_interval = "500ms" }}
            }}
            plugins {{
              KeyManager "memory" {{ plugin_data {{}} }}
              WorkloadAttestor "unix" {{ plugin_data {{ discover_workload_path = true }} }}
              {attestor}
            }}"""
        )
        command = (AGENT, "run", "-config", str(directory / "agent.conf"))
        return Agent(directory, self._ends.enter_context(started(command, directory / "agent.log")))

    def close(self) -> None:
        self._ends.close()


@contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    repository = Path(__file__).resolve().parents[2]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, cwd=repository) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def wait(done: Callable[[], bool], what: str, process: subprocess.Popen[bytes] | None, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        alive = process is None or process.poll() is None
        if not alive or time.monotonic() > deadline:
            pytest.fail(f"no {what}:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
    return port


def running(directory: Path, pki: SimulatorPki, more: str = "") -> Iterator[Spire]:
    """A server that takes machines of the simulator `pki`, until the generator goes on; `more` goes into its configuration."""
    absent = missing()
    if absent:
        pytest.skip(f"no real SPIRE: {', '.join(absent)} not on PATH (tools/install-spire makes them)")
    pki.save(directory / "pki")
    (directory / "policy.json").write_text(json.dumps(POLICY))
    kds = SimulatedKds(pki, clock=lambda: datetime.now(UTC))
    with KdsServer(kds) as server:
        spire = Spire(directory, free_port())
        words = ["--policy", directory / "policy.json", "--cache", directory / "cache", "--kds", server.base_url]
        words += ["--unsafe-simulated-root", directory / "pki" / ROOTS_FILE]
        (directory / "server.conf").write_text(
            f"""server {{
              bind_address = "127.0.0.1" bind_port = "{spire.port}" socket_path = "{spire.server_socket}" data_dir = "{directory}"
              trust_domain = "{TRUST_DOMAIN}" log_level = "DEBUG" ratelimit {{ attestation = false }} {more}
              experimental {{ cache_reload_interval = "500ms" }}
            }}
            plugins {{
              DataStore "sql" {{ plugin_data {{ database_type = "sqlite3" connection_string = "{directory}/datastore.sqlite3" }} }}
              KeyManager "memory" {{ plugin_data {{}} }}
              NodeAttestor "evident" {{
                plugin_cmd = "{sys.executable}" plugin_args = {json.dumps(["-c", ATTESTOR, *map(str, words)])} plugin_data {{}}
              }}
            }}"""
        )
        command = (SERVER, "run", "-config", str(directory / "server.conf"))
        with started(command, directory / "server.log") as process:
            wait(spire.server_socket.exists, SERVER, process, directory / "server.log")
            try:
                yield spire
            finally:
                spire.close()
