"""Pure builders: a specification to the parameters of one call, as google-cloud-compute names them, or of one HTTP request.

Sources: Compute Engine API v1, messages of google-cloud-compute 1.57; Cloud Storage JSON API v1, buckets, objects and "Resumable uploads";
Cloud Resource Manager API v3, projects.testIamPermissions. Never among the parameters: a start-up script or ``user-data``, SSH keys, a
service account. Metadata is Google's to serve and to change, and no part of it is attested; with a service account, whoever got into the
machine could call Google in the project's name.

Instances, disks, images and buckets carry the deployment's tags as labels. Networks, subnetworks and firewall rules have no labels:
networks and subnetworks carry the tags in their description; whatever rule is in a network of the deployment is the deployment's.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from evident.platforms.gcp.machine import MachineSpec
from evident.platforms.resources import TAG_ID, Resource

Request = dict[str, Any]

GIB: Final = 1 << 30
CHUNK: Final = 8 << 20
"""Bytes sent at once; Cloud Storage takes multiples of 256 KiB."""
OBJECT: Final = "disk.tar.gz"
CONFIDENTIAL: Final[Mapping[str, str]] = {"snp": "SEV_SNP", "tdx": "TDX"}
"""Technology to Google's name of it."""
FEATURES: Final = ("UEFI_COMPATIBLE", "GVNIC", "VIRTIO_SCSI_MULTIQUEUE", "SEV_SNP_CAPABLE", "TDX_CAPABLE")
_IPV4_RANGE: Final = "10.73.0.0/29"
"""The smallest that Google has; the network is the deployment's own, so it overlaps nothing."""
_DENY, _ALLOW = 65000, 1000
"""Priorities of firewall rules: the smaller number wins, and the rules that Google implies have the largest."""

_COLLECTIONS: Final[Mapping[str, tuple[str, Literal["zone", "region", "global"]]]] = {
    "instance": ("instances", "zone"),
    "disk": ("disks", "zone"),
    "image": ("images", "global"),
    "firewall": ("firewalls", "global"),
    "subnetwork": ("subnetworks", "region"),
    "network": ("networks", "global"),
}
LABELLED: Final = frozenset({"instance", "disk", "image", "bucket"})


@dataclass(frozen=True, slots=True)
class Place:
    project: str
    zone: str

    @property
    def region(self) -> str:
        return self.zone.rpartition("-")[0]

    def scope(self, kind: str) -> Request:
        """What says where things of `kind` are."""
        within = _COLLECTIONS[kind][1]
        return {"project": self.project, **({} if within == "global" else {within: getattr(self, within)})}

    def path(self, kind: str, name: str) -> str:
        """`name` as other resources refer to it."""
        collection, within = _COLLECTIONS[kind]
        middle = {"global": "global", "region": f"regions/{self.region}", "zone": f"zones/{self.zone}"}[within]
        return f"projects/{self.project}/{middle}/{collection}/{name}"


def collection(kind: str) -> str:
    return _COLLECTIONS[kind][0]


def operations(kind: str) -> str:
    """The client that knows the operations on things of `kind`."""
    return f"{_COLLECTIONS[kind][1]}_operations"


