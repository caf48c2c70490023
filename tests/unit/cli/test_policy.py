"""`evident policy`: files that can be used, warnings for those that let much pass, and trials over bundles."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evident import codec
from evident.appraisal.policy import STRICT, Deny, Freshness, Policy, RequiredLevels, RevocationRule, TechnologyRules
from evident.appraisal.policy_lint import lint
from evident.audit import bundle, keys
from evident.audit.case import Case, decide
from evident.cli.documents import parse_document
from evident.cli.main import main
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import RecordingFetcher
from evident.errors import Malformed
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

DOCS = Path(__file__).resolve().parents[3] / "docs"


def write(path: Path, policy: Policy) -> str:
    path.write_text(json.dumps(codec.encode(policy)))
    return str(path)


def test_lint_of_the_strict_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "lint", write(tmp_path / "p.json", STRICT), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is True
    assert {warning["code"] for warning in found["warnings"]} == {"policy.kernel-not-demanded", "policy.no-minimum-tcb"}


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (replace(STRICT, allow_debug=True), "policy.allow-debug"),
        (replace(STRICT, allow_migration=True), "policy.allow-migration"),
        (replace(STRICT, allow_simulated=True), "policy.allow-simulated"),
        (replace(STRICT, revocation=RevocationRule("accept-unsafe")), "policy.revocation-unknown"),
        (replace(STRICT, freshness=Freshness(require_challenge=False)), "policy.no-challenge"),
        (replace(STRICT, freshness=Freshness(accept_per_boot=True)), "policy.per-boot"),
        (replace(STRICT, levels=RequiredLevels(nominal=1)), "policy.low-level"),
        (replace(STRICT, levels=RequiredLevels(verifiability={})), "policy.first-sight"),
        (replace(STRICT, forbidden_command_line=()), "policy.command-line"),
        (replace(STRICT, migration_agents=("xyz",)), "policy.not-hex"),
        (replace(STRICT, allowed_identities={"hwid": ("aa",)}, deny=Deny({"hwid": ("AA",)})), "policy.allowed-and-denied"),
        (replace(STRICT, allowed_identities={"hwid": ()}), "policy.nobody-allowed"),
        (replace(STRICT, deny=Deny({"hw_id": ("aa",)})), "policy.unknown-identity"),
        (replace(STRICT, technologies={"sev": TechnologyRules()}), "policy.unknown-technology"),
        (replace(STRICT, technologies={"snp": TechnologyRules(registers={"host_data": ("0x00",)})}), "policy.not-hex"),
    ],
)
def test_every_unsafe_choice_is_warned_of(policy: Policy, code: str) -> None:
    assert code in {warning.code for warning in lint(policy)}
    assert code not in {warning.code for warning in lint(STRICT)}


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"version": 1, "allow_debg": True}, "policy.unknown-key"),
        ({"version": 2}, "policy.type"),
        ({}, "policy.missing-key"),
        ({"version": 1, "levels": {"nominal": 5}}, "policy.levels"),
        ({"version": 1, "levels": {"verifiability": {"kernel": 2}}}, "policy.levels.layer"),
        ({"version": 1, "deny": {"tcb": {"Milan": ["snp>=3"]}}}, "policy.deny-tcb"),
        ({"version": 1, "allow_debug": "yes"}, "policy.type"),
    ],
)
def test_malformed_policies_exit_with_30(tmp_path: Path, capsys: pytest.CaptureFixture[str], document: dict[str, Any], code: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    assert main(["policy", "lint", str(path)]) == 30
    assert code in capsys.readouterr().err


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nalow_debug: false\n")
    assert main(["policy", "lint", str(path)]) == 30
    assert "'allow_debug'" in capsys.readouterr().err


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / "policy.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("text", examples())
def test_the_examples_of_the_manual_can_be_used(text: str) -> None:
    assert codec.decode(Policy, parse_document(text.encode(), "policy"), "policy").version == 1


def test_a_broken_example_would_be_noticed() -> None:
    assert len(examples()) >= 3
    with pytest.raises(Malformed):
        codec.decode(Policy, parse_document(examples()[0].replace("version", "versoin").encode(), "policy"), "policy")


@pytest.fixture
def packed(simulator_pki: SimulatorPki, tmp_path: Path) -> Callable[[str | None], str]:
    """A bundle file of a simulated deployment, honest or attacked."""
    key = keys.generate(lambda size: b"policy test".ljust(size, b"\x01"))
    (tmp_path / "signer.pem").write_bytes(key.public.pem)
    (tmp_path / "roots.pem").write_bytes(b"".join(_pem(anchor.der) for anchor in simulator_pki.anchors()))

    def make(attack: str | None = None) -> str:
        nonce = bytes(range(32))
        good = scenario.good(simulator_pki)
        deployment = scenario.ATTACKS[attack].on(good) if attack else good
        context = deployment.context(nonce)
        case = Case(
            kind="snp",
            pieces=deployment.collect(nonce),
            at=good.at + timedelta(hours=1),
            nonce=nonce,
            unsafe=context.unsafe,
            policy=good.policy,
            references=good.reference.values,
        )
        recorded = RecordingFetcher(context.fetcher)
        outcome = decide(case, anchors=AnchorSet(simulator_pki.anchors()), fetcher=recorded)
        path = tmp_path / f"{attack or 'good'}.bundle.json"
        path.write_bytes(bundle.build(case, recorded, outcome, key))
        return str(path)

    return make


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_a_policy_is_tried_over_stored_bundles(
    packed: Callable[..., str], tmp_path: Path, simulator_pki: SimulatorPki, capsys: pytest.CaptureFixture[str]
) -> None:
    good, kernel, debug = packed(), packed("swap-kernel"), packed("debug")
    trust = ["--signer", str(tmp_path / "signer.pem"), "--unsafe-simulated-root", str(tmp_path / "roots.pem"), "-o", "json"]
    own = write(tmp_path / "own.json", scenario.good(simulator_pki).policy)
    assert main(["policy", "test", own, good, *trust]) == 0
    capsys.readouterr()
    assert main(["policy", "test", own, good, kernel, debug, *trust]) == 11
    trials = json.loads(capsys.readouterr().out)["bundles"]
    assert [trial["decision"] for trial in trials] == ["accepted", "refused", "refused"]
    lenient = write(tmp_path / "lenient.json", replace(scenario.good(simulator_pki).policy, allow_debug=True))
    assert main(["policy", "test", lenient, debug, *trust]) == 0
    capsys.readouterr()
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(Path(good).read_bytes().replace(b"a", b"b", 1))
    assert main(["policy", "test", own, good, str(damaged), *trust]) in (10, 30)
