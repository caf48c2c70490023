"""Every request as it arrives at the other end of a socket, against golden files that somebody has read, and the SDK's own models.

EVIDENT_UPDATE_GOLDEN=1 writes the files anew: read the difference before you commit it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
import types
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.compute import models as compute
from azure.mgmt.network import models as network

from evident.platforms.opening import Opening

GOLDEN = Path(__file__).parent / "golden"
MODELS = {
    "disks": compute.Disk,
    "galleries": compute.Gallery,
    "images": compute.GalleryImage,
    "versions": compute.GalleryImageVersion,
    "virtualMachines": compute.VirtualMachine,
    "networkSecurityGroups": network.NetworkSecurityGroup,
    "virtualNetworks": network.VirtualNetwork,
    "publicIPAddresses": network.PublicIPAddress,
    "networkInterfaces": network.NetworkInterface,
    "beginGetAccess": compute.GrantAccessData,
    "PATCH disks": compute.DiskUpdate,
    "skus": compute.ResourceSku,
    "usages": compute.Usage,
}
CREATING = ("disks", "galleries", "images", "versions", "networkSecurityGroups", "virtualNetworks", "publicIPAddresses")
NAMES = {
    *(f"put-{kind}" for kind in (*CREATING, "networkInterfaces", "virtualMachines", "page")),
    *(f"delete-{kind}" for kind in (*CREATING, "networkInterfaces", "virtualMachines")),
    *(f"post-{action}" for action in ("beginGetAccess", "endGetAccess", "start", "deallocate")),
    "patch-disks",
}
VARIANTS = {"put-versions-own-keys", "put-virtualMachines-own-keys", "put-networkInterfaces-closed", "put-networkSecurityGroups-closed"}


def written(method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """A request, readable: what a reviewer has to see of it."""
    told = {name.lower(): value for name, value in headers.items()}
    shown = {name: value for name, value in told.items() if name in {"content-md5", "x-ms-version", "x-ms-range", "x-ms-page-write"}}
    readable: Any = json.loads(body) if body.startswith(b"{") else f"{len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}"
    return {"method": method, "url": url, "headers": shown, "body": readable if body else None}


def seen(fake: Any, work: Any) -> dict[str, dict[str, Any]]:
    """The first request of each method and type that `work` sends and that changes something."""
    found: dict[str, dict[str, Any]] = {}
    handle = fake.handle

    def noting(method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        answer = handle(method, url, headers, body)
        path = fake.calls[-1][1]
        if method != "GET":
            name = "page" if "md-" in url else fake._type(path)
            found.setdefault(f"{method.lower()}-{name}", written(method, url, headers, body))
        return answer

    fake.handle = noting
    work()
    fake.handle = handle
    return found


@pytest.fixture
def sent(owner: Any, fake: Any, loopback: Any, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Everything that two lives send over HTTP: a plain one, and one with all that can be ordered besides."""
    owner.clients = loopback

    def plain() -> None:
        machine = owner.up()
        owner.azure().stop(machine)
        owner.azure().start(machine)
        owner.down()

    found = seen(fake, plain)
    for name in ("PK", "KEK", "db"):
        (tmp_path / f"{name}.der").write_bytes(name.encode())
    more = {"secure_boot_keys": str(tmp_path), "zone": "2", "encryption": "DiskWithVMGuestState"}
    owner.order = replace(owner.order, where={**owner.order.where, **more}, openings=())
    owner.path, owner.seed = tmp_path / "other.jsonl", "other"
    other = seen(fake, owner.up)
    return {
        **found,
        "put-versions-own-keys": other["put-versions"],
        "put-virtualMachines-own-keys": other["put-virtualMachines"],
        "put-networkInterfaces-closed": other["put-networkInterfaces"],
        "put-networkSecurityGroups-closed": other["put-networkSecurityGroups"],
    }


