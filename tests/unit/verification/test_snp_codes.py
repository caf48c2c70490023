"""The page about SNP and the code name the same codes, steps and roles."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

from evident.endorsements import crl, x509
from evident.evidence import content, snp_report
from evident.verification import challenge, procedure, snp, snp_facts

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "platforms" / "snp.md").read_text()
STEPS = {step.id for step in snp.PROCEDURE.steps}
CODE = re.compile(r"(?:snp|x509|crl|vlek)\.[a-z0-9.-]+[a-z0-9]")
CHECKS = {"verify_issued_by", "check_validity", "check_floor", "check_not_revoked"}


def literals(module: ModuleType, only: set[str] | None = None) -> set[str]:
    """String constants in the module's functions, or in some of them."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    parts = [node for node in tree.body if only is None or (isinstance(node, ast.FunctionDef) and node.name in only)]
    return {node.value for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def codes_of_source() -> set[str]:
    found = {text for module in (snp, snp_facts, content) for text in literals(module) if CODE.fullmatch(text)}
    found -= {"snp.crl"}  # a question of the cache
    raised_as = {"snp.signature-algorithm", "snp.signing-key", "snp.tcb", "snp.signature"}  # steps whose one code is their id
    found -= STEPS - raised_as
    found |= {snp_report.WHAT + text for text in literals(snp_report) if re.fullmatch(r"\.[a-z-]+", text)} - {"snp.report.tcb"}
    found |= {"snp" + text for text in literals(challenge) if re.fullmatch(r"\.challenge\.[a-z-]+", text)}
    found |= {"snp.report.length", "snp.steps-not-run"}  # built by exact_length and by the runner
    for module, prefix in ((x509, "x509."), (crl, "crl.")):
        found |= {prefix + text for text in literals(module, CHECKS) if re.fullmatch(r"[a-z]+(-[a-z]+)*", text)}
    return found | {"x509.signature", "crl.signature", "x509.critical-extension"}


def test_the_page_names_every_code_and_no_other() -> None:
    named = set(CODE.findall(" ".join(re.findall(r"`([^`]+)`", PAGE)))) - (STEPS - codes_of_source())
    assert named == codes_of_source()


def test_every_code_says_what_to_do() -> None:
    advice = PAGE.split("## What to do")[1]
    assert {code for code in codes_of_source() if f"`{code}`" not in advice} == set()


def test_the_runner_names_steps_not_run() -> None:
    assert "{name}.steps-not-run" in Path(str(procedure.__file__)).read_text()


def test_the_page_lists_every_step_in_order_and_every_role() -> None:
    assert re.findall(r"^\| (\d+) \| `(snp\.[a-z-]+)`", PAGE, re.M) == [
        (str(number), step.id) for number, step in enumerate(snp.PROCEDURE.steps, 1)
    ]
    assert {role for role in snp.ROLES if f"`{role}`" not in PAGE} == set()
