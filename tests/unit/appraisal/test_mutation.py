"""AT-68 for the appraisal: any rule, demand or finding that is deleted from its code changes the outcome of some row.

The mutants are made from the source, one per finding, in process; the rows are those of the rules and a few that need more than a rule.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.mutation import Guarded, Mutant, mutants
from tests.unit.appraisal.test_rules import CASES

from evident.appraisal import appraise as appraising
from evident.appraisal import beside, folds, layers, requirements, rules
from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels, TechnologyRules
from evident.errors import EvidentError, Finding
from evident.reference_values.model import ReferenceValue, Strength
from evident.verification.facts import Freshness, Runtime, StatedLaunch

Make = Callable[..., Any]
FOUR = Policy(version=1, name="four", levels=RequiredLevels(nominal=4, trustworthy=4))
POINT = Finding("snp.revocation.unknown", "root_of_trust", "a CRL", "none", "Fetch it.")
CHALLENGE = Finding("snp.challenge.missing", "root_of_trust", "a nonce", "none", "Give it.")


@dataclass(frozen=True)
class Row:
    evidence: Any
    policy: Policy
    references: tuple[ReferenceValue, ...]


def more(m: SimpleNamespace) -> dict[str, Row]:
    """Rows beyond the rules' own."""
    good = (m.reference(),)
    split = (m.reference(layers=("firmware",), components={}), m.reference(layers=("boot_chain", "root_filesystem"), value=b"\x98" * 48))
    runtime = Runtime(entries=10, violations=1, unlisted=("/bin/x",), gaps=("scripts",))
    userspace = replace(FOUR, levels=RequiredLevels(nominal=1, verifiability={"userspace": 1}))
    waiting = replace(FOUR, freshness=replace(FOUR.freshness, maximum_age_seconds=60))
    vtpm = m.vtpm(anchor="tee", location="svsm")
    return {
        "not verified": Row(object(), FOUR, good),
        "good": Row(m.verified(), FOUR, good),
        "revoked": Row(m.verified(revocation="revoked"), FOUR, good),
        "revocation unknown": Row(m.verified(revocation="unknown"), FOUR, good),
        "revocation said": Row(m.verified(revocation="unknown", open_points=(POINT,)), FOUR, good),
        "revocation overruled": Row(
            m.verified(revocation="unknown", open_points=(POINT,)),
            replace(FOUR, revocation=replace(FOUR.revocation, unknown="accept-unsafe")),
            good,
        ),
        "challenge said": Row(m.verified(m.facts(freshness=Freshness("unknown", "no", "none")), open_points=(CHALLENGE,)), FOUR, good),
        "challenge overruled": Row(
            m.verified(m.facts(freshness=Freshness("unknown", "no", "none")), open_points=(CHALLENGE,)),
            replace(FOUR, levels=RequiredLevels(), freshness=replace(FOUR.freshness, require_challenge=False)),
            good,
        ),
        "no age": Row(
            m.verified(m.facts(freshness=Freshness("boot", "at boot"))),
            replace(waiting, freshness=replace(waiting.freshness, accept_per_boot=True)),
            good,
        ),
        "no reference": Row(m.verified(), FOUR, ()),
        "other firmware": Row(m.verified(), FOUR, (m.reference(value=b"\x99" * 48),)),
        "other kernel": Row(m.verified(), FOUR, split),
        "no kernel hashes": Row(m.verified(), FOUR, (m.reference(layers=("firmware",), components={}, command_line=None),)),
        "somebody's word": Row(m.verified(), FOUR, (m.reference(strength=Strength.ENDORSED, endorser="ExampleCloud"),)),
        "denied component": Row(m.verified(), *CASES["AT-58 chip"][3:], good),
        "userspace": Row(m.verified(m.facts(runtime=runtime, vtpm=m.vtpm())), userspace, good),
        "userspace fresh": Row(m.verified(m.facts(runtime=replace(runtime, violations=0), vtpm=m.vtpm())), userspace, good),
        "vtpm at level 2": Row(m.verified(m.facts(kind="tpm", tee=m.tee(privilege_level=2), vtpm=vtpm)), FOUR, good),
        "vtpm in the clouds": Row(
            m.verified(m.facts(kind="tpm", vtpm=m.vtpm(), boot=m.boot())),
            FOUR,
            (m.reference(layers=("firmware",), components={}, command_line=None),),
        ),
        "agents unknown": Row(m.verified(), replace(FOUR, allowed_agents=()), good),
        "agent": Row(m.verified(), replace(FOUR, allowed_agents=()), (m.reference(agents=("waagent",)),)),
        "two lines": Row(m.verified(m.facts(stated_launch=StatedLaunch({}, "single"))), FOUR, good),
        "boot line": Row(m.verified(m.facts(boot=m.boot(command_line="rd.break"))), FOUR, good),
        "boot stage": Row(m.verified(m.facts(boot=m.boot())), replace(FOUR, required_components={"kernel": ("66" * 32,)}), good),
        "no tee": Row(m.verified(m.facts(tee=None, vtpm=m.vtpm())), FOUR, good),
        "missing step": Row(replace(m.verified(), steps=()), FOUR, good),
        "no tcb component": Row(m.verified(), replace(FOUR, technologies={"snp": TechnologyRules(minimum_tcb={"any": {"fmc": 1}})}), good),
        "no debug waiver": Row(m.verified(m.facts(tee=m.tee(debug=True, migratable=True))), replace(FOUR, allow_debug=True), good),
    }


