"""The whole memory of a machine as its host can read it, where nothing encrypts it; and every form in which a key could lie there."""

from __future__ import annotations

import base64
import mmap
from collections.abc import Mapping
from pathlib import Path

from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import qmp
from evident.platforms.qemu.order import read_launch

_PIECE = 16
"""Bytes of a key that are no accident."""


def forms(key: bytes) -> dict[str, bytes]:
    """`key` as bytes, in pieces too for what is left of a copy that was half overwritten, and as text."""
    pieces = {f"bytes {at}": key[at : at + _PIECE] for at in range(0, len(key), _PIECE)}
    texts = {"HEX": key.hex().upper(), "base64": base64.b64encode(key).decode(), "base64url": base64.urlsafe_b64encode(key).decode()}
    written = {**texts, **{f"hex of {name}": part.hex() for name, part in pieces.items()}}
    return {**pieces, **{name: text.rstrip("=").encode() for name, text in written.items()}}


def copies(shop: Deployment, wanted: Mapping[str, bytes], scratch: Path) -> dict[str, int]:
    """How often each of `wanted` is in the machine's memory; those that are not are left out."""
    dump = scratch / "memory"
    size = read_launch(shop.machine).memory_mib << 20
    with qmp.monitor(shop.machine, timeout=300) as talk:
        talk.command("pmemsave", val=0, size=size, filename=str(dump))
    try:
        with dump.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            found = {name: _count(raw, form) for name, form in wanted.items()}
    finally:
        dump.unlink()
    return {name: count for name, count in found.items() if count}


def _count(raw: mmap.mmap, form: bytes) -> int:
    count = at = 0
    while (at := raw.find(form, at)) >= 0:
        count, at = count + 1, at + len(form)
    return count
