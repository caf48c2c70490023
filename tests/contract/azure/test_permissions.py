"""The published roles are what the requests need: nothing is missing, nothing is given beyond it.

Actions are derived from what is sent: GET needs read, PUT and PATCH write, DELETE delete, POST its own action. What a body refers to is
needed besides: to join a network's resource, to read a compute one ("Linked access checks").
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evident.platforms.azure import permissions
from evident.platforms.azure.machine import machine_spec
from evident.platforms.azure.preflight import preflight

DOCS = Path(__file__).resolve().parents[3] / "docs" / "platforms"
VERBS = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
REFERENCE = re.compile(r'"id": "([^"]+)"')


def role(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / f"{name}.json").read_text())
    return found


def types(path: str) -> str:
    """``Microsoft.Compute/galleries/images`` of the path of one."""
    if "/providers/" not in path:
        return "Microsoft.Resources/" + "/".join(path.strip("/").split("/")[::2]).replace("resourcegroups", "resourceGroups")
    provider, *rest = path.partition("/providers/")[2].split("/")
    return "/".join([provider, *rest[::2]])


def action(method: str, path: str) -> str:
    if method == "POST":
        head, _, last = path.rpartition("/")
        return f"{types(head)}/{last}/action"
    return f"{types(path)}/{VERBS[method]}"


def linked(body: Any) -> set[str]:
    found = set()
    for path in REFERENCE.findall(json.dumps(body)) if isinstance(body, dict) else ():
        kind = types(path)
        found.add(f"{kind}/join/action" if kind.startswith("Microsoft.Network/") else f"{kind}/read")
    return found


@pytest.fixture
def needed(world: Any) -> set[str]:
    """By everything that Evident does."""
    owner, fake = world()
    preflight(owner.clients, machine_spec(owner.order), owner.file, owner.patience())
    machine = owner.up()
    owner.azure().address(machine)
    owner.azure().stop(machine)
    owner.azure().start(machine)
    owner.stock().survey()
    fake.one("virtualNetworks")["body"]["properties"]["subnets"][0]["properties"]["networkSecurityGroup"]["id"] = "none"
    owner.up()
    fake.one("virtualMachines")["body"]["tags"] = {}
    del fake.objects[machine.lower()]  # its disk is left behind
    [left] = [each for each in fake.live("disks") if each.pop("of", None)]
    left["body"]["properties"]["diskState"] = "Unattached"
    owner.down()
    assert fake.live() == []
    found = set()
    for method, path, _, body in fake.calls:
        if path.startswith("/subscriptions/"):
            found |= {action(method, path), *(linked(body) if method == "PUT" else ())}
    return found


def test_the_roles_are_exactly_what_is_called(needed: set[str]) -> None:
    assert needed == {*permissions.IN_GROUP, *permissions.IN_SUBSCRIPTION}


@pytest.mark.parametrize(("name", "actions"), [("azure-role", permissions.IN_GROUP), ("azure-role-look", permissions.IN_SUBSCRIPTION)])
def test_the_published_roles_are_those(name: str, actions: tuple[str, ...]) -> None:
    assert role(name)["Actions"] == list(actions) == sorted(actions)


def test_no_wildcards_and_no_power_beyond_the_group() -> None:
    whole = role("azure-role")
    assert not [name for name in whole["Actions"] if "*" in name]
    assert not [name for name in whole["Actions"] if "roleAssignments" in name or "runCommand" in name or "extensions" in name]
    assert whole["DataActions"] == []
    assert all(name.endswith("/read") for name in role("azure-role-look")["Actions"])


@pytest.mark.parametrize(
    ("granted", "lacking"),
    [
        ([{"actions": ["*"], "notActions": []}], 0),
        ([{"actions": ["*"], "notActions": ["Microsoft.Network/*/write"]}], 4),
        ([{"actions": ["*"], "notActions": ["*/delete"]}, {"actions": ["Microsoft.Compute/*"], "notActions": []}], 4),
        ([{"actions": ["*/read"], "notActions": []}], len([name for name in permissions.IN_GROUP if not name.endswith("/read")])),
        ([{"actions": ["microsoft.compute/*", "microsoft.network/*", "Microsoft.Resources/*"], "notActions": []}], 1),
        ([], len(permissions.IN_GROUP)),
    ],
)
def test_what_is_missing_of_them_is_found(granted: list[dict[str, Any]], lacking: int) -> None:
    assert len(permissions.missing(granted)) == lacking
