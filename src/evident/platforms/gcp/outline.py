"""A deployment on Google Cloud, before anything is made."""

from __future__ import annotations

from collections.abc import Mapping

from evident.platforms import disk_size
from evident.platforms.gcp.machine import machine_spec
from evident.platforms.order import Order
from evident.platforms.outline import Item, Outline, Setting, sdk

_TECHNOLOGY = {"snp": "SEV-SNP", "tdx": "TDX"}


def _items(order: Order) -> tuple[Item, ...]:
    spec, size = machine_spec(order), disk_size.words(order)
    outside = " and ".join(f"IPv{version}" for version in (4, 6) if spec.public(version))
    address = f"an external {outside} address" if outside else "an address of its network only"
    billed = f"{spec.machine_type} while it runs, with Google's charge for Confidential VM" + (
        ", and its external address" if outside else ""
    )
    return (
        Item("bucket", "the image as an archive, until it is imported", "storage, for minutes"),
        Item("image", f"boots by UEFI, {size}", "image storage, for as long as it is kept"),
        Item("network", "of its own, one region"),
        Item("firewall", f"openings: {len(order.openings)}; nothing else goes in or out"),
        Item("subnetwork", "eight addresses" + (", and IPv6" if spec.ipv6 else "")),
        Item("instance", f"{spec.machine_type} with {_TECHNOLOGY[spec.technology]}, at {address}", billed),
        Item("disk", f"pd-balanced, {size}", f"pd-balanced, {size}, until it is removed"),
    )


_FAMILIES = {"n2d": "snp", "c3": "tdx", "a3": "tdx"}
"""Google Cloud, "Confidential VM supported configurations": no family of machines has both."""


def _fits(technology: str, where: Mapping[str, str]) -> str | None:
    family = where["type"].partition("-")[0]
    return (
        f"{where['type']}: {family} machines have {_TECHNOLOGY[own]}" if (own := _FAMILIES.get(family, technology)) != technology else None
    )


OUTLINE = Outline(
    settings={
        "project": Setting("the project's id; left out: the one that your credentials name"),
        "zone": Setting("the zone, such as europe-west4-a", required=True),
        "type": Setting("a machine type with confidential computing: n2d-standard-2 (SEV-SNP), c3-standard-4 (TDX)", required=True),
        "secure_boot_keys": Setting("directory with PK.der, KEK.der and db.der: your own Secure Boot keys", path=True),
    },
    technologies=("tdx", "snp"),
    items=_items,
    missing=sdk("google.cloud.compute_v1", "gcp"),
    identities=frozenset(
        {
            *("chip_id", "hwid", "endorsement_key"),
            *("fmspc", "ppid", "pck", "platform_instance_id"),
            *("zone", "project_id", "project_number"),
        }
    ),
    fits=_fits,
    firmware=lambda technology: "evidence" if technology == "snp" else "yours",
)
"""TDX first: its quote measures the boot chain itself, while on SEV-SNP that rests on Google's vTPM (`profile`). Google's
endorsement of the firmware is in the certificate table of SEV-SNP's reports; of a TD's it lies in a bucket, and no guest sends it.
"""
