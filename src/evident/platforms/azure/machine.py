"""The machine that an order describes on Azure; `requests` says it in Azure's words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from evident.platforms import cloud
from evident.platforms.opening import Opening
from evident.platforms.order import Order

if TYPE_CHECKING:
    from evident.platforms.azure.requests import ImageSpec


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One confidential VM and the network that is made for it."""

    region: str
    size: str
    technology: Literal["snp", "tdx"]
    openings: tuple[Opening, ...] = ()
    encryption: str = "VMGuestStateOnly"
    zone: str | None = None

    @property
    def exposed(self) -> bool:
        """Whether it gets a public address: without one nothing beyond private networks is reached, or reaches it."""
        return not all(opening.private for opening in self.openings)

    def machine_terms(self, image: ImageSpec) -> dict[str, Any]:
        return {"image": image.terms, "spec": asdict(self)}


def machine_spec(order: Order) -> MachineSpec:
    """Raises `Unsupported` ``cloud.unsupported`` for openings to or from IPv6 networks: the network that is made has none."""
    for opening in order.openings:
        if ":" in opening.peer:
            raise cloud.unsupported(
                f"an opening for the IPv6 network {opening.peer}", "Open it for an IPv4 network: this one has no other."
            )
    where = order.where
    encryption = where.get("encryption", "VMGuestStateOnly")
    return MachineSpec(where["region"], where["type"], order.technology, order.openings, encryption, where.get("zone"))
