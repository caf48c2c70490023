"""The published role is what the executor calls: nothing is missing, nothing is given beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from evident.errors import UsageError
from evident.platforms.gcp import images
from evident.platforms.gcp.machine import machine_spec
from evident.platforms.gcp.preflight import PERMISSIONS, preflight

ROLE = Path(__file__).resolve().parents[3] / "docs" / "platforms" / "gcp-role.yaml"


def granted() -> list[str]:
    found: list[str] = yaml.safe_load(ROLE.read_text())["includedPermissions"]
    return found


def everything(owner: Any, google: Any) -> None:
    """All that Evident ever does there."""
    preflight(owner.clients, machine_spec(owner.order), images.described(owner.file), owner.patience())
    for kind, operation in (("image", "globalOperations.get"), ("subnetwork", "regionOperations.get"), ("instance", "zoneOperations.get")):
        google.dies_after(operation)  # whoever comes after has to ask which operation that was
        assert not google.survives(owner.up)
        google.dies_at(None)
        google.things.pop((kind, google.thing(kind).name))
        with pytest.raises(UsageError, match="was made, and is not there"):
            owner.up()
    name = owner.up()
    owner.gcp().address(name)
    owner.gcp().stop(name)
    owner.gcp().start(name)
    owner.stock().survey()
    google._make("disk", "left-over", {"name": "left-over", "labels": google.thing("instance").body["labels"]}, 0.0)
    google.time.now += 60
    owner.down()
    assert google.live() == []


def test_the_role_is_exactly_what_is_called(owner: Any, google: Any) -> None:
    everything(owner, google)
    assert google.used == set(granted())


def test_what_doctor_asks_for_is_the_role() -> None:
    assert list(PERMISSIONS) == granted() == sorted(granted())


def test_no_power_over_people_and_no_wildcards() -> None:
    assert not [each for each in granted() if "*" in each or each.startswith("iam.") or "setIamPolicy" in each or "actAs" in each]


@pytest.mark.parametrize("permission", granted() if ROLE.exists() else [])
def test_without_any_one_of_them_something_fails(owner: Any, google: Any, permission: str) -> None:
    """Not one is there for nothing."""
    google.withheld = {permission}
    probes = preflight(owner.clients, machine_spec(owner.order), images.described(owner.file), owner.patience())
    failed = [probe for probe in probes if probe.state == "failed"]
    assert failed
    assert failed[-1].finding is not None
    assert failed[-1].finding.code == "cloud.auth"
    assert permission in failed[-1].found