def all_rows(m: SimpleNamespace) -> dict[str, Row]:
    ruled = {
        f"{name} {which}": Row(make(m), policy, (m.reference(),))
        for name, (_, make, *both) in CASES.items()
        for which, policy in zip("ab", both, strict=True)
    }
    return {**ruled, **more(m)}


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    from tests.unit.appraisal import conftest as made

    verified = made.make_verified
    return all_rows(
        SimpleNamespace(
            verified=verified,
            facts=made.make_facts,
            tee=made.make_tee,
            vtpm=made.make_vtpm,
            boot=made.make_boot,
            reference=made.make_reference,
            at=made.AT,
        )
    )


GUARDED: Guarded = (
    (rules, None),
    (requirements, None),
    (beside, frozenset({"userspace_remarks"})),
    (layers, frozenset({"_mismatch_remarks"})),
    (folds, None),
    (appraising, frozenset({"appraise", "_all_steps", "_decide", "_open_points"})),
)


def _weaker(statement: ast.stmt) -> ast.stmt | None:
    """`statement` without what it finds; None where it finds nothing."""
    if isinstance(statement, ast.Raise):
        return ast.Pass()
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
        return ast.Expr(ast.YieldFrom(ast.Tuple([], ast.Load())))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and not isinstance(statement.value.func, ast.Name):
        return ast.Pass() if ast.unparse(statement.value.func).endswith((".append", ".extend")) else None
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return ast.Pass()
    return None


def outcome(row: Row) -> object:
    try:
        statement = appraise(row.evidence, policy=row.policy, references=row.references)
    except EvidentError as refusal:
        return refusal.code
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as crash:
        return type(crash).__name__
    return (
        statement.decision,
        statement.findings,
        statement.levels,
        tuple((layer.verifiability, layer.needs_provider) for layer in statement.layers),
    )


def survives(mutant: Mutant, expected: dict[str, object], rows: dict[str, Row]) -> bool:
    with mutant.in_force():
        return all(outcome(row) == expected[name] for name, row in rows.items())


@pytest.mark.attack("AT-68", "Any one rule or finding is deleted from the code of the appraisal.", "the mutation test fails")
def test_no_finding_can_be_deleted_unnoticed(rows: dict[str, Row]) -> None:
    expected = {name: outcome(row) for name, row in rows.items()}
    tried = list(mutants(GUARDED, _weaker))
    assert len(tried) > 30
    assert [mutant.name for mutant in tried if survives(mutant, expected, rows)] == []
    assert expected == {name: outcome(row) for name, row in rows.items()}, "every function is whole again"


@pytest.mark.parametrize("code", sorted(rules.BREAKS_ROOT))
def test_every_code_that_breaks_the_root_of_trust_counts(code: str, rows: dict[str, Row], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {name: outcome(row) for name, row in rows.items()}
    monkeypatch.setattr(rules, "BREAKS_ROOT", rules.BREAKS_ROOT - {code})
    assert {name: outcome(row) for name, row in rows.items()} != expected
