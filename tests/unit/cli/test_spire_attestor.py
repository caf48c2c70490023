"""The program that spire-server's plugin_cmd names: what it is told, and what it says where it cannot start."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from evident import identity
from evident.cli import spire_attestor
from evident.endorsements import pem
from evident.identity import node_attestor
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki


def surety(*words: str) -> node_attestor.Surety:
    parser = argparse.ArgumentParser()
    spire_attestor.configure(parser)
    return spire_attestor._surety(parser.parse_args([*words, "--cache", "unused"]))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line, in the form that SPIRE repeats at its level."""
    out, err = capsys.readouterr()
    assert out == "", "standard output is the plug-in's handshake"
    line = json.loads(err)
    assert line["@level"] == "error"
    message: str = line["@message"]
    return message


def test_without_options_it_takes_genuine_hardware_alone() -> None:
    made = surety()
    assert made.policy == node_attestor.POLICY
    assert not made.policy.allow_simulated
    assert not made.unsafe
    assert not made.references
    assert not any(anchor.simulated for anchor in made.anchors)


def test_everything_can_be_said_by_arguments(tmp_path: Path, simulator_pki: SimulatorPki) -> None:
    from evident.reference_values import documents

    machine = scenario.good(simulator_pki)
    (tmp_path / "policy.json").write_text('{"version": 1, "name": "mine"}')
    (tmp_path / "roots.pem").write_bytes(b"".join(pem.encode(anchor.der, "CERTIFICATE") for anchor in simulator_pki.anchors()))
    (tmp_path / "reference.json").write_bytes(documents.dump(machine.reference))
    words = ("--policy", "policy.json", "--reference", "reference.json", "--unsafe-simulated-root", "roots.pem")
    made = surety(
        *(str(tmp_path / word) if "." in word else word for word in words), "--unsafe-revocation-unknown", "--platform", "aws-snp"
    )
    assert made.policy.name == "mine"
    assert made.references == machine.reference.values
    assert made.unsafe == {"simulated-root", "revocation-unknown"}
    assert any(anchor.simulated for anchor in made.anchors)
    assert made.profile is not None


def test_by_hand_it_says_how_it_is_started(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NodeAttestor", raising=False)
    monkeypatch.setattr(sys, "argv", ["evident-spire-attestor"])
    assert spire_attestor.main() == 2
    assert "spire.not-started-by-spire" in said(capsys)


def test_a_wrong_option_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["evident-spire-attestor", "--polcy", "x"])
    assert spire_attestor.main() == 2
    assert "--polcy" in said(capsys)


def test_without_grpc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("go_plugin", "node_attestor"):
        monkeypatch.delitem(sys.modules, f"evident.identity.{name}", raising=False)
        monkeypatch.delattr(identity, name, raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.setattr(sys, "argv", ["evident-spire-attestor"])
    assert spire_attestor.main() == 2
    assert "evident[spire]" in said(capsys)
