"""What is missing is found before the first thing is created; what cannot be told is not said to be fine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evident.cli.main import main
from evident.platforms.azure import preflight as module
from evident.platforms.azure.machine import MachineSpec
from evident.platforms.azure.preflight import preflight
from evident.platforms.cloud import Patience, Probe

SPEC = MachineSpec("westeurope", "Standard_DC2as_v5", "snp")


def probed(owner: Any, spec: MachineSpec = SPEC) -> dict[str, Probe]:
    return {probe.name: probe for probe in preflight(owner.clients, spec, owner.file, owner.patience())}


def refused(fake: Any, code: str, status: int) -> Exception:
    error: Exception = fake.handle.__globals__["Refusal"](code, status=status)
    return error


def failed(probe: Probe, code: str) -> bool:
    return probe.state == "failed" and probe.finding is not None and probe.finding.code == code


def test_all_is_well_and_nothing_was_changed(owner: Any, fake: Any) -> None:
    probes = probed(owner)
    assert {name: probe.state for name, probe in probes.items()} == dict.fromkeys(probes, "ok")
    assert set(probes) == {"image", "credentials", "clock", "resource group", "size", "quota", "permissions"}
    assert {method for method, *_ in fake.calls} == {"GET"}
    assert not owner.path.exists()
    assert "uploaded as a VHD of 10486272" in probes["image"].found
    assert "2 of 10 of standardDCASv5Family, 12 of 100 of cores; 2 wanted" in probes["quota"].found


def test_another_kind_of_file_is_no_disk_image(owner: Any) -> None:
    owner.file.write_bytes(b"QFI\xfb")
    assert failed(probed(owner)["image"], "azure.image")
    owner.file.unlink()
    assert failed(probed(owner)["image"], "azure.image")


@pytest.mark.parametrize(("code", "status"), [("ExpiredAuthenticationToken", 401), ("SubscriptionNotFound", 404)])
def test_without_credentials_nothing_else_is_asked(owner: Any, fake: Any, code: str, status: int) -> None:
    fake.faults["GET subscriptions"] = [refused(fake, code, status)]
    probes = probed(owner)
    assert failed(probes["credentials"], "cloud.auth")
    assert {probe.state for name, probe in probes.items() if name not in {"credentials", "image"}} == {"unknown"}
    assert len(fake.calls) == 1


def test_a_subscription_that_is_switched_off(owner: Any, fake: Any) -> None:
    fake.subscription["state"] = "Disabled"
    assert failed(probed(owner)["credentials"], "cloud.auth")


@pytest.mark.parametrize("skew", [-301.0, 301.0])
def test_a_clock_that_is_wrong_is_told_before_it_hurts(owner: Any, fake: Any, skew: float) -> None:
    fake.time.skew = skew
    clock = probed(owner)["clock"]
    assert failed(clock, "cloud.auth")
    assert clock.finding is not None
    assert "Set this machine's clock" in clock.finding.remedy
    fake.time.skew = 120.0
    assert probed(owner)["clock"].state == "ok"


def test_a_resource_group_that_is_not_there(owner: Any, fake: Any) -> None:
    fake.group_exists = False
    probes = probed(owner)
    group = probes["resource group"]
    assert failed(group, "cloud.conflict")
    assert group.finding is not None
    assert "az group create" in group.finding.remedy
    assert probes["permissions"].state == "unknown"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"size": "Standard_D2s_v5"}, "nothing confidential"),
        ({"size": "Standard_DC2as_v5", "technology": "tdx"}, "is for SNP, not for TDX"),
        ({"size": "Standard_M9"}, "no Standard_M9"),
        ({"zone": "9"}, "there is in 1, 2, 3"),
    ],
)
def test_a_region_or_size_that_will_not_do(owner: Any, change: dict[str, str], word: str) -> None:
    probes = probed(owner, replace(SPEC, **change))
    assert failed(probes["size"], "cloud.unsupported")
    assert word in probes["size"].found
    assert probes["quota"].state == "unknown"


@pytest.mark.parametrize("family", ["standardDCASv5Family", "cores"])
def test_a_quota_that_is_used_up(owner: Any, fake: Any, family: str) -> None:
    fake.room[family] = (99, 100)
    assert failed(probed(owner)["quota"], "cloud.quota")


@pytest.mark.parametrize("family", ["standardDCASv5Family", "cores"])
def test_room_for_one_machine_and_none_for_an_update(owner: Any, fake: Any, family: str) -> None:
    assert "beside it" not in probed(owner)["quota"].found
    fake.room[family] = (97, 100)
    probe = probed(owner)["quota"]
    assert (probe.state, "no room for a second machine beside it" in probe.found) == ("ok", True)


def test_a_quota_that_was_never_given(owner: Any, fake: Any) -> None:
    """Azure lists no family of which a subscription may have none."""
    del fake.room["standardDCASv5Family"]
    assert failed(probed(owner)["quota"], "cloud.quota")


def test_permissions_that_are_missing_are_named(owner: Any, fake: Any) -> None:
    fake.granted = [{"actions": ["*"], "notActions": ["Microsoft.Compute/galleries/*"]}]
    permissions = probed(owner)["permissions"]
    assert failed(permissions, "cloud.auth")
    assert "Microsoft.Compute/galleries/images/versions/write" in permissions.found
    assert "virtualMachines" not in permissions.found


def settings(**values: str) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def test_doctor_asks_the_cloud(owner: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "connect", lambda _: owner.clients)
    wanted = settings(subscription="s", group="g", region="westeurope", type="Standard_DC2es_v6", technology="tdx", image=str(owner.file))
    assert main(["doctor", "--platform", "azure", *wanted, "-o", "json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert "TDX, 2 vCPUs" in checks["size"]["found"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, "azure.settings"),
        ({"subscription": "s", "group": "g", "region": "r", "type": "t"}, "azure.settings"),
        ({"subscription": "s", "group": "g", "region": "r", "type": "t", "image": "i", "colour": "red"}, "azure.settings"),
        ({"subscription": "s", "group": "g", "region": "r", "type": "t", "image": "i", "technology": "sev"}, "azure.settings"),
    ],
)
def test_doctor_refuses_what_it_cannot_ask(values: dict[str, str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--platform", "azure", *settings(**values)]) == 2
    assert code in capsys.readouterr().err


def test_the_sdks_pipeline_neither_repeats_nor_logs_nor_registers(tmp_path: Path) -> None:
    """What production connects with, but for a login."""
    from azure.core.pipeline.policies import HttpLoggingPolicy, NetworkTraceLoggingPolicy, RetryPolicy
    from azure.mgmt.core.policies import ARMAutoResourceProviderRegistrationPolicy

    from evident.platforms.azure.clients import connect

    clients = connect({"subscription": "s", "group": "g"})
    hidden = (RetryPolicy, HttpLoggingPolicy, NetworkTraceLoggingPolicy, ARMAutoResourceProviderRegistrationPolicy)
    for client in (clients.compute._client, clients.network._client, clients.blobs):
        nodes = client._pipeline._impl_policies
        assert not [node for node in nodes if isinstance(getattr(node, "_policy", node), hidden)]
    blobs = [getattr(node, "_policy", node) for node in clients.blobs._pipeline._impl_policies]
    assert not [policy for policy in blobs if "Auth" in type(policy).__name__ or "Challenge" in type(policy).__name__]


def test_patience_is_not_lost_on_what_is_transient(owner: Any, fake: Any) -> None:
    fake.faults["GET skus"] = [refused(fake, "TooManyRequests", 429)]
    assert probed(owner)["size"].state == "ok"
    assert isinstance(owner.patience(), Patience)
    assert any("TooManyRequests" in line for line in owner.said)
