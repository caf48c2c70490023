"""A deployment on Azure, before anything is made."""

from __future__ import annotations

import re
from collections.abc import Mapping

from evident.platforms import disk_size
from evident.platforms.azure.machine import machine_spec
from evident.platforms.order import Order
from evident.platforms.outline import Item, Outline, Setting, sdk

_LEAST_HDD, _LEAST_SSD = 32, 4
"""GiB that a disk is billed as at least; else the next power of two (PSRule for Azure, "Azure.VM.DiskSizeAlignment", has the list)."""


def _billed(gib: int | None, least: int) -> str:
    return f"{least} GiB or more" if gib is None else f"{max(least, 1 << (gib - 1).bit_length())} GiB"


def _items(order: Order) -> tuple[Item, ...]:
    spec, size = machine_spec(order), disk_size.words(order)
    hdd, ssd = (_billed(disk_size.gib(order), least) for least in (_LEAST_HDD, _LEAST_SSD))
    address = Item("public-address", "a static public IPv4 address", "the address, while it is reserved")
    return (
        Item("disk", f"the image as it was built, {size}", f"Standard HDD as {hdd}, until it is removed"),
        Item("gallery", "a Compute Gallery that nobody else sees"),
        Item("image", "specialised, for confidential VMs"),
        Item("image-version", f"a copy in {spec.region}, {size}", "snapshot storage, for as long as it is kept"),
        Item("security-group", f"openings: {len(order.openings)}; nothing else goes in or out"),
        Item("network", "a virtual network with one subnet, connected to no other"),
        *((address,) if spec.exposed else ()),
        Item("network-interface", "with its public address" if spec.exposed else "with an address of its subnet only"),
        Item("machine", f"{spec.size} as a confidential VM", f"{spec.size} while it runs"),
        Item(
            "os-disk",
            f"Premium SSD, {size}, encrypted: {spec.encryption}",
            f"Premium SSD as {ssd}, and a small one for its guest state, until they are removed",
        ),
    )


_SIZE = re.compile(r"Standard_[DE]C\d+([ae])d?s_(?:cc_)?v\d+", re.IGNORECASE)
_TECHNOLOGY = {"a": "snp", "e": "tdx"}
"""Azure, "Virtual machine sizes naming conventions": the letter after the number of vCPUs says whose processor it is."""


def _fits(technology: str, where: Mapping[str, str]) -> str | None:
    named = _SIZE.fullmatch(where["type"])
    own = _TECHNOLOGY[named[1].lower()] if named else technology
    return f"{where['type']}: sizes of its name have {own.upper()}" if own != technology else None


OUTLINE = Outline(
    settings={
        "subscription": Setting("the subscription's id", required=True),
        "group": Setting("a resource group that exists and takes everything", required=True),
        "region": Setting("the region, such as westeurope", required=True),
        "type": Setting("a confidential size, such as Standard_DC2as_v5 (SEV-SNP) or Standard_DC2es_v6 (TDX)", required=True),
        "zone": Setting("an availability zone of the region; left out: Azure's choice", choices=("1", "2", "3")),
        "encryption": Setting("what Azure encrypts for the machine alone", choices=("VMGuestStateOnly", "DiskWithVMGuestState")),
        "secure_boot_keys": Setting(
            "directory with PK.der, KEK.der and db.der: your own Secure Boot keys; left out: Secure Boot is off", path=True
        ),
    },
    technologies=("snp", "tdx"),
    items=_items,
    missing=sdk("azure.mgmt.compute", "azure"),
    identities=frozenset(
        {
            *("chip_id", "hwid", "endorsement_key", "id_key_digest", "family_id", "image_id"),
            *("fmspc", "ppid", "pck", "platform_instance_id"),
        }
    ),
    fits=_fits,
)