def test_the_requests_are_the_reviewed_ones(sent: dict[str, dict[str, Any]]) -> None:
    assert set(sent) == NAMES | VARIANTS
    if os.environ.get("EVIDENT_UPDATE_GOLDEN"):
        for name, request in sent.items():
            (GOLDEN / f"{name}.json").write_text(json.dumps(request, indent=1, sort_keys=True) + "\n")
    for name, request in sent.items():
        assert request == json.loads((GOLDEN / f"{name}.json").read_text()), name


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == NAMES | VARIANTS


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


def strange(hint: Any, value: Any, path: str, *, given: bool) -> list[str]:
    """What the SDK's model `hint` does not know of `value`; where it is `given` by us, also what is only ever told by Azure."""
    parts = [hint, *typing.get_args(hint)] if typing.get_origin(hint) in {typing.Union, types.UnionType} else [hint]
    for part in parts:
        if (
            isinstance(part, type) and issubclass(part, enum.Enum) and part is not compute.VirtualMachineSizeTypes
        ):  # by its own word out of date
            return [] if value in {each.value for each in part} else [f"{path}: {value}"]
        if typing.get_origin(part) is list:
            (inner,) = typing.get_args(part)
            return [problem for number, each in enumerate(value) for problem in strange(inner, each, f"{path}[{number}]", given=given)]
        if hasattr(part, "_attr_to_rest_field"):
            return _strange_model(part, value, path, given=given)
    return []


def _strange_model(model: Any, value: dict[str, Any], path: str, *, given: bool) -> list[str]:
    module = compute if "compute" in model.__module__ else network
    hints = typing.get_type_hints(model, localns={**vars(module), "_models": module})
    fields = {field._rest_name: (name, field) for name, field in model._attr_to_rest_field.items()}
    found = []
    for name, inner in value.items():
        if name not in fields:
            found.append(f"{path}.{name}")
        elif given and fields[name][1]._visibility == ["read"]:
            found.append(f"{path}.{name}: read-only")
        else:
            found += strange(hints.get(fields[name][0]), inner, f"{path}.{name}", given=given)
    return found


@pytest.mark.parametrize("name", sorted(name for name in NAMES | VARIANTS if name.startswith(("put-", "patch-", "post-beginGetAccess"))))
def test_the_sdks_models_know_every_member(name: str) -> None:
    body = golden(name)["body"]
    if name == "put-page":
        return
    kind = "PATCH disks" if name == "patch-disks" else name.split("-")[1]
    assert strange(MODELS[kind], body, kind, given=True) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"securityProfile": {"securitytype": "ConfidentialVM"}}, "securityProfile.securitytype"),
        ({"securityProfile": {"securityType": "Confidential"}}, "securityProfile.securityType: Confidential"),
        ({"vmId": "mine"}, "vmId: read-only"),
    ],
)
def test_a_misspelt_member_would_be_noticed(change: dict[str, Any], problem: str) -> None:
    body = golden("put-virtualMachines")["body"]
    body["properties"].update(change)
    assert strange(MODELS["virtualMachines"], body, "vm", given=True) == [f"vm.properties.{problem}"]


def test_the_answers_are_what_the_sdks_models_tell(owner: Any, fake: Any) -> None:
    """What our server answers, Azure could have answered: every member is one of the SDK's."""
    machine = owner.up()
    owner.azure().address(machine)
    owner.down()
    checked = 0
    for _, path, told in fake.answers:
        kind = fake._type(path)
        for each in told.get("value", [told]) if told and kind in MODELS else ():
            assert strange(MODELS[kind], each, kind, given=False) == []
            checked += 1
    assert checked > 50


@pytest.mark.parametrize("kind", [*CREATING, "networkInterfaces", "virtualMachines"])
def test_whatever_is_created_carries_every_tag(kind: str) -> None:
    request = golden(f"put-{kind}")
    assert set(request["body"]["tags"]) == {"evident-deployment", "evident-generation", "evident-id", "evident-key"}
    key = request["body"]["tags"]["evident-key"][:8]
    assert key in request["url"] or kind == "versions"  # which is named after its image


