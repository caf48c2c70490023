"""A deployment on EC2, before anything is made."""

from __future__ import annotations

from evident.platforms import disk_size
from evident.platforms.order import Order
from evident.platforms.outline import Item, Outline, Setting, sdk


def _items(order: Order) -> tuple[Item, ...]:
    kind, size = order.where["type"], disk_size.words(order)
    address = "a public IPv4 address" if order.where.get("public") == "yes" else "an address of its subnet only"
    return (
        Item("snapshot", f"the image as it was built, {size}", "each block that is written; snapshot storage, for as long as it is kept"),
        Item("image", "an AMI that boots by UEFI, with a NitroTPM"),
        Item("security-group", f"openings: {len(order.openings)}; nothing else goes in or out"),
        Item("instance", f"{kind} with SEV-SNP, at {address}", f"{kind} while it runs, with AWS's surcharge for SEV-SNP"),
        Item("volume", f"gp3, {size}", f"gp3, {size}, until it is removed"),
        Item("network-interface", address, "the public IPv4 address, while the machine has it" if "public" in address else None),
    )


OUTLINE = Outline(
    settings={
        "region": Setting("the region, such as eu-west-1; left out: the one your AWS configuration names"),
        "type": Setting("an instance type with SEV-SNP, such as m6a.large", required=True),
        "subnet": Setting("the id of a subnet of yours, such as subnet-0a1b", required=True),
        "public": Setting("whether it gets a public address", choices=("yes", "no")),
        "uefi_data": Setting("file with a UEFI variable store in base64: your own Secure Boot keys", path=True),
    },
    technologies=("snp",),
    items=_items,
    missing=sdk("boto3", "aws"),
    identities=frozenset({"csp_id", "endorsement_key"}),
)
