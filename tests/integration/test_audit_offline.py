"""A bundle is replayed by a fresh process that has no network at all: the stranger's view."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evident.audit import bundle, keys
from evident.audit.case import Case, decide
from evident.endorsements import pem
from evident.endorsements.fetcher import RecordingFetcher
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

NONCE = bytes(range(32))
GUARD = """
import socket

def _refuse(*args, **kwargs):
    raise AssertionError("the replay opened a socket")

socket.socket.connect = socket.socket.connect_ex = _refuse
socket.getaddrinfo = socket.create_connection = _refuse
"""

Evident = Callable[..., "subprocess.CompletedProcess[str]"]


def _without_network() -> list[str]:
    """A prefix that runs a command in an empty network namespace, where this machine allows that."""
    prefix = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
        return prefix
    return []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, simulator_pki: SimulatorPki) -> Path:
    """Bundles of an honest and of an attacked deployment, the signer's public key and the TEST roots."""
    folder = tmp_path_factory.mktemp("audit")
    key = keys.load_or_create(folder / "theirs", lambda size: b"\x09" * size)
    honest = scenario.good(simulator_pki)
    for name, deployment in (("good", honest), ("bad", scenario.ATTACKS["swap-kernel"].on(honest))):
        context = deployment.context(NONCE)
        case = Case(
            kind="snp",
            pieces=deployment.collect(NONCE),
            at=context.at,
            nonce=NONCE,
            unsafe=context.unsafe,
            policy=deployment.policy,
            references=deployment.reference.values,
        )
        recorded = RecordingFetcher(context.fetcher)
        outcome = decide(case, anchors=context.anchors, fetcher=recorded)
        bundle.write(folder / f"{name}.json", bundle.build(case, recorded, outcome, key))
    (folder / "roots.pem").write_bytes(b"".join(pem.encode(anchor.der, "CERTIFICATE") for anchor in simulator_pki.anchors()))
    (folder / "guard").mkdir()
    (folder / "guard" / "sitecustomize.py").write_text(GUARD)
    return folder


@pytest.fixture
def evident(folder: Path) -> Evident:
    """Run the command in its own process, without a network and with an empty home."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EVIDENT_HOME": str(folder / "home"), "PYTHONPATH": str(folder / "guard")}
        command = [*_without_network(), sys.executable, "-m", "evident", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


THEIRS = ("--signer", "theirs/verifier-key.pub.pem", "--unsafe-simulated-root", "roots.pem")


def test_the_guard_guards(folder: Path, evident: Evident) -> None:
    """Without this, a replay that opened sockets would pass as offline."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "guard")}
    probe = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=False)
    assert "the replay opened a socket" in done.stderr


def test_an_accepted_bundle_holds(evident: Evident) -> None:
    done = evident("audit", "verify", "good.json", *THEIRS)
    assert done.returncode == 0, done.stderr
    assert "The bundle holds" in done.stdout
    assert "SIMULATED" in done.stdout


def test_a_recorded_refusal_holds_and_still_refuses(evident: Evident) -> None:
    done = evident("audit", "verify", "bad.json", *THEIRS, "-o", "json")
    assert done.returncode == 11
    form = json.loads(done.stdout)
    assert (form["decision"], form["code"], form["simulated"]) == ("refused", "launch.kernel", True)


def test_the_page_names_the_bundle(evident: Evident, folder: Path) -> None:
    import hashlib

    done = evident("audit", "verify", "good.json", *THEIRS, "-o", "html")
    assert done.returncode == 0
    assert hashlib.sha256((folder / "good.json").read_bytes()).hexdigest() in done.stdout


@pytest.mark.parametrize(
    ("trust", "code"),
    [
        ((), "bundle.signer-untrusted"),
        (("--signer", "theirs/verifier-key.pub.pem"), "bundle.replay-differs"),
    ],
)
def test_without_the_reader_s_trust_nothing_holds(evident: Evident, trust: tuple[str, ...], code: str) -> None:
    done = evident("audit", "verify", "good.json", *trust, "-o", "json")
    assert done.returncode == 10
    assert json.loads(done.stdout)["code"] == code
    assert "Traceback" not in done.stderr


def test_a_half_written_bundle_is_malformed(evident: Evident, folder: Path) -> None:
    (folder / "half.json").write_bytes((folder / "good.json").read_bytes()[:9000])
    assert evident("audit", "verify", "half.json", *THEIRS).returncode == 30


def test_a_real_root_cannot_be_slipped_in_as_a_test_root(evident: Evident, folder: Path) -> None:
    from evident.endorsements.anchors import production

    real = next(iter(production()))
    (folder / "real.pem").write_bytes(pem.encode(real.der, "CERTIFICATE"))
    done = evident("audit", "verify", "good.json", "--unsafe-simulated-root", "real.pem")
    assert done.returncode == 2
    assert "anchor.not-simulated" in done.stderr


def test_show_decodes_and_never_judges(evident: Evident) -> None:
    for file in ("good.json", "bad.json", "roots.pem"):
        done = evident("show", file)
        assert done.returncode == 0, done.stderr
        assert "nothing was checked" in done.stdout
        assert "verified" not in done.stdout.lower()
    assert json.loads(evident("show", "good.json", "-o", "json").stdout)["decoded_only"] is True
