"""A real spire-server takes the configuration that docs/spire.md shows, and starts nothing that it should not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.spire.real import ATTESTOR, SERVER, Spire, free_port, missing, started, wait

from evident.cli import spire_attestor
from evident.simulator.pki import SimulatorPki

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spire.md"


@pytest.fixture
def shown(tmp_path: Path) -> str:
    """The configuration on the page, for this place: another program, other folders, another port."""
    if missing():
        pytest.skip(f"no real SPIRE: {', '.join(missing())} not on PATH (tools/install-spire makes them)")
    program = tmp_path / "evident-spire-attestor"
    program.write_text(f"#!{sys.executable}\n{ATTESTOR}\n")
    program.chmod(0o755)
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    text = PAGE.read_text().split("```hcl\n")[1].split("```")[0]
    for folder in ("/opt/evident/bin", "/etc/spire", "/var/lib/spire", "/run/spire"):
        text = text.replace(folder, str(tmp_path))
    return text.replace('"8081"', f'"{free_port()}"')


def refused(text: str, directory: Path) -> str:
    """What a server says that does not start with this configuration."""
    (directory / "server.conf").write_text(text)
    done = subprocess.run((SERVER, "run", "-config", "server.conf"), cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_the_configuration_that_is_shown_starts(shown: str, tmp_path: Path) -> None:
    (tmp_path / "server.conf").write_text(shown)
    with started((SERVER, "run", "-config", str(tmp_path / "server.conf")), tmp_path / "log") as process:
        wait((tmp_path / "api.sock").exists, "server", process, tmp_path / "log")
    assert re.search(r"Plugin loaded.*plugin_name=evident", (tmp_path / "log").read_text())


def test_the_trial_that_is_shown_takes_a_simulated_machine(shown: str, tmp_path: Path, simulator_pki: SimulatorPki) -> None:
    """With the policy and the arguments that the page has for it."""
    arguments, policy = PAGE.read_text().split("```hcl\n")[2].split("```")[0], PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    simulator_pki.save(tmp_path / "pki")
    (tmp_path / "trial.yaml").write_text(policy)
    words = arguments.replace("/etc/spire", str(tmp_path)).replace("/home/you/.local/state/evident/simulator", str(tmp_path / "pki"))
    (tmp_path / "server.conf").write_text(re.sub(r"plugin_args = .*", words.strip(), shown))
    port = int(re.findall(r'bind_port = "(\d+)"', shown)[0])
    spire = Spire(tmp_path, port)
    with started((SERVER, "run", "-config", str(tmp_path / "server.conf")), tmp_path / "log") as process:
        wait(spire.server_socket.exists, "server", process, tmp_path / "log")
        assert spire.machine().answers()
        spire.close()
    assert re.search(r"msg=attested .*simulated=true", (tmp_path / "log").read_text())


def test_help_shows_the_same_plugin(shown: str) -> None:
    block = re.compile(
        r'NodeAttestor "evident" \{\s+plugin_cmd = "[^"]+"\s+plugin_args = \[("--\w+", "[^"]+"(, )?)+\]\s+plugin_data \{\}\s+\}'
    )
    assert block.search(shown)
    assert block.search(spire_attestor.__doc__ or "")


def test_plugin_data_is_refused_and_says_so(shown: str, tmp_path: Path) -> None:
    assert "spire.plugin-data" in refused(shown.replace("plugin_data {}", "plugin_data { policy = 1 }"), tmp_path)


def test_arguments_that_are_none_stop_the_server(shown: str, tmp_path: Path) -> None:
    assert "--polcy" in refused(shown.replace("--policy", "--polcy"), tmp_path)


@pytest.mark.attack("AT-42", "The program of the plug-in on the server is another one.", "checksums did not match", "refused")
def test_another_program_than_the_owner_named_is_not_started(shown: str, tmp_path: Path) -> None:
    assert "checksums did not match" in refused(
        shown.replace("plugin_data {}", f'plugin_checksum = "{"00" * 32}" plugin_data {{}}'), tmp_path
    )
