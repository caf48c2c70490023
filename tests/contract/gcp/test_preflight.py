"""What is missing is found before the first thing is created; what cannot be told is not said to be fine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import google.auth
import pytest

from evident.cli.main import main
from evident.platforms.cloud import Probe
from evident.platforms.gcp import clients, images, requests
from evident.platforms.gcp.machine import machine_spec
from evident.platforms.gcp.preflight import preflight

CHANGES_NOTHING = {"projects.get", "zones.get", "regions.get", "machineTypes.get", "projects.testIamPermissions"}


def probed(owner: Any) -> dict[str, Probe]:
    spec = machine_spec(owner.order)
    return {probe.name: probe for probe in preflight(owner.clients, spec, images.described(owner.file), owner.patience())}


def failed(probe: Probe, code: str) -> bool:
    return probe.state == "failed" and probe.finding is not None and probe.finding.code == code


def test_all_is_well_as_far_as_google_says_and_nothing_was_changed(owner: Any, google: Any) -> None:
    probes = probed(owner)
    states = {name: probe.state for name, probe in probes.items()}
    assert states.pop("confidential computing") == "unknown"
    assert set(states.values()) == {"ok"}
    assert google.things == {}
    assert {call.operation for call in google.calls} <= CHANGES_NOTHING
    assert not owner.path.exists()


def test_without_credentials_nothing_else_is_asked(owner: Any, google: Any) -> None:
    google.revoked = True
    probes = probed(owner)
    assert failed(probes["project"], "cloud.auth")
    assert {probe.state for name, probe in probes.items() if name != "project"} == {"unknown"}
    assert {call.operation for call in google.calls} <= {"projects.get"}


def test_an_interface_that_is_switched_off_says_how_to_switch_it_on(owner: Any, google: Any) -> None:
    google.faults["projects.get"] = [google.refusal(403, "accessNotConfigured")]
    probe = probed(owner)["project"]
    assert failed(probe, "cloud.auth")
    assert probe.finding is not None
    assert "gcloud services enable" in probe.finding.remedy


def test_a_zone_that_is_not_there(owner: Any, google: Any) -> None:
    google.zones = {}
    assert failed(probed(owner)["zone"], "cloud.unsupported")


def test_a_zone_that_is_down(owner: Any, google: Any) -> None:
    google.zones = {requests.Place("", "europe-west4-a").zone: "DOWN"}
    assert failed(probed(owner)["zone"], "cloud.capacity")


def test_a_zone_without_the_type(owner: Any, google: Any) -> None:
    del google.types["n2d-standard-2"]
    probes = probed(owner)
    assert failed(probes["machine type"], "cloud.unsupported")
    assert "no n2d-standard-2 in europe-west4-a" in probes["machine type"].found
    assert probes["quota"].state == "unknown"


def test_a_zone_without_the_processor(owner: Any, google: Any) -> None:
    google.processors = ["AMD Rome"]
    assert failed(probed(owner)["confidential computing"], "cloud.unsupported")


def test_a_type_that_nothing_is_known_of_is_not_said_to_be_fine(owner: Any) -> None:
    owner.moved(type="e2-small")
    probe = probed(owner)["confidential computing"]
    assert probe.state == "unknown"
    assert "knows of no SEV_SNP on e2" in probe.found


@pytest.mark.parametrize(("where", "metric"), [("quotas", "N2D_CPUS"), ("quotas", "SSD_TOTAL_GB"), ("project_quotas", "NETWORKS")])
def test_a_quota_that_is_used_up(owner: Any, google: Any, where: str, metric: str) -> None:
    getattr(google, where)[metric] = (8.0, 8.0)
    probe = probed(owner)["quota"]
    assert failed(probe, "cloud.quota")
    assert metric in probe.found


@pytest.mark.parametrize(("where", "metric"), [("quotas", "N2D_CPUS"), ("project_quotas", "NETWORKS")])
def test_room_for_one_machine_and_none_for_an_update(owner: Any, google: Any, where: str, metric: str) -> None:
    assert "beside it" not in probed(owner)["quota"].found
    getattr(google, where)[metric] = (8.0, 11.0) if metric == "N2D_CPUS" else (4.0, 5.0)
    probe = probed(owner)["quota"]
    assert (probe.state, f"which `evident update` makes ({metric})" in probe.found) == ("ok", True)


def test_a_quota_that_google_does_not_show_is_not_a_pass(owner: Any, google: Any) -> None:
    del google.quotas["N2D_CPUS"]
    assert probed(owner)["quota"].state == "unknown"


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch, wire: Any) -> None:
    """google.auth finds an account, and Google is on this machine."""
    account = wire.over_http().session.credentials
    monkeypatch.setattr(google.auth, "default", lambda **_: (account, "shop-1"))
    url = wire.server.url
    monkeypatch.setattr(clients.assemble, "__defaults__", (clients.Endpoints(url, url, url),))


def settings(**values: str) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.usefixtures("_credentials")
def test_doctor_asks_the_cloud(owner: Any, google: Any, capsys: pytest.CaptureFixture[str]) -> None:
    google.withheld = {"compute.instances.create"}
    wanted = settings(zone="europe-west4-a", type="n2d-standard-2", image=str(owner.file))
    assert main(["doctor", "--platform", "gcp", *wanted, "-o", "json"]) == 12
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert (checks["project"]["status"], checks["machine type"]["status"]) == ("ok", "ok")
    assert "gcp-role.yaml" in checks["permissions"]["get"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "gcp.settings"),
        (settings(zone="z-a", type="t", image="i", colour="red"), "gcp.settings"),
        (settings(zone="z-a", type="t", image="i", technology="sgx"), "gcp.settings"),
        (settings(zone="europe-west4-a", type="t", image="nowhere.raw"), "gcp.image"),
    ],
)
@pytest.mark.usefixtures("_credentials")
def test_doctor_refuses_what_it_cannot_ask(words: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--platform", "gcp", *words]) == 2
    assert code in capsys.readouterr().err


def test_without_a_project_anywhere_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, "default", lambda **_: (None, None))
    with pytest.raises(clients.UsageError, match=r"gcp\.project"):
        clients.connect(None, "europe-west4-a")


def test_without_credentials_anywhere_that_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(clients.UsageError, match=r"cloud\.auth"):
        clients.connect("shop-1", "europe-west4-a")
