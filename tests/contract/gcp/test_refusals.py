"""What Google answers when it does not say yes: the right code, the right remedy, nothing left."""

from __future__ import annotations

from typing import Any

import pytest
import requests as http
from google.api_core import exceptions as sdk
from google.auth import exceptions as auth

from evident.errors import EvidentError, Indeterminate, UsageError
from evident.platforms.gcp import errors
from evident.platforms.resources import Stage

EXITS = {"auth": 2, "quota": 2, "conflict": 2, "unsupported": 20, "capacity": 12, "transient": 12, "timeout": 12}
REFUSALS = [
    (403, "forbidden", "cloud.auth", "gcp-role.yaml"),
    (401, "authError", "cloud.auth", "Renew the credentials"),
    (403, "accessNotConfigured", "cloud.auth", "gcloud services enable"),
    (403, "billingNotEnabled", "cloud.auth", "billing"),
    (412, "conditionNotMet", "cloud.auth", "policy of the organisation"),
    (403, "quotaExceeded", "cloud.quota", "Quotas"),
    (503, "ZONE_RESOURCE_POOL_EXHAUSTED", "cloud.capacity", "another zone"),
    (400, "unsupportedOperation", "cloud.unsupported", "n2d"),
    (404, "notFound", "cloud.conflict", "project and zone"),
    (400, "somethingNew", "cloud.unsupported", "evident doctor"),
]
INSIDE = [
    ("QUOTA_EXCEEDED", "cloud.quota", "Quotas"),
    ("ZONE_RESOURCE_POOL_EXHAUSTED", "cloud.capacity", "another zone"),
    ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "cloud.capacity", "without confidential machines"),
    ("UNSUPPORTED_OPERATION", "cloud.unsupported", "n2d"),
    ("PERMISSIONS_ERROR", "cloud.auth", "gcp-role.yaml"),
    ("CONDITION_NOT_MET", "cloud.auth", "organisation"),
    ("RESOURCE_NOT_FOUND", "cloud.conflict", "create it anew"),
    ("INTERNAL_ERROR", "cloud.transient", "status.cloud.google.com"),
    ("SOMETHING_NEW", "cloud.unsupported", "evident doctor"),
]


def sent(google: Any, operation: str) -> list[Any]:
    return [call for call in google.calls if call.operation == operation]


@pytest.mark.parametrize(("status", "reason", "ours", "remedy"), REFUSALS)
def test_a_refused_launch_leaves_nothing_and_may_be_repeated(
    owner: Any, google: Any, status: int, reason: str, ours: str, remedy: str
) -> None:
    google.faults["instances.insert"] = [google.refusal(status, reason)] * (3 if status == 401 else 1)  # the SDK renews its token twice
    with pytest.raises(EvidentError) as caught:
        owner.up()
    assert caught.value.code == ours
    assert caught.value.exit_code == EXITS[ours.removeprefix("cloud.")]
    assert remedy in caught.value.findings[0].remedy
    assert reason in caught.value.findings[0].found
    assert not google.live("instance")
    keys = {call.query["requestId"] for call in sent(google, "instances.insert")}
    owner.up()  # with a new key: the old one was answered
    assert sent(google, "instances.insert")[-1].query["requestId"] not in keys
    owner.down()
    assert google.live() == []


@pytest.mark.parametrize(("code", "ours", "remedy"), INSIDE)
def test_an_operation_that_fails_says_why_and_may_be_repeated(owner: Any, google: Any, code: str, ours: str, remedy: str) -> None:
    """Google said yes; whether there is a machine, only the finished operation tells."""
    google.fates["instances.insert"] = [(code, "so it goes")]
    with pytest.raises(EvidentError) as caught:
        owner.up()
    finding = caught.value.findings[0]
    assert (finding.code, code in finding.found, "so it goes" in finding.found) == (ours, True, True)
    assert remedy in finding.remedy
    assert not google.live("instance")
    owner.up()  # another machine: with the failed one's key Google would give the failed operation again
    assert len(google.live("instance")) == 1
    owner.down()
    assert google.live() == []


@pytest.mark.parametrize("operation", ["images.insert", "networks.insert", "subnetworks.insert", "firewalls.insert"])
def test_errors_inside_any_operation_are_seen(owner: Any, google: Any, operation: str) -> None:
    google.fates[operation] = [("QUOTA_EXCEEDED", "so it goes")]
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.quota"
    owner.down()
    assert google.live() == []


