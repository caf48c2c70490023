"""What Azure offers of one size of machine in one region. Asked each time: a list of ours would be wrong soon.

Source: "Resource Skus - List" (Compute REST API). The capability ``ConfidentialComputingType`` is ``SNP`` or ``TDX``; restrictions tell
what this subscription may not have although the region does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evident.platforms import cloud
from evident.platforms.azure.clients import Clients
from evident.platforms.azure.machine import MachineSpec

_REMEDY = "Choose another size or region: az vm list-skus -l REGION --size DC --all."


@dataclass(frozen=True, slots=True)
class Size:
    name: str
    family: str
    """What its quota is counted under."""
    vcpus: int


def offered(clients: Clients, spec: MachineSpec) -> Size:
    """The ordered size, which the region offers to this subscription, for this technology, in the ordered zone.

    Raises `Unsupported` ``cloud.unsupported`` where it does not.
    """
    listed = clients.listed("listing sizes", clients.compute.resource_skus.list, filter=f"location eq '{spec.region}'")
    sku = next((each for each in listed if (each["resourceType"], each["name"].lower()) == ("virtualMachines", spec.size.lower())), None)
    if sku is None:
        raise cloud.unsupported(f"no {spec.size} in {spec.region}", _REMEDY)
    told = {each["name"]: each["value"] for each in sku.get("capabilities", [])}
    confidential = told.get("ConfidentialComputingType", "nothing confidential")
    if confidential.lower() != spec.technology:
        raise cloud.unsupported(f"{spec.size} is for {confidential}, not for {spec.technology.upper()}", _REMEDY)
    if "V2" not in told.get("HyperVGenerations", "V2"):
        raise cloud.unsupported(f"{spec.size} does not boot by UEFI", _REMEDY)
    _unrestricted(sku, spec)
    return Size(sku["name"], sku.get("family", ""), int(told.get("vCPUs", "1")))


def _unrestricted(sku: dict[str, Any], spec: MachineSpec) -> None:
    barred: set[str] = set()
    for restriction in sku.get("restrictions", []):
        if restriction["type"] == "Location":
            found = f"{spec.size} in {spec.region} is not for this subscription ({restriction.get('reasonCode', 'no reason given')})"
            raise cloud.unsupported(found, "Ask Azure's support to lift the restriction, or choose another size or region.")
        barred |= set(restriction.get("restrictionInfo", {}).get("zones", []))
    zones = {zone for each in sku.get("locationInfo", []) for zone in each.get("zones", [])} - barred
    if spec.zone is not None and spec.zone not in zones:
        raise cloud.unsupported(
            f"no {spec.size} in zone {spec.zone} of {spec.region}; there is in {', '.join(sorted(zones)) or 'none'}", _REMEDY
        )
