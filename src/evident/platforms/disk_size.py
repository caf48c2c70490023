"""How large the disk of a machine in a cloud will be, for a plan that may come before its image is built."""

from __future__ import annotations

from pathlib import Path

from evident.platforms.order import Order


def gib(order: Order) -> int | None:
    """Of the boot disk, rounded up: what a volume for it has at least. None where it is not built yet."""
    path = Path(order.disks[0].path) if order.disks else None
    return max(1, -(-path.stat().st_size // (1 << 30))) if path and path.is_file() else None


def words(order: Order) -> str:
    """The same in words."""
    found = gib(order)
    return "as large as the image will be" if found is None else f"{found} GiB"
