"""The JSON contract: the same members for a statement and for every error, and the published schema agrees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from evident.appraisal.statement import TrustStatement
from evident.errors import (
    CollateralUnavailable,
    EvidentError,
    Indeterminate,
    Malformed,
    NotAuthentic,
    PolicyRefused,
    Unsupported,
    UsageError,
)
from evident.reports import json_report

MEMBERS = {"decision", "code", "authentic", "revocation", "findings", "levels", "layers", "claims", "simulated"}
ERRORS = [NotAuthentic, PolicyRefused, Indeterminate, CollateralUnavailable, Unsupported, Malformed, UsageError]


def error(kind: type[EvidentError], code: str = "a.b") -> EvidentError:
    return kind.of(code, expected="one", found="other", remedy="Change it.", layer="firmware")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_report.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_statement_has_every_member_of_the_contract(
    statement: Callable[..., TrustStatement], refused: TrustStatement, validator: Any
) -> None:
    for outcome in (statement(), statement(simulated=True), refused):
        form = json.loads(json_report.render(outcome))
        assert form.keys() >= MEMBERS
        assert form["levels"].keys() == {"nominal", "trustworthy"}
        validator.validate(form)
    assert set(form["findings"][0]) == {"code", "layer", "expected", "found", "remedy"}


def test_integers_of_claims_keep_their_value(statement: Callable[..., TrustStatement]) -> None:
    assert json.loads(json_report.render(statement()))["claims"]["big"] == 2**70


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_has_the_same_members_and_no_level(kind: type[EvidentError], validator: Any) -> None:
    form = json.loads(json_report.render_error(error(kind)))
    assert form.keys() == MEMBERS
    assert form["decision"] == kind.decision
    assert form["levels"] == {"nominal": 0, "trustworthy": 0}
    assert (form["layers"], form["claims"], form["simulated"]) == ([], {}, False)
    validator.validate(form)


@pytest.mark.parametrize(
    ("kind", "authentic"),
    [(Malformed, False), (NotAuthentic, False), (PolicyRefused, True), (Unsupported, None), (Indeterminate, None), (UsageError, None)],
)
def test_authentic_is_null_where_nothing_was_decided(kind: type[EvidentError], authentic: bool | None) -> None:
    assert json_report.document(error(kind))["authentic"] is authentic


def test_a_revoked_chain_is_called_revoked() -> None:
    assert json_report.document(error(NotAuthentic, "crl.revoked"))["revocation"] == "revoked"
    assert json_report.document(error(NotAuthentic, "crl.signature"))["revocation"] == "unknown"


def test_the_schema_refuses_what_the_contract_does_not_know(statement: Callable[..., TrustStatement], validator: Any) -> None:
    form = json_report.document(statement())
    for broken in (
        {**form, "surprise": 1},
        {name: value for name, value in form.items() if name != "levels"},
        {**form, "authentic": "yes"},
        {**form, "decision": "maybe"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(broken)


def test_the_published_schema_is_the_generated_one() -> None:
    published = Path(__file__).resolve().parents[3] / "docs" / "schemas" / "statement.json"
    assert json.loads(published.read_text()) == json_report.schema()
