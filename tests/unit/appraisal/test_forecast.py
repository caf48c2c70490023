"""Every change is found to the second, whatever it is; and what has no date is told from the security versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.appraisal.forecast import STEP, Judgement, changes, newest_reported, next_update
from evident.errors import Finding
from evident.verification.facts import Tee

START = datetime(2026, 3, 1, tzinfo=UTC)
FINE = Judgement("accepted", "UpToDate", (), ())
STALE = Judgement("indeterminate", "UpToDate", (), (Finding("x.stale", "root_of_trust", "a", "b", "c"),))
OLD = Judgement("refused", "OutOfDate", ("INTEL-SA-1",), (Finding("policy.tcb-status", "root_of_trust", "a", "b", "c"),))


@given(st.lists(st.integers(min_value=1, max_value=50), max_size=5))
def test_every_change_is_found_to_the_second(weeks: list[int]) -> None:
    """At most one change in a step, at any second of it."""
    moments = [START + week * STEP + timedelta(seconds=week * 7919) for week in sorted(set(weeks))]
    states = (FINE, STALE, OLD)

    def judge(at: datetime) -> Judgement:
        return states[sum(at >= moment for moment in moments) % 3]

    found = changes(judge, START, START + 60 * STEP)
    assert [change.at for change in found] == moments
    assert all(change.after.same_as(judge(change.at)) for change in found)
    assert all(change.before.same_as(judge(change.at - timedelta(seconds=1))) for change in found)


def test_two_changes_within_one_step() -> None:
    moments = [START + timedelta(hours=5), START + timedelta(days=3)]
    found = changes(lambda at: (FINE, STALE, OLD)[sum(at >= moment for moment in moments)], START, START + STEP)
    assert [change.at for change in found] == moments
    assert [finding.code for finding in found[0].because] == ["x.stale"]
    assert found[1].advisories == ("INTEL-SA-1",)


def test_a_change_for_the_better_tells_what_went_away() -> None:
    found = changes(lambda at: STALE if at < START + timedelta(days=1) else FINE, START, START + STEP)
    assert [finding.code for finding in found[0].because] == ["x.stale"]


def test_without_change_there_is_none() -> None:
    assert changes(lambda _: FINE, START, START + 60 * STEP) == ()


def tee(headroom: Mapping[str, int], tcb: Mapping[str, Mapping[str, int]], advisories: tuple[str, ...] = ()) -> Tee:
    return Tee(
        "snp",
        "AMD",
        "Milan",
        "vcek",
        None,
        {},
        {"launch": bytes(48)},
        None,
        False,
        False,
        {},
        tcb,
        advisories=advisories,
        headroom=headroom,
    )


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (tee({"sgx_01": 0, "pcesvn": 2}, {}), "as soon as the next update raises one of: sgx_01"),
        (tee({"sgx_01": -2, "pcesvn": 0}, {}, ("INTEL-SA-1",)), "sgx_01 by 2 (INTEL-SA-1)"),
        (tee({"sgx_01": 1}, {}), "above the vendor's best level"),
        (
            tee({}, {"reported": {"snp": 8}, "committed": {"snp": 8}, "current": {"snp": 10}}),
            "(current): when the provider reports it, snp 8 to 10",
        ),
    ],
)
def test_what_the_next_update_will_do(machine: Tee, words: str) -> None:
    (sentence,) = next_update(machine)
    assert words in sentence


def test_a_machine_without_any_of_it_says_nothing() -> None:
    assert next_update(tee({}, {"reported": {"snp": 8}, "current": {"snp": 8}})) == ()


def test_beside_others_of_its_product() -> None:
    old, new = tee({}, {"reported": {"snp": 8, "tee": 1}}), tee({}, {"reported": {"snp": 20, "tee": 0}})
    newest = newest_reported((old, new, replace(new, product="Genoa", tcb={"reported": {"snp": 99}})))
    assert newest["snp", "Milan"] == {"snp": 20, "tee": 1}
    assert next_update(old, newest) == (
        "reports less than other machines of this product: snp 8 of 20; refused once your minimum is raised to theirs",
    )