def test_what_must_be_in_the_wire_form_of_a_confidential_machine() -> None:
    plain = golden("put-virtualMachines")["body"]["properties"]
    assert plain["securityProfile"] == {"securityType": "ConfidentialVM", "uefiSettings": {"vTpmEnabled": True, "secureBootEnabled": False}}
    disk = plain["storageProfile"]["osDisk"]
    assert disk["managedDisk"]["securityProfile"] == {"securityEncryptionType": "VMGuestStateOnly"}
    assert disk["deleteOption"] == "Delete"
    assert not {"osProfile", "userData", "extensionsTimeBudget"} & set(plain)
    text = json.dumps([golden(name) for name in NAMES])
    assert not [word for word in ("customData", "adminPassword", "userData", "linuxConfiguration") if word in text]
    own = golden("put-virtualMachines-own-keys")["body"]
    assert own["properties"]["securityProfile"]["uefiSettings"]["secureBootEnabled"] is True
    assert (
        own["properties"]["storageProfile"]["osDisk"]["managedDisk"]["securityProfile"]["securityEncryptionType"] == "DiskWithVMGuestState"
    )
    assert own["zones"] == ["2"]


def test_the_image_is_for_confidential_machines_and_brings_the_owners_keys() -> None:
    image = golden("put-images")["body"]["properties"]
    assert {"name": "SecurityType", "value": "ConfidentialVMSupported"} in image["features"]
    assert (image["osState"], image["hyperVGeneration"]) == ("Specialized", "V2")
    assert "securityProfile" not in golden("put-versions")["body"]["properties"]
    settings = golden("put-versions-own-keys")["body"]["properties"]["securityProfile"]["uefiSettings"]
    assert settings["signatureTemplateNames"] == ["NoSignatureTemplate"]
    assert set(settings["additionalSignatures"]) == {"pk", "kek", "db"}


def test_nothing_is_open_but_what_is_asked() -> None:
    rules = [rule["properties"] for rule in golden("put-networkSecurityGroups")["body"]["properties"]["securityRules"]]
    allowed = [rule for rule in rules if rule["access"] == "Allow"]
    assert [(rule["direction"], rule["destinationPortRange"]) for rule in allowed] == [("Inbound", "8442"), ("Outbound", "443")]
    assert (allowed[0]["sourceAddressPrefix"], allowed[1]["destinationAddressPrefix"]) == ("203.0.113.0/24", "198.51.100.7/32")
    for name in ("put-networkSecurityGroups", "put-networkSecurityGroups-closed"):
        rules = [rule["properties"] for rule in golden(name)["body"]["properties"]["securityRules"]]
        denied = [rule for rule in rules if rule["access"] == "Deny"]
        assert {rule["direction"] for rule in denied} == {"Inbound", "Outbound"}
        assert all(rule["priority"] > other["priority"] for rule in denied for other in rules if other not in denied)
        assert {rule[part] for rule in denied for part in ("protocol", "sourceAddressPrefix", "destinationPortRange")} == {"*"}
    (subnet,) = golden("put-virtualNetworks")["body"]["properties"]["subnets"]
    assert subnet["properties"]["defaultOutboundAccess"] is False
    assert subnet["properties"]["networkSecurityGroup"]["id"].endswith(
        golden("put-networkSecurityGroups")["url"].split("/")[-1].split("?")[0]
    )


def test_only_what_is_open_has_a_public_address() -> None:
    for name, public in (("put-networkInterfaces", True), ("put-networkInterfaces-closed", False)):
        (at,) = golden(name)["body"]["properties"]["ipConfigurations"]
        assert ("publicIPAddress" in at["properties"]) is public


def test_ipv6_is_refused_for_the_network_has_none(owner: Any, fake: Any) -> None:
    owner.order = replace(owner.order, openings=(Opening("in", "tcp", 8442, "2001:db8::/32"),))
    with pytest.raises(Exception, match="IPv6"):
        owner.up()
    assert fake.calls == []
