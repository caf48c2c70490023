"""What the executor has to be permitted, and what is missing of it.

Sources: "Azure resource provider operations" (the names of actions); "Understand Azure role definitions" (wildcards, and that NotActions
are taken away from Actions of the same role only). ``docs/platforms/azure-role.json`` and ``azure-role-look.json`` grant exactly these; a
test derives them from the requests that are sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

IN_GROUP: Final = (
    "Microsoft.Authorization/permissions/read",
    "Microsoft.Compute/disks/beginGetAccess/action",
    "Microsoft.Compute/disks/delete",
    "Microsoft.Compute/disks/endGetAccess/action",
    "Microsoft.Compute/disks/read",
    "Microsoft.Compute/disks/write",
    "Microsoft.Compute/galleries/delete",
    "Microsoft.Compute/galleries/images/delete",
    "Microsoft.Compute/galleries/images/read",
    "Microsoft.Compute/galleries/images/versions/delete",
    "Microsoft.Compute/galleries/images/versions/read",
    "Microsoft.Compute/galleries/images/versions/write",
    "Microsoft.Compute/galleries/images/write",
    "Microsoft.Compute/galleries/read",
    "Microsoft.Compute/galleries/write",
    "Microsoft.Compute/virtualMachines/deallocate/action",
    "Microsoft.Compute/virtualMachines/delete",
    "Microsoft.Compute/virtualMachines/read",
    "Microsoft.Compute/virtualMachines/start/action",
    "Microsoft.Compute/virtualMachines/write",
    "Microsoft.Network/networkInterfaces/delete",
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/networkInterfaces/read",
    "Microsoft.Network/networkInterfaces/write",
    "Microsoft.Network/networkSecurityGroups/delete",
    "Microsoft.Network/networkSecurityGroups/join/action",
    "Microsoft.Network/networkSecurityGroups/read",
    "Microsoft.Network/networkSecurityGroups/write",
    "Microsoft.Network/publicIPAddresses/delete",
    "Microsoft.Network/publicIPAddresses/join/action",
    "Microsoft.Network/publicIPAddresses/read",
    "Microsoft.Network/publicIPAddresses/write",
    "Microsoft.Network/virtualNetworks/delete",
    "Microsoft.Network/virtualNetworks/read",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
    "Microsoft.Network/virtualNetworks/write",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
)
"""On the resource group."""
IN_SUBSCRIPTION: Final = (
    "Microsoft.Compute/locations/diskOperations/read",
    "Microsoft.Compute/locations/usages/read",
    "Microsoft.Compute/skus/read",
    "Microsoft.Resources/subscriptions/read",
)
"""On the subscription: to look only."""


def missing(granted: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Of `IN_GROUP`, what none of the `granted` sets of permissions has."""
    sets = tuple(granted)
    return tuple(action for action in IN_GROUP if not any(_has(each, action) for each in sets))


def _has(granted: dict[str, Any], action: str) -> bool:
    return _among(granted.get("actions", []), action) and not _among(granted.get("notActions", []), action)


def _among(patterns: list[str], action: str) -> bool:
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action, re.IGNORECASE) for pattern in patterns)