def test_why_it_failed_is_found_out_after_a_crash_too(owner: Any, google: Any) -> None:
    google.fates["instances.insert"] = [("ZONE_RESOURCE_POOL_EXHAUSTED", "so it goes")]
    google.dies_after("zoneOperations.get")
    assert not google.survives(owner.up)
    google.dies_at(None)
    google.time.now += 60
    with pytest.raises(Indeterminate, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        owner.up()
    assert sent(google, "zoneOperations.list")


@pytest.mark.parametrize(
    ("status", "reason"), [(429, "rateLimitExceeded"), (403, "rateLimitExceeded"), (503, "backendError"), (500, "new")]
)
def test_throttling_is_waited_out_with_growing_pauses_and_one_key(owner: Any, google: Any, status: int, reason: str) -> None:
    google.lag = 0
    google.faults["instances.insert"] = [google.refusal(status, reason) for _ in range(4)]
    owner.up()
    assert len({call.query["requestId"] for call in sent(google, "instances.insert")}) == 1
    assert len(google.live("instance")) == 1
    assert [pause for pause in google.time.slept if pause != 5.0] == [1.5, 3.0, 6.0, 12.0]
    assert any(reason in line and "trying again" in line for line in owner.said)


def test_throttling_without_end_is_said(owner: Any, google: Any) -> None:
    google.faults["networks.insert"] = [google.refusal(429, "rateLimitExceeded") for _ in range(99)]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.transient"
    assert len(sent(google, "networks.insert")) == owner.patience().attempts
    owner.down()
    assert google.live() == []


def test_a_removal_that_is_not_permitted_is_said_and_stays_written_down(owner: Any, google: Any) -> None:
    owner.up()
    google.withheld = {"compute.instances.delete"}
    with pytest.raises(UsageError, match=r"compute\.instances\.delete"):
        owner.down()
    assert {each.stage for each in owner.journal().resources() if each.kind == "instance"} == {Stage.LEAVING}
    google.withheld = set()
    owner.down()
    assert google.live() == []


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_a_clock_that_is_off_is_said(afar: Any, google: Any, skew: float) -> None:
    google.skew = skew
    with pytest.raises(UsageError) as caught:
        afar.up()
    assert caught.value.code == "cloud.auth"
    assert "Set this machine's clock" in caught.value.findings[0].remedy
    google.skew = 0.0
    afar.up()


def test_credentials_that_were_revoked_are_said(afar: Any, google: Any) -> None:
    google.revoked = True
    with pytest.raises(UsageError) as caught:
        afar.up()
    assert caught.value.code == "cloud.auth"
    assert "Renew the credentials" in caught.value.findings[0].remedy


def test_credentials_that_expire_in_the_middle_are_said_and_nothing_is_lost(afar: Any, google: Any) -> None:
    google.faults["networks.insert"] = [google.refusal(401, "authError")] * 3
    with pytest.raises(UsageError, match="authError"):
        afar.up()
    afar.up()
    afar.down()
    assert google.live() == []


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (auth.DefaultCredentialsError("none"), "cloud.auth"),
        (auth.RefreshError("invalid_grant: Token has been expired or revoked."), "cloud.auth"),
        (auth.RefreshError("overloaded", retryable=True), "cloud.transient"),
        (auth.TransportError("no route"), "cloud.transient"),
        (http.ConnectionError("closed"), "cloud.transient"),
        (http.ReadTimeout("slow"), "cloud.transient"),
        (http.exceptions.SSLError("certificate"), "cloud.transient"),
        (sdk.ServiceUnavailable("no JSON"), "cloud.transient"),
    ],
)
def test_what_the_sdk_itself_raises(error: Exception, ours: str) -> None:
    translated = errors.translate(error, "instances.insert")
    assert isinstance(translated, EvidentError)
    assert translated.code == ours


def test_a_defect_of_ours_stays_a_defect() -> None:
    error = ValueError("Unknown field for Instance: nam")
    assert errors.translate(error, "instances.insert") is error


def test_no_reason_is_in_two_rules_and_each_is_spelt_plainly() -> None:
    reasons = [reason for text in errors._REASONS.values() for reason in text.split()]
    assert len(reasons) == len(set(reasons))
    assert all(reason == errors._plain(reason) for reason in reasons)
