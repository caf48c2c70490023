"""An apply fails when attestation does: the `external` protocol, and the examples, applied to simulated machines."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evident.cli.main import VERBS, main
from evident.simulator.pki import SimulatorPki

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TOOLS = ("terraform", "tofu")
_COMMAND = re.compile(r"\bevident +[a-z]+ .*")

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
Evident = Callable[..., tuple[int, str]]


@pytest.fixture
def shell(tmp_path: Path, simulator_pki: SimulatorPki, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs a program as another program would, with `evident` on its path and a home of its own."""
    simulator_pki.save(tmp_path / "state" / "simulator")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "evident").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m evident.cli.main "$@"\n')
    (programs / "evident").chmod(0o755)
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)

    def run(*words: str, stdin: str = "", cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, cwd=cwd)

    return run


@pytest.fixture
def evident(shell: Shell, capsys: pytest.CaptureFixture[str]) -> Evident:
    """`evident` in this very process, where what is tested is not how it is run: exit code and standard output."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(list(words)), capsys.readouterr().out

    return run


class ProgramFailed(Exception):
    """The data source shows the user this."""


def data_source(shell: Shell, *program: str, query: dict[str, str] | None = None) -> dict[str, str]:
    """What hashicorp/external makes of a program: query on stdin, exit code, and a map of strings on stdout."""
    ended = shell(*program, stdin=json.dumps(query or {}))
    if ended.returncode:
        assert ended.stderr.strip(), "a human-readable message belongs on standard error"
        raise ProgramFailed(ended.stderr)
    result = json.loads(ended.stdout)
    assert isinstance(result, dict)
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in result.items())
    return result


def documented() -> set[str]:
    page = (EXAMPLES.parent / "docs" / "infrastructure-as-code.md").read_text()
    table = page[page.index("| key | value |") :].split("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])}


def test_the_external_protocol(shell: Shell, evident: Evident) -> None:
    for name, attack, ends in (("good", (), 0), ("bad", ("--attack", "swap-kernel"), 11)):
        assert evident("up", name, "--platform", "simulated", *attack)[0] == ends
    found = data_source(shell, "evident", "attest", "good", "-o", "external", query={"unused": "x" * 100_000})
    assert (found["decision"], found["nominal"], found["trustworthy"], found["simulated"]) == ("accepted", "4", "4", "true")
    assert re.fullmatch("[0-9a-f]{64}", found["bundle_sha256"])
    assert "Evident simulator" in found["trusted_parties"].split(",")
    assert set(found) == documented()
    with pytest.raises(ProgramFailed, match=r"launch\.kernel"):
        data_source(shell, "evident", "attest", "bad", "-o", "external")
    with pytest.raises(ProgramFailed, match=r"deployment\.unknown|deployment\.not-running"):
        data_source(shell, "evident", "attest", "ghost", "-o", "external")


@pytest.mark.parametrize("name", ["terraform/main.tf", "terraform-external/main.tf", "pulumi/__main__.py"])
def test_the_commands_in_the_examples_exist(name: str) -> None:
    plain = re.sub(r"\$\{[a-z.]*\}|\{name\}|var\.name", "shop", (EXAMPLES / name).read_text())
    commands = [found[0] for line in plain.splitlines() if (found := _COMMAND.search(re.sub(r'["`,\[\]()]+', " ", line)))]
    assert commands
    for command in commands:
        words = shlex.split(re.split(r" (?:<|delete=|which) ?", command)[0])
        assert words[1] in VERBS, command
        parser = argparse.ArgumentParser()
        importlib.import_module(f"evident.cli.{words[1]}").configure(parser)
        known = {option for action in parser._actions for option in action.option_strings}
        assert {word for word in words[2:] if word.startswith("-")} <= known, command


@pytest.mark.parametrize("tool", TOOLS)
def test_the_examples_are_well_formed(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    for folder in ("terraform", "terraform-external"):
        ended = subprocess.run([tool, "fmt", "-check", "-diff", str(EXAMPLES / folder)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_an_apply_fails_when_attestation_does(shell: Shell, tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    shutil.copytree(EXAMPLES / "terraform", tmp_path / "module")

    def applied(command: str) -> subprocess.CompletedProcess[str]:
        up = "evident up shop --platform simulated"
        return shell(tool, command, "-no-color", "-auto-approve", "-var", "name=shop", "-var", f"up={up}", cwd=tmp_path / "module")

    initialised = shell(tool, "init", "-no-color", cwd=tmp_path / "module")
    assert initialised.returncode == 0, initialised.stderr
    accepted = applied("apply")
    assert accepted.returncode == 0, accepted.stderr
    assert "3 added" in accepted.stdout
    machine = tmp_path / "state" / "deployments" / "shop" / "machine" / "machine.json"
    machine.write_text(machine.read_text().replace('"attack": null', '"attack": "debug"'))
    refused = applied("apply")
    assert refused.returncode == 1
    assert "exit status 11" in refused.stderr
    assert applied("destroy").returncode == 0
    assert (tmp_path / "state" / "deployments" / "shop" / "farewell-1.json").exists()


def test_pulumi_up_fails_when_attestation_does(evident: Evident, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program itself, over a stand-in for its two packages: a command that does not end with 0 fails its resource."""
    settings = {"name": "good", "up": "evident up good --platform simulated"}
    exported: dict[str, Any] = {}

    class Output:
        def __init__(self, text: str) -> None:
            self.text = text

        def apply(self, change: Callable[[str], Any]) -> Any:
            return change(self.text)

    class Command:
        def __init__(self, name: str, *, create: str, delete: str = "true", **_: Any) -> None:
            code, text = evident(*shlex.split(create.partition("<")[0])[1:])
            if code:
                raise ProgramFailed(f"{name}: exit status {code}")
            self.id, self.stdout, self.delete = name, Output(text), delete

    config = types.SimpleNamespace(require=settings.__getitem__)
    fake = types.SimpleNamespace(Config=lambda: config, ResourceOptions=lambda **_: None, export=exported.__setitem__)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setitem(sys.modules, "pulumi", fake)  # type: ignore[arg-type]  # a namespace will do
    monkeypatch.setitem(sys.modules, "pulumi_command", types.SimpleNamespace(local=types.SimpleNamespace(Command=Command)))  # type: ignore[arg-type]  # likewise
    runpy.run_path(str(EXAMPLES / "pulumi" / "__main__.py"))
    assert exported["trustworthy"] == "4"
    settings |= {"name": "bad", "up": "evident up bad --platform simulated --attack swap-kernel"}
    with pytest.raises(ProgramFailed, match="machine: exit status 11"):
        runpy.run_path(str(EXAMPLES / "pulumi" / "__main__.py"))
    settings |= {"up": "evident status bad"}  # it was made by an apply before
    with pytest.raises(ProgramFailed, match="attested: exit status 11"):
        runpy.run_path(str(EXAMPLES / "pulumi" / "__main__.py"))
