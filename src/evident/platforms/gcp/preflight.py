"""Everything that can be known before the first thing is created: `evident doctor` for Google Cloud. Changes nothing.

Asked in this order, each answer a `Probe`:

1. Project: do the credentials work, is Compute Engine switched on (projects.get).
2. Zone: is it there, and up (zones.get).
3. Machine type: does the zone offer it (machineTypes.get).
4. Confidential computing: has the zone the processor that it takes (zones.get). Whether the zone offers SEV-SNP or TDX on it, no
   interface of Google's says; that stays unknown.
5. Quota: does it all fit into what is left (regions.get and projects.get).
6. Permissions, all that Evident uses (Resource Manager's testIamPermissions, which needs none).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evident.errors import EvidentError, UsageError
from evident.platforms import cloud
from evident.platforms.cloud import Patience, Probe
from evident.platforms.gcp import errors, requests
from evident.platforms.gcp.clients import Clients, ask, call, connect
from evident.platforms.gcp.images import described
from evident.platforms.gcp.machine import MachineSpec
from evident.platforms.gcp.requests import ImageSpec

PERMISSIONS: Final = (
    "compute.disks.create",
    "compute.disks.delete",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.firewalls.create",
    "compute.firewalls.delete",
    "compute.firewalls.list",
    "compute.globalOperations.get",
    "compute.globalOperations.list",
    "compute.images.create",
    "compute.images.delete",
    "compute.images.get",
    "compute.images.list",
    "compute.images.setLabels",
    "compute.images.useReadOnly",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.start",
    "compute.instances.stop",
    "compute.machineTypes.get",
    "compute.networks.create",
    "compute.networks.delete",
    "compute.networks.get",
    "compute.networks.list",
    "compute.networks.updatePolicy",
    "compute.projects.get",
    "compute.regionOperations.get",
    "compute.regionOperations.list",
    "compute.regions.get",
    "compute.subnetworks.create",
    "compute.subnetworks.delete",
    "compute.subnetworks.get",
    "compute.subnetworks.list",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
    "compute.zones.get",
    "storage.buckets.create",
    "storage.buckets.delete",
    "storage.buckets.list",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
)
"""What the calls of this folder need, as the reference of each method says; docs/platforms/gcp-role.yaml grants them."""
_PROCESSORS: Final[Mapping[str, Mapping[str, str]]] = {"snp": {"n2d": "AMD Milan"}, "tdx": {"c3": "Intel Sapphire Rapids"}}
"""Technology and machine family to the processor that has it. Source: Confidential VM documentation, "Supported configurations"."""
SETTINGS: Final = ("zone", "type", "image", "project", "technology")


def doctor(settings: Mapping[str, str], patience: Patience) -> tuple[Probe, ...]:
    """`preflight` of ``zone``, ``type``, ``image`` (a file) and, where they are not the defaults, ``project`` and ``technology``.

    Raises `UsageError` ``gcp.settings``, and what `connect` and `described` raise.
    """
    missing, strange = {"zone", "type", "image"} - settings.keys(), settings.keys() - set(SETTINGS)
    technology = settings.get("technology", "snp")
    if missing or strange or (technology != "snp" and technology != "tdx"):
        raise UsageError.of(
            "gcp.settings",
            expected="zone, type and image, perhaps project and technology (snp or tdx)",
            found=", ".join(sorted(settings)) or "nothing",
            remedy="For example: --set zone=europe-west4-a --set type=n2d-standard-2 --set image=disk.raw --set project=shop-1",
        )
    clients = connect(settings.get("project"), settings["zone"])
    return preflight(
        clients, MachineSpec("tdx" if technology == "tdx" else "snp", settings["type"]), described(Path(settings["image"])), patience
    )


def preflight(clients: Clients, spec: MachineSpec, image: ImageSpec, patience: Patience) -> tuple[Probe, ...]:
    """Probe everything that does not hang on a failed probe. Raises nothing that a cloud answers."""
    known: dict[str, Any] = {}
    steps: tuple[cloud.Step, ...] = (
        ("project", lambda: _project(clients, known), ()),
        ("zone", lambda: _zone(clients, known), ("project",)),
        ("machine type", lambda: _type(clients, spec, known), ("zone",)),
        ("confidential computing", lambda: _confidential(spec, known), ("machine type",)),
        ("quota", lambda: _quota(clients, spec, image, known), ("machine type",)),
        ("permissions", lambda: _permissions(clients), ("project",)),
    )
    return cloud.probed(steps, patience)


def _project(clients: Clients, known: dict[str, Any]) -> str:
    known["project"] = call(clients, "projects", "get", {"project": clients.place.project})
    who = getattr(clients.session.credentials, "service_account_email", None) or "the SDK's default credentials"
    return f"{clients.place.project}, as {who}"


def _zone(clients: Clients, known: dict[str, Any]) -> str:
    place = clients.place
    try:
        zone = call(clients, "zones", "get", {"project": place.project, "zone": place.zone})
    except EvidentError as error:
        if not errors.gone(error):
            raise
        raise cloud.unsupported(f"no zone {place.zone}", "Name a zone such as europe-west4-a (gcloud compute zones list).") from error
    if zone.status != "UP":
        raise cloud.capacity(f"zone {place.zone} is {zone.status}", "Choose another zone, or wait.")
    known["processors"] = list(zone.available_cpu_platforms)
    return f"{place.zone} is up"


def _type(clients: Clients, spec: MachineSpec, known: dict[str, Any]) -> str:
    place = clients.place
    try:
        request = {"project": place.project, "zone": place.zone, "machine_type": spec.machine_type}
        kind = call(clients, "machine_types", "get", request)
    except EvidentError as error:
        if not errors.gone(error):
            raise
        raise errors.not_offered(f"no {spec.machine_type} in {place.zone}") from error
    known["vcpus"] = kind.guest_cpus
    return f"{spec.machine_type}: {kind.guest_cpus} vCPUs, {kind.memory_mb} MiB"


def _confidential(spec: MachineSpec, known: Mapping[str, Any]) -> str:
    family, _, _ = spec.machine_type.partition("-")
    wanted = requests.CONFIDENTIAL[spec.technology]
    processor = _PROCESSORS[spec.technology].get(family)
    if processor is None:
        return f"{cloud.UNKNOWN}Evident knows of no {wanted} on {family}; Google's list of supported configurations decides"
    if processor not in known["processors"]:
        raise errors.not_offered(f"no {processor} in this zone, which {wanted} on {family} takes")
    return f"{cloud.UNKNOWN}the zone has {processor}; whether it offers {wanted} on it, only Google's list of supported configurations says"


def _quota(clients: Clients, spec: MachineSpec, image: ImageSpec, known: Mapping[str, Any]) -> str:
    place = clients.place
    region = call(clients, "regions", "get", {"project": place.project, "region": place.region})
    there = {quota.metric: quota for quota in (*known["project"].quotas, *region.quotas)}
    family = f"{spec.machine_type.partition('-')[0].upper()}_CPUS"
    wanted = {family: known["vcpus"], "CPUS_ALL_REGIONS": known["vcpus"], "INSTANCES": 1, "SSD_TOTAL_GB": image.disk_gib}
    wanted |= {"IN_USE_ADDRESSES": 1, "NETWORKS": 1, "SUBNETWORKS": 1, "FIREWALLS": 1 + len(spec.openings), "IMAGES": 1}
    for metric, count in wanted.items():
        if metric in there and there[metric].usage + count > there[metric].limit:
            quota = there[metric]
            raise errors.over_limit(f"{metric}: {quota.usage:.0f} of {quota.limit:.0f} in use, {count} more wanted")
    short = next((more for metric in wanted if metric in there and (more := _beside(there[metric], wanted[metric]))), "")
    if family not in there:
        return f"{cloud.UNKNOWN}Google shows no limit called {family}; all others leave room{short}"
    return f"{there[family].usage:.0f} of {there[family].limit:.0f} {family} in use, {known['vcpus']} wanted; all others leave room{short}"


def _beside(quota: Any, wanted: float) -> str:
    short = cloud.beside(quota.usage, wanted, quota.limit)
    return f"{short} ({quota.metric})" if short else ""


def _permissions(clients: Clients) -> str:
    answer = ask(clients, "testIamPermissions", requests.permissions(clients.place, list(PERMISSIONS)))
    granted = answer.pop("permissions", [])
    if answer or not isinstance(granted, list):  # where nothing is granted, Google says nothing
        raise errors.strange("testIamPermissions")
    missing = sorted(set(PERMISSIONS) - set(granted))
    if missing:
        raise errors.not_permitted(f"without {', '.join(missing)}")
    return f"all {len(PERMISSIONS)} that Evident uses"