@dataclass(frozen=True, slots=True)
class SecureBootKeys:
    """The owner's own, X.509 in DER each; they take the place of Google's and Microsoft's."""

    pk: bytes
    kek: bytes
    db: bytes

    @property
    def terms(self) -> Request:
        return {name: hashlib.sha256(getattr(self, name)).hexdigest() for name in ("pk", "kek", "db")}


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """A raw disk image that boots by UEFI, x86-64."""

    sha256: str
    """Of the file, hex."""
    size: int
    """Bytes."""
    keys: SecureBootKeys | None = None
    """None: Secure Boot off, for a machine with Google's keys boots only what Microsoft's key has signed."""

    @property
    def disk_gib(self) -> int:
        return max(1, -(-self.size // GIB))

    @property
    def terms(self) -> Request:
        return {"sha256": self.sha256, "size": self.size, "keys": self.keys.terms if self.keys else None}


# -- any kind


def tag_text(tags: Mapping[str, str]) -> str:
    """`tags` as the description of what has no labels."""
    return " ".join(f"{name}={value}" for name, value in sorted(tags.items()))


def tags_in(kind: str, listed: Any) -> Mapping[str, str]:
    """The tags of a listed resource."""
    if kind in LABELLED:
        return dict(listed.labels)
    return dict(pair.split("=", 1) for pair in listed.description.split() if "=" in pair)


def insert(place: Place, kind: str, body: Request, key: str | None) -> Request:
    """`key`: a call that is repeated with the same one within the hour makes nothing new, even if it failed, or what it made was removed.

    After that, and without one, a name that is taken does the same.
    """
    return {**place.scope(kind), f"{kind}_resource": body, **({} if key is None else {"request_id": key})}


def one(place: Place, kind: str, name: str) -> Request:
    return {**place.scope(kind), kind: name}


def listing(place: Place, kind: str, tags: Mapping[str, str]) -> Request:
    """All of `kind` that could carry `tags`; who asks still has to look, for a filter is Google's to read."""
    if kind in LABELLED:
        return {**place.scope(kind), "filter": f'labels.{TAG_ID} eq "{tags[TAG_ID]}"'}
    return place.scope(kind)


def operations_on(place: Place, kind: str, name: str) -> Request:
    """The operations on `name`; the one that made it is among them."""
    return {**place.scope(kind), "filter": f'targetLink eq ".*/{collection(kind)}/{name}"'}


def operation(place: Place, kind: str, name: str) -> Request:
    return {**place.scope(kind), "operation": name}


# -- network


def network(resource: Resource) -> Request:
    return {"name": resource.name, "description": tag_text(resource.tags), "auto_create_subnetworks": False}


def subnetwork(resource: Resource, place: Place, spec: MachineSpec, network_name: str) -> Request:
    body: Request = {
        "name": resource.name,
        "description": tag_text(resource.tags),
        "network": place.path("network", network_name),
        "ip_cidr_range": _IPV4_RANGE,
        "private_ip_google_access": False,
        "stack_type": "IPV4_ONLY",
    }
    return {**body, "stack_type": "IPV4_IPV6", "ipv6_access_type": "EXTERNAL"} if spec.ipv6 else body


def firewall_rules(place: Place, network_name: str, spec: MachineSpec) -> dict[str, Request]:
    """Every rule that `network_name` is to have, by name. A rule's name tells what is in it, so that it never has to be changed.

    Google lets out everything unless told otherwise, and nothing in: so the first rules close the way out.
    """
    families = ["0.0.0.0/0", *(["::/0"] if spec.ipv6 else [])]
    everything = [{"I_p_protocol": "all"}]
    bodies: list[Request] = [
        {"direction": "EGRESS", "priority": _DENY, "destination_ranges": [family], "denied": everything} for family in families
    ]
    for direction, peer in sorted({(opening.direction, opening.peer) for opening in spec.openings}):
        asked = {(each.protocol, each.port) for each in spec.openings if (each.direction, each.peer) == (direction, peer)}
        allowed = [
            {"I_p_protocol": protocol, "ports": [str(port) for name, port in sorted(asked) if name == protocol]}
            for protocol in sorted({name for name, _ in asked})
        ]
        way, ranges = ("INGRESS", "source_ranges") if direction == "in" else ("EGRESS", "destination_ranges")
        bodies.append({"direction": way, "priority": _ALLOW, ranges: [peer], "allowed": allowed})
    return {name: {"name": name, "network": place.path("network", network_name), **body} for name, body in _named(network_name, bodies)}


def _named(network_name: str, bodies: list[Request]) -> list[tuple[str, Request]]:
    digests = [hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() for body in bodies]
    return [(f"evident-{network_name[-8:]}-{digest[:16]}", body) for digest, body in zip(digests, bodies, strict=True)]


def same_rule(listed: Any, wanted: Request) -> bool:
    """Does a listed rule still say what it was made to say?"""
    said = (listed.direction, listed.priority, list(listed.source_ranges), list(listed.destination_ranges), listed.disabled)
    asked = (wanted["direction"], wanted["priority"], wanted.get("source_ranges", []), wanted.get("destination_ranges", []), False)
    return said == asked and all(_traffic(getattr(listed, name)) == _traffic(wanted.get(name, ())) for name in ("allowed", "denied"))


def _traffic(entries: Any) -> set[tuple[str, tuple[str, ...]]]:
    pairs = [
        (each["I_p_protocol"], each.get("ports", ())) if isinstance(each, dict) else (each.I_p_protocol, each.ports) for each in entries
    ]
    return {(protocol, tuple(sorted(ports))) for protocol, ports in pairs}


def rules_in(place: Place, network_name: str) -> Request:
    return {**place.scope("firewall"), "filter": f'network eq ".*/networks/{network_name}"'}


# -- image


def image(resource: Resource, place: Place, spec: ImageSpec, bucket_name: str) -> Request:
    """An image that boots by UEFI, confidentially, from the archive in the bucket; kept in the one region."""
    body: Request = {
        "name": resource.name,
        "description": f"sha256:{spec.sha256}",
        "labels": dict(resource.tags),
        "architecture": "X86_64",
        "disk_size_gb": spec.disk_gib,
        "raw_disk": {"container_type": "TAR", "source": f"https://storage.googleapis.com/{bucket_name}/{OBJECT}"},
        "guest_os_features": [{"type_": feature} for feature in FEATURES],
        "storage_locations": [place.region],
    }
    if spec.keys is None:
        return body
    pk, kek, db = (
        {"content": base64.b64encode(each).decode(), "file_type": "X509"} for each in (spec.keys.pk, spec.keys.kek, spec.keys.db)
    )
    return {**body, "shielded_instance_initial_state": {"pk": pk, "keks": [kek], "dbs": [db]}}


# -- machine


def instance(resource: Resource, place: Place, spec: MachineSpec, image_spec: ImageSpec, image_name: str, subnetwork_name: str) -> Request:
    """One confidential machine. Its disk is encrypted by Google's key, which keeps other tenants out, not Google."""
    zone = f"projects/{place.project}/zones/{place.zone}"
    disk = {
        "boot": True,
        "auto_delete": True,
        "interface": "NVME",
        "initialize_params": {
            "disk_name": resource.name,
            "source_image": place.path("image", image_name),
            "disk_size_gb": image_spec.disk_gib,
            "disk_type": f"{zone}/diskTypes/pd-balanced",
            "labels": dict(resource.tags),
        },
    }
    body: Request = {
        "name": resource.name,
        "labels": dict(resource.tags),
        "machine_type": f"{zone}/machineTypes/{spec.machine_type}",
        "confidential_instance_config": {"confidential_instance_type": CONFIDENTIAL[spec.technology]},
        "shielded_instance_config": {
            "enable_secure_boot": image_spec.keys is not None,
            "enable_vtpm": True,
            "enable_integrity_monitoring": True,
        },
        "scheduling": {"on_host_maintenance": "TERMINATE", "automatic_restart": True},
        "disks": [disk],
        "network_interfaces": [_interface(place, spec, subnetwork_name)],
        "metadata": {
            "items": [
                {"key": "block-project-ssh-keys", "value": "TRUE"},
                {"key": "serial-port-enable", "value": "FALSE"},
                {"key": "serial-port-logging-enable", "value": "FALSE"},
            ]
        },
    }
    # Only the Milan of these has SEV-SNP, and a zone may have Rome too.
    return {**body, "min_cpu_platform": "AMD Milan"} if spec.machine_type.startswith("n2d-") else body


def _interface(place: Place, spec: MachineSpec, subnetwork_name: str) -> Request:
    body: Request = {"subnetwork": place.path("subnetwork", subnetwork_name), "nic_type": "GVNIC", "stack_type": "IPV4_ONLY"}
    if spec.public(4):
        body["access_configs"] = [{"name": "external", "type_": "ONE_TO_ONE_NAT", "network_tier": "PREMIUM"}]
    if spec.ipv6:
        body["stack_type"] = "IPV4_IPV6"
        if spec.public(6):
            body["ipv6_access_configs"] = [{"name": "external-ipv6", "type_": "DIRECT_IPV6", "network_tier": "PREMIUM"}]
    return body


# -- Cloud Storage


def bucket_name(resource: Resource) -> str:
    """Names of buckets are the whole world's, and may not say ``google``: the key alone."""
    return f"evident-{resource.key.replace('-', '')}"


def bucket(resource: Resource, place: Place) -> Request:
    """Private whatever the project's defaults are, and without the seven days for which deleted objects are otherwise kept."""
    body = {
        "name": bucket_name(resource),
        "location": place.region.upper(),
        "labels": dict(resource.tags),
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
    }
    return {"method": "POST", "endpoint": "storage", "path": "/storage/v1/b", "query": {"project": place.project}, "json": body}


def buckets(place: Place, token: str | None) -> Request:
    query = {"project": place.project, "prefix": "evident-", "fields": "kind,items(name,labels),nextPageToken"}
    return {"method": "GET", "endpoint": "storage", "path": "/storage/v1/b", "query": {**query, **({"pageToken": token} if token else {})}}


def delete_bucket(name: str) -> Request:
    return {"method": "DELETE", "endpoint": "storage", "path": f"/storage/v1/b/{name}"}


def stored(name: str) -> Request:
    return {"method": "GET", "endpoint": "storage", "path": f"/storage/v1/b/{name}/o/{OBJECT}", "query": {"fields": "kind,size,md5Hash"}}


def delete_object(name: str) -> Request:
    return {"method": "DELETE", "endpoint": "storage", "path": f"/storage/v1/b/{name}/o/{OBJECT}"}


def begin_upload(name: str) -> Request:
    """Opens a resumable upload; the answer's Location says where to."""
    query = {"uploadType": "resumable", "name": OBJECT, "ifGenerationMatch": "0"}
    headers = {"X-Upload-Content-Type": "application/gzip"}
    return {
        "method": "POST",
        "endpoint": "storage",
        "path": f"/upload/storage/v1/b/{name}/o",
        "query": query,
        "headers": headers,
        "json": {},
    }


def put_chunk(session: str, data: bytes, start: int, total: int | None) -> Request:
    """`data`, whose first byte is the `start`-th; `total` with the last chunk, whose size alone need not be a multiple of 256 KiB."""
    span = f"{start}-{start + len(data) - 1}" if data else "*"
    headers = {"Content-Range": f"bytes {span}/{'*' if total is None else total}"}
    return {"method": "PUT", "path": session, "data": data, "headers": headers, "expect": (200, 201, 308)}


def upload_state(session: str, total: int | None) -> Request:
    """Asks how much has arrived."""
    headers = {"Content-Range": f"bytes */{'*' if total is None else total}", "Content-Length": "0"}
    return {"method": "PUT", "path": session, "headers": headers, "expect": (200, 201, 308)}


# -- Resource Manager


def permissions(place: Place, wanted: list[str]) -> Request:
    """Asks which of `wanted` the caller has; asking needs no permission."""
    path = f"/v3/projects/{place.project}:testIamPermissions"
    return {"method": "POST", "endpoint": "projects", "path": path, "json": {"permissions": wanted}}
