"""Pure builders: an order to the bodies of requests to Azure's Resource Manager, in wire form.

Source: the SDK's own models, azure-mgmt-compute 39.0.0 (compute 2026-04-01, disks 2026-03-02) and azure-mgmt-network 33.1.0. A test holds
every body against them. Wire form, because it outlives the SDK's refactoring of its classes.

Never among them: ``osProfile`` with its ``customData`` and keys. The image is specialised: nothing provisions it, and what Azure would
hand it is readable by the provider and attested by nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evident.files import read_private
from evident.platforms.azure.machine import MachineSpec
from evident.platforms.opening import Opening
from evident.platforms.order import Order
from evident.platforms.resources import Resource

Body = dict[str, Any]

MIB = 1 << 20
FOOTER = 512
"""Bytes of a VHD's footer."""
VERSION = "1.0.0"
"""Of the one image that a deployment's gallery holds."""
SUBNET = "machines"
OS_DISK = "-os"
"""End of the name of the disk that comes with a machine."""
UPLOADED = "evident-uploaded"
"""Tag of a disk whose every page has arrived: SHA-256 of the image."""
ACCESS_SECONDS = 86_400
_DENY_PRIORITY = 4096
_FIRST_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class UefiKeys:
    """The owner's Secure Boot keys, X.509 in DER, base64."""

    pk: str
    kek: str
    db: str


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """A raw disk image that boots by UEFI, x86-64."""

    sha256: str
    """Of the file, hex."""
    size: int
    """Bytes."""
    keys: UefiKeys | None = None
    """None: Secure Boot off."""

    @property
    def disk_bytes(self) -> int:
        """Of the virtual disk: whole MiB, as Azure demands."""
        return -(-self.size // MIB) * MIB

    @property
    def terms(self) -> Body:
        return asdict(self)


def secure_boot_keys(order: Order) -> UefiKeys | None:
    """``PK.der``, ``KEK.der`` and ``db.der`` in the ordered directory. Raises `UsageError` where one cannot be read."""
    directory = order.where.get("secure_boot_keys")
    if directory is None:
        return None
    pk, kek, db = (base64.b64encode(read_private(Path(directory) / f"{name}.der")).decode() for name in ("PK", "KEK", "db"))
    return UefiKeys(pk, kek, db)


def _tagged(tags: Mapping[str, str], region: str, properties: Body, **more: Any) -> Body:
    return {"location": region, "tags": dict(tags), "properties": properties, **more}


def disk(resource: Resource, region: str, image: ImageSpec) -> Body:
    """A managed disk that waits for `image` as a fixed VHD."""
    creation = {"createOption": "Upload", "uploadSizeBytes": image.disk_bytes + FOOTER}
    properties = {"osType": "Linux", "hyperVGeneration": "V2", "creationData": creation}
    return _tagged(resource.tags, region, properties, sku={"name": "Standard_LRS"})


def access() -> Body:
    """Ask for a URL to write the disk's pages to. It is a secret until `revoke_access`."""
    return {"access": "Write", "durationInSeconds": ACCESS_SECONDS}


def uploaded(tags: Mapping[str, str], image: ImageSpec) -> Body:
    """Write on the disk that it is whole. Only that tells it from one whose access ended half-way: both are ``Unattached``."""
    return {"tags": {**tags, UPLOADED: image.sha256}}


def gallery(resource: Resource, region: str) -> Body:
    return _tagged(resource.tags, region, {"description": "Evident: the image of one deployment"})


def gallery_name(resource: Resource) -> str:
    """Galleries are the one kind whose names may hold no hyphens."""
    return resource.name.replace("-", "_")


def image(resource: Resource, region: str) -> Body:
    """What Azure has to know of the image. ``ConfidentialVMSupported``: a disk without guest state of its own, for confidential VMs."""
    properties = {
        "osType": "Linux",
        "osState": "Specialized",
        "hyperVGeneration": "V2",
        "architecture": "x64",
        "identifier": {"publisher": "evident", "offer": resource.name, "sku": "uki"},
        "features": [
            {"name": "SecurityType", "value": "ConfidentialVMSupported"},
            {"name": "DiskControllerTypes", "value": "SCSI, NVMe"},
        ],
    }
    return _tagged(resource.tags, region, properties)


def image_version(resource: Resource, region: str, disk_id: str, keys: UefiKeys | None) -> Body:
    """The image's one version, copied from the uploaded disk; with `keys`, they and no others are in the UEFI variables."""
    replica = {"name": region, "regionalReplicaCount": 1, "storageAccountType": "Standard_LRS"}
    properties: Body = {
        "publishingProfile": {"targetRegions": [replica], "replicationMode": "Full"},
        "storageProfile": {"osDiskImage": {"hostCaching": "ReadOnly", "source": {"id": disk_id}}},
    }
    if keys is not None:
        signatures = {"pk": _key(keys.pk), "kek": [_key(keys.kek)], "db": [_key(keys.db)]}
        settings = {"signatureTemplateNames": ["NoSignatureTemplate"], "additionalSignatures": signatures}
        properties["securityProfile"] = {"uefiSettings": settings}
    return _tagged(resource.tags, region, properties)


def _key(value: str) -> Body:
    return {"type": "x509", "value": [value]}


def rules(openings: tuple[Opening, ...]) -> list[Body]:
    """What the network lets through, then a refusal of everything else.

    The refusals come before Azure's own rules of priority 65000 and up, which let in the whole virtual network and load balancers, and
    let out everything.
    """
    made = [_rule(f"opening-{number}", _FIRST_PRIORITY + number, opening) for number, opening in enumerate(openings)]
    return [*made, _refusal("Inbound"), _refusal("Outbound")]


def _rule(name: str, priority: int, opening: Opening) -> Body:
    inbound = opening.direction == "in"
    properties = {
        "direction": "Inbound" if inbound else "Outbound",
        "access": "Allow",
        "priority": priority,
        "protocol": opening.protocol.capitalize(),
        "sourceAddressPrefix": opening.peer if inbound else "*",
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*" if inbound else opening.peer,
        "destinationPortRange": str(opening.port),
    }
    return {"name": name, "properties": properties}


def _refusal(direction: str) -> Body:
    everything = dict.fromkeys(("protocol", "sourceAddressPrefix", "sourcePortRange", "destinationAddressPrefix"), "*")
    properties = {"direction": direction, "access": "Deny", "priority": _DENY_PRIORITY, **everything, "destinationPortRange": "*"}
    return {"name": f"refuse-{direction.lower()}", "properties": properties}


def security_group(tags: Mapping[str, str], spec: MachineSpec) -> Body:
    return _tagged(tags, spec.region, {"securityRules": rules(spec.openings)})


def opens(listed: Body, openings: tuple[Opening, ...]) -> bool:
    """Whether the `listed` properties of a security group let through `openings` and nothing else, whatever else Azure tells of it."""
    there = {rule["name"]: rule["properties"] for rule in listed.get("securityRules", [])}
    wanted = {rule["name"]: rule["properties"] for rule in rules(openings)}
    return there.keys() == wanted.keys() and all(there[name].items() >= wanted[name].items() for name in wanted)


def network(tags: Mapping[str, str], region: str, group_id: str) -> Body:
    """A virtual network that nothing else is in, its one subnet behind the security group."""
    subnet = {"addressPrefix": "10.0.0.0/24", "networkSecurityGroup": {"id": group_id}, "defaultOutboundAccess": False}
    properties = {"addressSpace": {"addressPrefixes": ["10.0.0.0/24"]}, "subnets": [{"name": SUBNET, "properties": subnet}]}
    return _tagged(tags, region, properties)


def guarded(listed: Body, group_id: str) -> bool:
    """Whether every subnet of the `listed` properties of a network is behind the security group."""
    groups = {subnet["properties"].get("networkSecurityGroup", {}).get("id", "").lower() for subnet in listed.get("subnets", [])}
    return groups == {group_id.lower()}


def address(tags: Mapping[str, str], region: str) -> Body:
    properties = {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}
    return _tagged(tags, region, properties, sku={"name": "Standard"})


def network_interface(tags: Mapping[str, str], region: str, network_id: str, address_id: str | None) -> Body:
    at: Body = {"primary": True, "privateIPAllocationMethod": "Dynamic", "subnet": {"id": f"{network_id}/subnets/{SUBNET}"}}
    if address_id is not None:
        at["publicIPAddress"] = {"id": address_id}
    return _tagged(tags, region, {"ipConfigurations": [{"name": "main", "properties": at}]})


def machine(resource: Resource, spec: MachineSpec, version_id: str, interface_id: str, *, secure_boot: bool) -> Body:
    """A confidential VM with a vTPM. Its disk is tagged like it (Azure copies the tags at creation) and deleted with it."""
    disk = {
        "name": f"{resource.name}{OS_DISK}",
        "createOption": "FromImage",
        "deleteOption": "Delete",
        "managedDisk": {"storageAccountType": "Premium_LRS", "securityProfile": {"securityEncryptionType": spec.encryption}},
    }
    properties = {
        "hardwareProfile": {"vmSize": spec.size},
        "securityProfile": {
            "securityType": "ConfidentialVM",
            "uefiSettings": {"vTpmEnabled": True, "secureBootEnabled": secure_boot},
        },
        "storageProfile": {"imageReference": {"id": version_id}, "osDisk": disk},
        "networkProfile": {"networkInterfaces": [{"id": interface_id, "properties": {"primary": True, "deleteOption": "Detach"}}]},
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": False}},
    }
    return _tagged(resource.tags, spec.region, properties, **({"zones": [spec.zone]} if spec.zone else {}))
