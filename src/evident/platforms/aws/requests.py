"""Pure builders: a specification to the parameters of one EC2 or EBS direct API call, as the SDK names them.

Source: EC2 API 2016-11-15 and EBS direct API, service models of botocore 1.44.5. Never among the parameters: ``UserData`` and
``KeyName``. User data is readable by the provider and by everybody in the account, and no part of it is attested.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evident.files import read_private
from evident.platforms import cloud
from evident.platforms.opening import Opening
from evident.platforms.order import Order
from evident.platforms.resources import Resource

Request = dict[str, Any]

BLOCK = 524_288
"""The EBS direct API's only block size, bytes."""
GIB = 1 << 30
ROOT_DEVICE = "/dev/xvda"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """A raw disk image that boots by UEFI, x86-64."""

    sha256: str
    """Of the file, hex."""
    size: int
    """Bytes."""
    uefi_data: str | None = None
    """Base64 of the UEFI variable store: brings the owner's Secure Boot keys. None: Secure Boot off."""

    @property
    def volume_gib(self) -> int:
        return max(1, -(-self.size // GIB))

    @property
    def terms(self) -> Request:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One confidential VM."""

    instance_type: str
    subnet: str
    openings: tuple[Opening, ...] = ()
    public_address: bool = False

    @property
    def group_terms(self) -> Request:
        return {"openings": [asdict(opening) for opening in self.openings]}

    def instance_terms(self, image: ImageSpec) -> Request:
        return {"image": image.terms, "type": self.instance_type, "subnet": self.subnet, "public": self.public_address}


def machine_spec(order: Order) -> MachineSpec:
    """Raises `Unsupported` ``cloud.unsupported`` for another technology than SEV-SNP: EC2 has no other (service model of botocore)."""
    if order.technology != "snp":
        raise cloud.unsupported(f"{order.technology.upper()} on EC2", "Ask for `technology: snp`, or for another platform.")
    where = order.where
    return MachineSpec(where["type"], where["subnet"], order.openings, public_address=where.get("public") == "yes")


def uefi_data(order: Order) -> str | None:
    """The variable store that brings the owner's Secure Boot keys, base64. Raises `UsageError` where it cannot be read."""
    path = order.where.get("uefi_data")
    return None if path is None else read_private(Path(path)).decode("ascii", "replace").strip()


def tags(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in sorted(values.items())]


def tag_filters(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Filters of a Describe call that only what carries all the tags passes."""
    return [{"Name": f"tag:{name}", "Values": [value]} for name, value in sorted(values.items())]


def _tagged(resource: Resource, *kinds: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags({"Name": resource.name, **resource.tags})} for kind in kinds]


def start_snapshot(resource: Resource, image: ImageSpec) -> Request:
    """A snapshot to write `image` into. It is given up by EBS when no block arrives for an hour."""
    return {
        "VolumeSize": image.volume_gib,
        "ClientToken": resource.key,
        "Description": f"sha256:{image.sha256}",
        "Tags": tags({"Name": resource.name, **resource.tags}),
        "Timeout": 60,
    }


def put_block(snapshot: str, index: int, data: bytes) -> Request | None:
    """Write `data`, at most one block; a shorter last one is filled with zeros.

    None for a block of zeros: unwritten blocks read as such.
    """
    if data == bytes(len(data)):
        return None
    block = data.ljust(BLOCK, b"\0")
    return {
        "SnapshotId": snapshot,
        "BlockIndex": index,
        "BlockData": block,
        "DataLength": BLOCK,
        "Checksum": base64.b64encode(hashlib.sha256(block).digest()).decode(),
        "ChecksumAlgorithm": "SHA256",
    }


def complete_snapshot(snapshot: str, written: int) -> Request:
    """Seal it. Without an aggregated checksum: EBS has checked every block against its own, and `written` says that none is missing."""
    return {"SnapshotId": snapshot, "ChangedBlocksCount": written}


def register_image(resource: Resource, image: ImageSpec, snapshot: str) -> Request:
    """An AMI that boots by UEFI with a NitroTPM and serves metadata by IMDSv2 only.

    Architecture and virtualization type are always said: for EBS-backed images they default to i386 and paravirtual.
    """
    request: Request = {
        "Name": resource.name,
        "Description": f"sha256:{image.sha256}",
        "Architecture": "x86_64",
        "BootMode": "uefi",
        "TpmSupport": "v2.0",
        "ImdsSupport": "v2.0",
        "EnaSupport": True,
        "VirtualizationType": "hvm",
        "RootDeviceName": ROOT_DEVICE,
        "BlockDeviceMappings": [
            {"DeviceName": ROOT_DEVICE, "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3", "DeleteOnTermination": True}}
        ],
        "TagSpecifications": _tagged(resource, "image"),
    }
    return request if image.uefi_data is None else {**request, "UefiData": image.uefi_data}


def create_group(resource: Resource, vpc: str) -> Request:
    """EC2 gives every new group one rule by itself, everything out; `default_egress` takes it away."""
    return {
        "GroupName": resource.name,
        "Description": "Evident: what the specification opens, nothing else",
        "VpcId": vpc,
        "TagSpecifications": _tagged(resource, "security-group"),
    }


def permission(opening: Opening) -> Request:
    ranges = {"Ipv6Ranges": [{"CidrIpv6": opening.peer}]} if ":" in opening.peer else {"IpRanges": [{"CidrIp": opening.peer}]}
    return {"IpProtocol": opening.protocol, "FromPort": opening.port, "ToPort": opening.port, **ranges}


def _opened_by(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    peer = rule.get("CidrIpv4") or rule.get("CidrIpv6")
    return ("out" if rule["IsEgress"] else "in", rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), peer)


def _asked(opening: Opening) -> tuple[Any, ...]:
    return (opening.direction, opening.protocol, opening.port, opening.port, opening.peer)


def default_egress(group: str) -> list[Request]:
    """Close what EC2 opens of a new group by itself: everything out, IPv4, and IPv6 where the VPC has it."""
    everywhere: list[Request] = [{"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}]
    return [{"GroupId": group, "IpPermissions": [{"IpProtocol": "-1", **ranges}]} for ranges in everywhere]


def rule_changes(group: str, rules: list[dict[str, Any]], openings: tuple[Opening, ...]) -> list[tuple[str, Request]]:
    """Operations that turn the listed `rules` of `group` into `openings`; none when they are the same."""
    asked, there = {_asked(opening) for opening in openings}, {_opened_by(rule) for rule in rules}
    changes: list[tuple[str, Request]] = []
    for direction, name in (("in", "ingress"), ("out", "egress")):
        surplus = [rule for rule in rules if _opened_by(rule)[0] == direction and _opened_by(rule) not in asked]
        missing = [opening for opening in openings if opening.direction == direction and _asked(opening) not in there]
        if surplus:
            identifiers = [rule["SecurityGroupRuleId"] for rule in surplus]
            changes.append((f"revoke_security_group_{name}", {"GroupId": group, "SecurityGroupRuleIds": identifiers}))
        if missing:
            permissions = [permission(opening) for opening in missing]
            changes.append((f"authorize_security_group_{name}", {"GroupId": group, "IpPermissions": permissions}))
    return changes


def run_instance(resource: Resource, spec: MachineSpec, volume_gib: int, image: str, group: str) -> Request:
    """One SEV-SNP machine, root volume encrypted by the host's key (which keeps other tenants out, not the provider)."""
    return {
        "ImageId": image,
        "InstanceType": spec.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": resource.key,
        "CpuOptions": {"AmdSevSnp": "enabled"},
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": spec.subnet,
                "Groups": [group],
                "AssociatePublicIpAddress": spec.public_address,
                "DeleteOnTermination": True,
            }
        ],
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": ROOT_DEVICE,
                "Ebs": {"VolumeSize": volume_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": _tagged(resource, "instance", "volume", "network-interface"),
    }


def stop_instance(instance: str) -> Request:
    return {"InstanceIds": [instance]}


def start_instance(instance: str) -> Request:
    return {"InstanceIds": [instance]}


def ek_pub(instance: str) -> Request:
    """The NitroTPM's endorsement key as DER; of its kinds the one that guests make of the default template (EK Credential Profile, L-1)."""
    return {"InstanceId": instance, "KeyType": "rsa-2048", "KeyFormat": "der"}
