"""A machine that exists in this program only, before it is made."""

from __future__ import annotations

from evident.platforms.order import Order
from evident.platforms.outline import Item, Outline


def _items(order: Order) -> tuple[Item, ...]:
    return (Item("machine", f"a launch with {order.vcpus} vCPUs on a software secure processor: nothing boots"),)


OUTLINE = Outline(
    settings={},
    technologies=("snp",),
    items=_items,
    simulated=lambda: True,
    cloud=False,
    identities=frozenset({"chip_id", "hwid", "endorsement_key"}),
    firmware=lambda _: "platform",
)
