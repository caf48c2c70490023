"""`audit export` records whatever was decided, and `audit verify` and `verify` answer in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evident.cli.main import main
from evident.endorsements import pem
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

NONCE = bytes(range(32))


@pytest.fixture
def words(simulator_pki: SimulatorPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What to put behind the verb: pieces of a simulated machine as files, its TEST roots, a fixed clock, no network."""
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    deployment = scenario.good(simulator_pki)
    roles = []
    for role, contents in deployment.collect(NONCE).items():
        (tmp_path / role).write_bytes(contents[0])
        roles.append(f"{role}={role}")
    (tmp_path / "nonce").write_bytes(NONCE)
    (tmp_path / "roots.pem").write_bytes(b"".join(pem.encode(anchor.der, "CERTIFICATE") for anchor in simulator_pki.anchors()))
    at = deployment.at.isoformat().replace("+00:00", "Z")
    return ["--kind", "snp", *roles, "nonce=nonce", "--at", at, "--offline", "--unsafe-simulated-root", "roots.pem"]


def test_a_refusal_is_exported_and_holds(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The strict policy refuses a simulator; that, too, is worth a record."""
    assert main(["audit", "export", *words, "--out", "bundle.json"]) == 11
    assert "records: refused (policy.simulated)" in capsys.readouterr().err
    assert main(["audit", "verify", "bundle.json", "--unsafe-simulated-root", "roots.pem", "-o", "json"]) == 11
    form = json.loads(capsys.readouterr().out)
    assert (form["code"], form["simulated"]) == ("policy.simulated", True)
    assert set(form["bundle"]) == {"sha256", "signer", "tool", "same_code"}


@pytest.mark.parametrize(
    ("form", "begins"), [("text", "╔"), ("json", "{"), ("html", "<!doctype html>"), ("ear", "eyJ"), ("sarif", "{"), ("junit", "<?xml")]
)
def test_every_form_of_the_answer(words: list[str], capsys: pytest.CaptureFixture[str], form: str, begins: str) -> None:
    assert main(["verify", *words, "--bundle", "bundle.json", "-o", form]) == 11
    first = capsys.readouterr().out
    assert first.startswith(begins)
    assert main(["verify", "bundle.json", "--unsafe-simulated-root", "roots.pem", "-o", form]) == 11
    assert capsys.readouterr().out.startswith(begins)


def test_an_export_needs_a_deployment_or_a_kind(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "export", "report=report", "--out", "bundle.json"]) == 2
    assert main(["audit", "export", "nobody", "--out", "bundle.json"]) == 2
    assert not Path("bundle.json").exists()


def test_a_bundle_that_cannot_be_written_is_a_clear_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["audit", "export", *words, "--out", "file/bundle.json"]) == 2
    assert "bundle.unwritable" in capsys.readouterr().err
