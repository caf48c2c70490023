"""The terminal's view: four answers first, degrees in words and number, nothing simulated to be overlooked, nothing to be injected."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from evident.appraisal.degrees import Verifiability
from evident.appraisal.statement import TrustStatement
from evident.errors import Finding, Malformed, NotAuthentic
from evident.reports import text

QUESTIONS = ("May I use it?", "What is proven?", "Whom do I still trust?", "What should I do?")


def flat(rendered: str) -> str:
    """Without line breaks and frames, so that a sentence can be looked for."""
    return " ".join(rendered.replace("│", " ").split())


def test_the_first_screen_answers_four_questions(statement: Callable[..., TrustStatement]) -> None:
    lines = text.render(statement()).splitlines()
    first_screen = flat("\n".join(lines[:20]))
    for question in QUESTIONS:
        assert question in first_screen
    assert "ACCEPTED" in first_screen
    assert "level 3 is proven" in first_screen
    assert "put a dm-verity root hash on the command line" in first_screen


@pytest.mark.parametrize("width", [60, 80, 100])
def test_it_fits_the_terminal(statement: Callable[..., TrustStatement], refused: TrustStatement, width: int) -> None:
    for outcome in (statement(simulated=True), refused, NotAuthentic(refused.findings[0])):
        assert max(map(len, text.render(outcome, width=width).splitlines())) <= width


def test_colour_only_where_asked_for(refused: TrustStatement) -> None:
    assert "\x1b[" not in text.render(refused)
    assert "\x1b[" in text.render(refused, color=True)


def test_every_degree_is_shown_as_number_and_words(statement: Callable[..., TrustStatement]) -> None:
    for degree in Verifiability:
        layers = tuple(dataclasses.replace(layer, verifiability=degree) for layer in statement().layers)
        shown = flat(text.render(statement(layers=layers), width=200))
        assert f"{int(degree)} of 4, {degree.words}" in shown


def test_no_layer_is_left_out_and_the_first_unverified_one_is_named(statement: Callable[..., TrustStatement]) -> None:
    """AT-67: a partial result never reads as a whole one."""
    shown = flat(text.render(statement(layers=statement().layers[:2]), width=200))
    for title in ("Root of trust", "Firmware", "Boot chain", "Root file system"):
        assert title in shown
    assert "First layer that is not verified: boot chain (0 of 4, not verifiable)." in shown


def test_every_layer_says_who_vouches_and_who_could_still_lie(statement: Callable[..., TrustStatement]) -> None:
    shown = flat(text.render(statement(), width=200))
    assert "AMD secure processor, then you" in shown
    assert "The authors of the firmware's source." in shown
    assert "The provider alone could fake this layer unnoticed." in shown


def test_simulated_is_said_first_and_in_the_verdict(statement: Callable[..., TrustStatement], refused: TrustStatement) -> None:
    lines = text.render(statement(simulated=True)).splitlines()
    assert "SIMULATED" in flat("\n".join(lines[:3]))
    assert "ACCEPTED, but only simulated" in flat("\n".join(lines))
    assert "REFUSED (simulated)" in text.render(dataclasses.replace(refused, simulated=True))
    assert "SIMULATED" not in text.render(statement())
    shown = flat(text.render(statement(simulated=True), width=200))
    assert "Whoever runs the simulator can fake this layer." in shown
    assert "The provider alone" not in shown
    assert "a genuine secure processor" not in shown


def test_unsafe_options_are_said_before_the_verdict(statement: Callable[..., TrustStatement]) -> None:
    shown = text.render(statement(unsafe=("revocation-unknown",)))
    assert shown.index("revocation-unknown") < shown.index("ACCEPTED")


def test_a_refusal_names_layer_code_expected_found_and_remedy(refused: TrustStatement) -> None:
    shown = flat(text.render(refused, width=120))
    finding = refused.findings[0]
    for said in (finding.code, finding.expected, finding.found, finding.remedy, "see finding 1", "not what was expected"):
        assert said in shown


def test_an_error_without_a_statement_has_the_same_first_screen() -> None:
    shown = flat(text.render(Malformed.of("input.empty", expected="bytes", found="none", remedy="Collect it again.")))
    for question in QUESTIONS:
        assert question in shown
    assert "MALFORMED INPUT" in shown
    assert "level 0 of 4, nothing" in shown


def test_evidence_cannot_speak_to_the_terminal(statement: Callable[..., TrustStatement]) -> None:
    hostile = "evil\x1b[2J\x07\u202e\u200b[bold]x[/bold]\r"
    finding = Finding("a.b", "firmware", hostile, hostile, hostile)
    outcome = statement(decision="refused", findings=(finding,), headline={"use": hostile}, claims={hostile: hostile}, steps=(hostile,))
    shown = text.render(outcome, width=300)
    assert not set(shown) & set("\x1b\x07\u202e\u200b\r")
    assert "[bold]x[/bold]" in shown
