"""What is missing is found before the first thing is created; what cannot be told is not said to be fine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import moto
import pytest

from evident.cli.main import main
from evident.platforms.aws.preflight import preflight
from evident.platforms.cloud import Probe


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


@pytest.mark.parametrize(
    ("lacking", "word"),
    [
        ({"ProcessorInfo": {}}, "SEV-SNP"),
        ({"NitroTpmSupport": "unsupported"}, "NitroTPM"),
        ({"SupportedBootModes": ["legacy-bios"]}, "UEFI"),
    ],
)
def test_a_type_has_to_have_all_that_the_image_asks_of_it(owner: Any, fake: Any, lacking: dict[str, Any], word: str) -> None:
    fake.types["m6a.large"] |= lacking
    probe = probed(owner)["instance type"]
    assert (probe.state, probe.found) == ("failed", f"m6a.large in eu-west-1 without {word}")


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


def test_room_for_one_machine_and_none_for_an_update(owner: Any, fake: Any) -> None:
    assert "beside it" not in probed(owner)["quota"].found
    fake.vcpus = 3.0
    probe = probed(owner)["quota"]
    assert (probe.state, "no room for a second machine beside it" in probe.found) == ("ok", True)


def test_a_quota_that_may_not_be_read_is_not_a_pass(owner: Any, fake: Any) -> None:
    fake.faults["GetServiceQuota"] = [fake.answer.__globals__["Refusal"]("AccessDeniedException")]
    assert probed(owner)["quota"].state == "unknown"


@pytest.mark.parametrize(("code", "state"), [("UnauthorizedOperation", "failed"), ("InvalidAMIID.NotFound", "unknown")])
def test_permissions_are_tried(owner: Any, fake: Any, code: str, state: str) -> None:
    fake.faults["RunInstances"] = [fake.answer.__globals__["Refusal"](code, status=403)]
    assert probed(owner)["permission run_instances"].state == state


@pytest.mark.parametrize("operation", ["TerminateInstances", "DeregisterImage", "DeleteSnapshot", "DeleteSecurityGroup"])
@pytest.mark.parametrize(("code", "state"), [("UnauthorizedOperation", "unknown"), ("ExpiredToken", "failed")])
def test_what_the_published_policy_permits_by_tag_is_not_said_to_be_missing(
    owner: Any, fake: Any, operation: str, code: str, state: str
) -> None:
    """A dry run names things that do not exist, and so carry no tag: with just that policy AWS may refuse it."""
    fake.faults[operation] = [fake.answer.__globals__["Refusal"](code, status=403)]
    states = {name: probe.state for name, probe in probed(owner).items() if probe.state != "ok"}
    assert set(states.values()) == {state}
    assert len(states) == 1


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def settings(**values: str) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.usefixtures("_credentials")
def test_doctor_asks_the_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On moto, which has no such quota and takes every dry run for permitted."""
    image = tmp_path / "disk.raw"
    image.write_bytes(b"image")
    with moto.mock_aws():
        wanted = settings(type="m6a.large", subnet="subnet-0a1b2c3d", image=str(image), region="eu-west-1")
        assert main(["doctor", "--platform", "aws", *wanted, "-o", "json"]) == 12
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert (checks["credentials"]["status"], checks["instance type"]["status"]) == ("ok", "ok")
    assert (checks["subnet"]["status"], checks["zone"]["status"]) == ("missing", "unknown")
    assert "Name a subnet" in checks["subnet"]["get"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--platform", "aws"], "aws.settings"),
        (["--platform", "aws", *settings(type="t", subnet="s", image="i", colour="red")], "aws.settings"),
        (["--platform", "aws", "--set", "type"], "doctor.set"),
        (["--platform", "aws", *settings(type="t", subnet="s", image="nowhere.raw", region="eu-west-1")], "aws.image"),
        (["--platform", "simulated"], "doctor.platform"),
        (["--platform", "no.such"], "doctor.platform"),
    ],
)
@pytest.mark.usefixtures("_credentials")
def test_doctor_refuses_what_it_cannot_ask(words: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert code in capsys.readouterr().err
