"""The machine that an order describes on Google Cloud; `requests` says it in Google's words."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evident.platforms.opening import Opening
from evident.platforms.order import Order

if TYPE_CHECKING:
    from evident.platforms.gcp.requests import ImageSpec


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One confidential VM."""

    technology: Literal["snp", "tdx"]
    machine_type: str
    openings: tuple[Opening, ...] = ()

    @property
    def ipv6(self) -> bool:
        return any(":" in opening.peer for opening in self.openings)

    def public(self, version: int) -> bool:
        """Is there anything beyond private networks to reach, or to be reached from, with this version of IP?"""
        return any(ipaddress.ip_network(opening.peer).version == version and not opening.private for opening in self.openings)

    @property
    def network_terms(self) -> dict[str, Any]:
        return {"ipv6": self.ipv6}

    def instance_terms(self, image: ImageSpec) -> dict[str, Any]:
        public = [version for version in (4, 6) if self.public(version)]
        return {"image": image.terms, "type": self.machine_type, "technology": self.technology, "public": public}


def machine_spec(order: Order) -> MachineSpec:
    return MachineSpec(order.technology, order.where["type"], order.openings)
