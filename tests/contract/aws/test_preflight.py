"""What is missing is found before the first thing is created; what cannot be told is not said to be fine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evident.platforms.aws.preflight import Probe, preflight


def probed(owner: Any) -> dict[str, Probe]:
    return {probe.name: probe for probe in preflight(owner.clients, owner.spec, owner.image, owner.patience())}


def test_all_is_well_and_nothing_was_changed(owner: Any, fake: Any) -> None:
    probes = probed(owner)
    assert {probe.state for probe in probes.values()} == {"ok"}
    assert fake.objects == {}
    changing = [given for name, given in fake.calls if not name.startswith(("Describe", "Get"))]
    assert changing == [given for given in changing if "DryRun" not in given]  # taken out by the fake after it was seen
    assert not owner.path.exists()


def test_every_changing_call_says_dry_run(owner: Any, fake: Any) -> None:
    seen: list[tuple[str, bool]] = []
    answer = fake.answer

    def spy(model: Any, given: dict[str, Any]) -> Any:
        seen.append((model.name, given.get("DryRun", False)))
        return answer(model, given)

    fake.answer = spy
    probed(owner)
    assert all(dry or name.startswith(("Describe", "Get")) for name, dry in seen)
    assert sum(dry for _, dry in seen) == 7


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_without_credentials_nothing_else_is_asked(owner: Any, fake: Any, code: str) -> None:
    fake.faults["GetCallerIdentity"] = [fake.answer.__globals__["Refusal"](code)]
    probes = probed(owner)
    finding = probes["credentials"].finding
    assert finding is not None
    assert finding.code == "cloud.auth"
    assert {probe.state for name, probe in probes.items() if name != "credentials"} == {"unknown"}
    assert [name for name, _ in fake.calls] == ["GetCallerIdentity"]


@pytest.mark.parametrize(("kind", "word"), [("t3.micro", "without SEV-SNP"), ("m9z.large", "InvalidInstanceType")])
def test_a_type_that_is_not_there_or_not_confidential(owner: Any, kind: str, word: str) -> None:
    owner.spec = replace(owner.spec, instance_type=kind)
    probe = probed(owner)["instance type"]
    assert probe.finding is not None
    assert (probe.state, probe.finding.code) == ("failed", "cloud.unsupported")
    assert word in probe.found


def test_a_zone_without_the_type_names_those_with_it(owner: Any, fake: Any) -> None:
    fake.zones = ["eu-west-1c"]
    probe = probed(owner)["zone"]
    assert probe.finding is not None
    assert (probe.state, probe.finding.code) == ("failed", "cloud.unsupported")
    assert "there is in eu-west-1c" in probe.found


def test_a_quota_that_is_used_up(owner: Any, fake: Any) -> None:
    fake.vcpus = 1.0
    probe = probed(owner)["quota"]
    assert probe.finding is not None
    assert (probe.state, probe.finding.code) == ("failed", "cloud.quota")


def test_a_quota_that_may_not_be_read_is_not_a_pass(owner: Any, fake: Any) -> None:
    fake.faults["GetServiceQuota"] = [fake.answer.__globals__["Refusal"]("AccessDeniedException")]
    assert probed(owner)["quota"].state == "unknown"


@pytest.mark.parametrize(("code", "state"), [("UnauthorizedOperation", "failed"), ("InvalidAMIID.NotFound", "unknown")])
def test_permissions_are_tried(owner: Any, fake: Any, code: str, state: str) -> None:
    fake.faults["RunInstances"] = [fake.answer.__globals__["Refusal"](code, status=403)]
    assert probed(owner)["permission run_instances"].state == state
