"""Everything that can be known before the first thing is created: `evident doctor` for Azure. Changes nothing.

Asked in this order, each answer a `Probe`:

1. Image: a disk with a GPT.
2. Credentials: the subscription, which they must see, and which must be enabled.
3. Clock: of this machine against that of the answer; tokens are valid for a time.
4. Resource group: there, and in no way of being removed.
5. Size: does the region offer it, to this subscription, for this technology, in this zone (Resource SKUs).
6. Quota: do the vCPUs fit into those left, of its family and of the region (Usages).
7. Permissions in the resource group. Azure Policy, deny assignments and locks are not seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evident.errors import UsageError
from evident.platforms import cloud
from evident.platforms.azure import errors, permissions, sizes
from evident.platforms.azure.clients import Clients, connect
from evident.platforms.azure.images import described
from evident.platforms.azure.machine import MachineSpec
from evident.platforms.azure.requests import FOOTER
from evident.platforms.cloud import Patience, Probe

SETTINGS = ("subscription", "group", "region", "type", "image", "zone", "technology")
_GPT_AT = 512


def doctor(settings: Mapping[str, str], patience: Patience) -> tuple[Probe, ...]:
    """`preflight` of ``subscription``, ``group``, ``region``, ``type``, ``image`` (a file), perhaps ``zone`` and ``technology`` (``snp``).

    Raises `UsageError` ``azure.settings``, and what `connect` raises.
    """
    needed, technology = set(SETTINGS[:5]), settings.get("technology", "snp")
    if needed - settings.keys() or settings.keys() - set(SETTINGS) or technology not in {"snp", "tdx"}:
        raise UsageError.of(
            "azure.settings",
            expected="subscription, group, region, type and image, perhaps zone and technology (snp or tdx)",
            found=", ".join(sorted(settings)) or "nothing",
            remedy="For example: --set subscription=ID --set group=evident --set region=westeurope --set type=Standard_DC2as_v5 "
            "--set image=disk.raw",
        )
    spec = MachineSpec(settings["region"], settings["type"], "tdx" if technology == "tdx" else "snp", zone=settings.get("zone"))
    return preflight(connect(settings), spec, Path(settings["image"]), patience)


def preflight(clients: Clients, spec: MachineSpec, image: Path, patience: Patience) -> tuple[Probe, ...]:
    """Probe everything that does not hang on a failed probe. Raises nothing that a cloud answers."""
    known: dict[str, Any] = {}
    steps: tuple[cloud.Step, ...] = (
        ("image", lambda: _image(image), ()),
        ("credentials", lambda: _who(clients, known), ()),
        ("clock", lambda: _clock(known), ("credentials",)),
        ("resource group", lambda: _group(clients), ("credentials",)),
        ("size", lambda: _size(clients, spec, known), ("credentials",)),
        ("quota", lambda: _quota(clients, spec, known["size"]), ("size",)),
        ("permissions", lambda: _permissions(clients), ("resource group",)),
    )
    return cloud.probed(steps, patience)


def _image(file: Path) -> str:
    image = described(file)
    with file.open("rb") as stream:
        stream.seek(_GPT_AT)
        if stream.read(8) != b"EFI PART":
            raise UsageError.of(
                "azure.image",
                expected=f"a raw disk image with a GUID partition table in {file}",
                found="another kind of file",
                remedy="Build one with `evident image build`; convert others with qemu-img convert -O raw.",
            )
    return f"{image.size} bytes, uploaded as a VHD of {image.disk_bytes + FOOTER}"


def _who(clients: Clients, known: dict[str, Any]) -> str:
    subscription, known["ahead"] = clients.resource("reading the subscription")
    if subscription.get("state") != "Enabled":
        raise cloud.auth(f"subscription {clients.subscription} is {subscription.get('state')}", errors.RULES["SubscriptionNotFound"][1])
    return f"{subscription.get('displayName', 'a subscription without a name')} ({clients.subscription})"


def _clock(known: Mapping[str, Any]) -> str:
    found = f"{abs(known['ahead']):.0f} s {'ahead of' if known['ahead'] > 0 else 'behind'} Azure's"
    if abs(known["ahead"]) > errors.SKEW:
        raise cloud.auth(f"this machine's clock is {found}", errors.CLOCK_REMEDY)
    return found


def _group(clients: Clients) -> str:
    group = clients.resource("reading the resource group", f"/resourcegroups/{clients.group}")[0]
    state = group["properties"]["provisioningState"]
    if state != "Succeeded":
        raise cloud.conflict(f"resource group {clients.group} in state {state}", errors.RULES["ResourceGroupNotFound"][1])
    return f"{clients.group} in {group['location']}"


def _size(clients: Clients, spec: MachineSpec, known: dict[str, Any]) -> str:
    known["size"] = size = sizes.offered(clients, spec)
    return f"{size.name}: {spec.technology.upper()}, {size.vcpus} vCPUs, in {spec.region}"


def _quota(clients: Clients, spec: MachineSpec, size: sizes.Size) -> str:
    listed = clients.listed("listing usages", clients.compute.usage.list, spec.region)
    rooms = {each["name"]["value"].lower(): (int(each["currentValue"]), int(each["limit"])) for each in listed}
    told, short = [], ""
    for name in (size.family, "cores"):
        used, limit = rooms.get(name.lower(), (0, 0))
        if used + size.vcpus > limit:
            raise cloud.quota(f"{used} of {limit} vCPUs of {name} in use, {size.vcpus} more wanted", errors.RULES["QuotaExceeded"][1])
        told.append(f"{used} of {limit} of {name}")
        short = short or cloud.beside(used, size.vcpus, limit)
    return f"vCPUs in use: {', '.join(told)}; {size.vcpus} wanted{short}"


def _permissions(clients: Clients) -> str:
    lacking = permissions.missing(clients.permissions())
    if lacking:
        raise cloud.auth(f"not permitted: {', '.join(lacking)}", errors.RULES["AuthorizationFailed"][1])
    return f"all {len(permissions.IN_GROUP)} actions"
