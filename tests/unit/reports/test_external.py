"""The flat form: strings only, the same keys for every statement."""

from __future__ import annotations

from collections.abc import Callable

from evident.appraisal.statement import TrustStatement
from evident.errors import Finding, NotAuthentic
from evident.reports import external


def test_everything_is_a_string(statement: Callable[..., TrustStatement], refused: TrustStatement) -> None:
    forms = [external.document(outcome, bundle_sha256="ab") for outcome in (statement(), statement(simulated=True), refused)]
    assert all(isinstance(value, str) for form in forms for value in form.values())
    assert len({tuple(form) for form in forms}) == 1
    assert [form["simulated"] for form in forms] == ["false", "true", "false"]
    assert {form["authentic"] for form in forms} <= {"true", "false", "unknown"}


def test_an_error_has_its_code() -> None:
    error = NotAuthentic(Finding("snp.signature", "root_of_trust", "a", "b", "c"))
    assert external.document(error) == {"decision": "not_authentic", "code": "snp.signature", "bundle_sha256": ""}
