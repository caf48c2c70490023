"""The runner that every verification stands on: what it collects, what it stops at, and who may issue a `Verified`."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable, Finding, Indeterminate, Malformed, NotAuthentic, Unsupported, UsageError
from evident.verification import kinds, pieces
from evident.verification.context import ChainCache, Context
from evident.verification.facts import Facts, Freshness
from evident.verification.memory import once, remembered
from evident.verification.pieces import OF_THE_VERIFIER, Role, of_machine
from evident.verification.procedure import Open, Procedure, Step, Trail, issue, run
from evident.verification.verified import StepRecord, Verified

AT = datetime(2026, 6, 1, tzinfo=UTC)
FACTS = Facts("test", None, Freshness("unknown", "not at all"))


class Nothing:
    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=f"{url}, {limit}", found="nothing", remedy="None.")


def context(*unsafe: str) -> Context:
    return Context(AT, AnchorSet(()), Nothing(), unsafe=frozenset(unsafe))


def finding(code: str) -> Finding:
    return Finding(code, "input", "this", "that", "Do the other.")


def holds(_: list[str]) -> None:
    return None


def fails(kind: type[Any], code: str) -> Any:
    def run_step(_: list[str]) -> None:
        raise kind(finding(code))

    return run_step


def opens(code: str, option: str) -> Any:
    return lambda _: Open(finding(code), option)


def test_every_independent_failure_is_raised_at_once_and_what_was_not_run_is_named() -> None:
    ran: list[str] = []
    procedure: Procedure[list[str]] = Procedure.of(
        "t",
        Step("t.a", "A.", fails(NotAuthentic, "t.a.wrong")),
        Step("t.b", "B.", lambda state: state.append("b"), ("t.a",)),
        Step("t.c", "C.", lambda state: state.append("c"), ("t.b",)),
        Step("t.d", "D.", fails(NotAuthentic, "t.d.wrong")),
        Step("t.e", "E.", fails(Indeterminate, "t.e.missing")),
        Step("t.f", "F.", lambda state: state.append("f")),
    )
    with pytest.raises(NotAuthentic) as refusal:
        run(procedure, ran, context())
    assert [found.code for found in refusal.value.findings] == ["t.a.wrong", "t.d.wrong", "t.e.missing", "t.steps-not-run"]
    assert "t.b (needs t.a); t.c (needs t.b)" in refusal.value.findings[-1].found
    assert ran == ["f"]


def test_undecided_alone_is_indeterminate() -> None:
    with pytest.raises(Indeterminate) as undecided:
        run(Procedure.of("t", Step("t.a", "A.", fails(CollateralUnavailable, "t.gone"))), [], context())
    assert [found.code for found in undecided.value.findings] == ["t.gone"]


@pytest.mark.parametrize("kind", [Malformed, Unsupported])
def test_malformed_and_unsupported_end_the_procedure(kind: type[Any]) -> None:
    ran: list[str] = []
    steps = (Step("t.a", "A.", fails(NotAuthentic, "t.a")), Step("t.b", "B.", fails(kind, "t.b")), Step("t.c", "C.", ran.append))
    with pytest.raises(kind):
        run(Procedure.of("t", *steps), ran, context())
    assert not ran


def test_open_points_stay_open_unless_waived() -> None:
    procedure: Procedure[list[str]] = Procedure.of(
        "t",
        Step("t.a", "A.", holds),
        Step("t.crl", "C.", opens("t.crl.unknown", "revocation-unknown")),
        Step("t.b", "B.", opens("t.challenge", "no-challenge"), ("t.crl",)),
    )
    left = run(procedure, [], context())
    assert [point.code for point in left.open_points] == ["t.crl.unknown", "t.challenge"]
    assert left.records == (StepRecord("t.a", "A."), *(StepRecord(id_, "Left open: this.", True) for id_ in ("t.crl", "t.b")))
    waived = run(procedure, [], context("revocation-unknown"))
    assert [point.code for point in waived.open_points] == ["t.challenge"]
    assert [point.code for point in waived.waived] == ["t.crl.unknown"]
    assert waived.unsafe == ("revocation-unknown",)


def test_an_unsafe_option_that_was_not_needed_does_not_show() -> None:
    assert run(Procedure.of("t", Step("t.a", "A.", holds)), [], context("no-challenge")).unsafe == ()


def test_unknown_unsafe_options_are_refused() -> None:
    with pytest.raises(UsageError) as refusal:
        run(Procedure.of("t", Step("t.a", "A.", holds)), [], context("no-chalenge"))
    assert refusal.value.code == "unsafe.unknown"


def test_a_shortened_procedure_still_requires_what_it_lacks() -> None:
    procedure: Procedure[list[str]] = Procedure.of("t", Step("t.a", "A.", holds), Step("t.b", "B.", holds))
    trail = run(dataclasses.replace(procedure, steps=procedure.steps[:1]), [], context())
    verified = issue(trail, evidence=b"", facts=FACTS, context=context(), revocation="unknown", simulated=False, endorsers=("nobody",))
    assert verified.required - {record.id for record in verified.steps} == {"t.b"}


def test_nobody_else_can_make_a_verified() -> None:
    with pytest.raises(TypeError, match="only a verification procedure"):
        Verified(b"", FACTS, "t", frozenset(), (), AT, "good", False, ())


def test_the_token_is_used_by_the_runner_alone() -> None:
    source = Path(str(kinds.__file__)).parents[1]
    users = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if "_TOKEN" in path.read_text()}
    assert {name for name in users if name.startswith("verification/")} == {"verification/procedure.py", "verification/verified.py"}
    assert not any("verification.verified import _" in path.read_text() for path in source.rglob("*.py") if path.name != "procedure.py")


@pytest.mark.parametrize("needed", [("no-challenge",), ("simulated-root", "no-challenge")])
def test_a_test_root_shows_among_the_unsafe_options_once(needed: tuple[str, ...]) -> None:
    trail = Trail("t", frozenset(), (), (), (), needed)
    issued = issue(trail, evidence=1, facts=FACTS, context=context(), revocation="good", simulated=True, endorsers=("nobody",))
    assert sorted(issued.unsafe) == ["no-challenge", "simulated-root"]


def test_cache_remembers_only_what_passed_and_forgets_the_oldest() -> None:
    cache, asked = ChainCache(capacity=2), []

    def check() -> None:
        asked.append("check")

    def refuse() -> None:
        raise NotAuthentic(finding("t.a"))

    for _ in range(2):
        once(cache, "a", check)
        with pytest.raises(NotAuthentic):
            once(cache, "b", refuse)
    assert asked == ["check"]
    assert remembered(cache, "c", lambda: 3) == remembered(cache, "c", lambda: 4) == 3
    assert remembered(cache, "d", lambda: 5) == 5
    assert cache.get("a") is None
    once(None, "a", check)
    assert asked == ["check", "check"]


def test_roles_are_counted_and_bounded_and_near_misses_named() -> None:
    roles = {"report": Role("one", 4, "the report"), "vcek": Role("optional", 4, "a certificate"), "crl": Role("any", 4, "lists")}
    given = {"report": (b"1",), "crl": (b"1", b"2")}
    pieces.check(given, roles, "t")
    assert pieces.one(given, "report") == b"1"
    assert pieces.optional(given, "vcek") is None
    assert pieces.several(given, "crl") == (b"1", b"2")
    for wrong, code in (
        ({}, "pieces.count"),
        ({**given, "vcek": (b"1", b"2")}, "pieces.count"),
        ({**given, "vcek": (b"12345",)}, "pieces.size"),
        ({**given, "vcek": (b"",)}, "pieces.size"),
        ({**given, "vcec": (b"1",)}, "pieces.unknown-role"),
    ):
        with pytest.raises((UsageError, Malformed)) as refusal:
            pieces.check(wrong, roles, "t")
        assert refusal.value.code == code
    with pytest.raises(UsageError, match="Did you mean 'vcek'"):
        pieces.check({**given, "vcec": (b"1",)}, roles, "t")


@pytest.mark.parametrize("name", sorted(kinds.KINDS))
def test_every_kind_has_roles_and_a_procedure(name: str) -> None:
    roles = kinds.roles(name)
    assert all(role.description and role.limit > 0 for role in roles.values())
    assert "nonce" in roles
    assert ("report-data" in roles) is kinds.KINDS[name].reports


MACHINE = {
    *("report", "evidence", "auxblob", "vcek", "vlek", "chain", "launch", "key", "quote", "tcb-chain", "document", "hcl", "claims"),
    *("tpm-quote", "signature", "pcrs", "ak", "ak-cert", "ek", "ek-cert", "log", "ima", "manifest", "endorsement", "firmware"),
    "instance-key",
}
"""Roles that prove themselves or prove nothing, whoever sends them."""


def test_of_every_role_it_is_known_whether_a_machine_may_send_it() -> None:
    roles = {role for kind in kinds.KINDS for role in kinds.roles(kind)}
    assert roles == MACHINE | OF_THE_VERIFIER
    assert of_machine(dict.fromkeys(sorted(roles), (b"x",))).keys() == MACHINE


@pytest.mark.parametrize("kind", ["tpm", "nitrotpm", "nitro-enclave", "tcg-log", "ima"])
def test_report_data_is_not_taken_where_nothing_is_compared_with_it(kind: str) -> None:
    for given, where in (({"report-data": (bytes(64),)}, context()), ({}, dataclasses.replace(context(), report_data=bytes(64)))):
        with pytest.raises(UsageError) as refused:
            kinds.verify(kind, given, where)
        assert refused.value.code in ("pieces.unknown-role", "pieces.challenge")
