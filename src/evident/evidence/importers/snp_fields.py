"""SNP reports as JSON objects of their fields, as the Rust ``sev`` crate serialises them (virtee, SNPGuard, trustee).

Two generations of names: the older one spells reserved ranges and versions out (``_author_key_en``, ``_reserved_0``...,
``current_build``), the newer one has ``key_info``, ``cpuid_fam_id``..., ``current: {major, minor, build}`` and a TCB
with ``fmc``. Byte strings are arrays of numbers, or hex strings. Every byte of the report is accounted for: a field that is
missing, unknown or of another size is refused, because the signature is over the bytes and not over the fields.
"""

from __future__ import annotations

from typing import Any

from evident import codec
from evident.errors import Malformed
from evident.evidence.snp_report import COMPONENT_BYTES, REPORT_BYTES, Tcb

WHAT = "snp-fields"
MAX_BYTES = 256 * 1024

# Name to (offset, bytes), little endian; offsets as in `snp_report`.
_COMMON_INTEGERS = {
    "version": (0x000, 4),
    "guest_svn": (0x004, 4),
    "policy": (0x008, 8),
    "vmpl": (0x030, 4),
    "sig_algo": (0x034, 4),
    "plat_info": (0x040, 8),
}
_COMMON_STRINGS = {
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "chip_id": (0x1A0, 64),
}
_TCBS = {"current_tcb": 0x038, "reported_tcb": 0x180, "committed_tcb": 0x1E0, "launch_tcb": 0x1F0}
_OLDER_INTEGERS = {
    "_author_key_en": (0x048, 4),
    "_reserved_0": (0x04C, 4),
    "current_build": (0x1E8, 1),
    "current_minor": (0x1E9, 1),
    "current_major": (0x1EA, 1),
    "_reserved_2": (0x1EB, 1),
    "committed_build": (0x1EC, 1),
    "committed_minor": (0x1ED, 1),
    "committed_major": (0x1EE, 1),
    "_reserved_3": (0x1EF, 1),
}
_OLDER_STRINGS = {"_reserved_1": (0x188, 24), "_reserved_4": (0x1F8, 168)}
_NEWER_INTEGERS = {"key_info": (0x048, 4)}
_NEWER_OPTIONAL = {
    "cpuid_fam_id": (0x188, 1),
    "cpuid_mod_id": (0x189, 1),
    "cpuid_step": (0x18A, 1),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}
_NEWER_VERSIONS = {"current": 0x1E8, "committed": 0x1EC}
_SIGNATURE = {"r": (0x2A0, COMPONENT_BYTES), "s": (0x2A0 + COMPONENT_BYTES, COMPONENT_BYTES)}
_SIGNATURE_RESERVED = (0x2A0 + 2 * COMPONENT_BYTES, 368)

_COMMON = frozenset((*_COMMON_INTEGERS, *_COMMON_STRINGS, *_TCBS, "signature"))
_OLDER = _COMMON.union(_OLDER_INTEGERS, _OLDER_STRINGS)
_NEWER = _COMMON.union(_NEWER_INTEGERS, _NEWER_VERSIONS)


def looks_like(value: Any) -> bool:
    """Whether parsed JSON is a report of this form, told by two fields that both generations have."""
    return isinstance(value, dict) and "reported_tcb" in value and "plat_info" in value


def report_from_json(data: bytes) -> bytes:
    """The 1184 bytes of the report that the JSON text describes; raises `Malformed`."""
    return report_from_fields(codec.loads(data, WHAT, limit=MAX_BYTES))


def report_from_fields(value: Any) -> bytes:
    """The 1184 bytes of the report with these fields (parsed JSON); raises `Malformed`."""
    if not isinstance(value, dict):
        raise _malformed("type", "an object with the fields of a report", type(value).__name__)
    older = "_author_key_en" in value
    required = _OLDER if older else _NEWER
    known = required if older else required.union(_NEWER_OPTIONAL)
    unknown, missing = sorted(set(value) - known), sorted(required - set(value))
    if unknown or missing:
        found = [*(f"unknown {name!r}" for name in unknown), *(f"no {name!r}" for name in missing)]
        raise _malformed("fields", "every field of the report once", ", ".join(found)[:160])
    wire = bytearray(REPORT_BYTES)
    integers = {**_COMMON_INTEGERS, **(_OLDER_INTEGERS if older else _NEWER_INTEGERS)}
    strings = {**_COMMON_STRINGS, **(_OLDER_STRINGS if older else {})}
    for name, (offset, size) in integers.items():
        wire[offset : offset + size] = _integer(value[name], size, name)
    for name, (offset, size) in strings.items():
        wire[offset : offset + size] = _string(value[name], size, name)
    for name, offset in _TCBS.items():
        wire[offset : offset + 8] = _tcb(value[name], name)
    if not older:
        for name, (offset, size) in _NEWER_OPTIONAL.items():
            if value.get(name) is not None:
                wire[offset : offset + size] = _integer(value[name], size, name)
        for name, offset in _NEWER_VERSIONS.items():
            wire[offset : offset + 3] = _version(value[name], name)
    _signature(wire, value["signature"])
    return bytes(wire)


def _integer(value: Any, size: int, name: str) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 8 * size:
        raise _malformed("value", f"an integer of {size} bytes at {name}", repr(value)[:60])
    return value.to_bytes(size, "little")


def _string(value: Any, size: int, name: str) -> bytes:
    if isinstance(value, str):
        try:
            content = bytes.fromhex(value)
        except ValueError:
            content = b""
    elif isinstance(value, list) and all(isinstance(byte, int) and not isinstance(byte, bool) and 0 <= byte <= 255 for byte in value):
        content = bytes(value)
    else:
        content = b""
    if len(content) != size:
        raise _malformed(
            "value", f"{size} bytes (an array of numbers, or hex) at {name}", f"{type(value).__name__} of {len(content)} bytes"
        )
    return content


def _members(value: Any, required: frozenset[str], optional: frozenset[str], name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not required <= set(value) <= required | optional:
        found = ", ".join(map(repr, value))[:100] if isinstance(value, dict) else type(value).__name__
        raise _malformed("value", f"an object with {', '.join(sorted(required))} at {name}", found)
    return value


def _tcb(value: Any, name: str) -> bytes:
    bootloader = "boot_loader" if isinstance(value, dict) and "boot_loader" in value else "bootloader"
    members = _members(value, frozenset((bootloader, "tee", "snp", "microcode")), frozenset(("fmc", "_reserved")), name)
    numbers = {known: _integer(members[known], 1, f"{name}.{known}")[0] for known in (bootloader, "tee", "snp", "microcode")}
    fmc = members.get("fmc")
    if "_reserved" in members and _string(members["_reserved"], 4, f"{name}._reserved").strip(b"\0"):
        raise _malformed("value", f"zeros at {name}._reserved", "other bytes")
    return Tcb(
        bootloader=numbers[bootloader],
        tee=numbers["tee"],
        snp=numbers["snp"],
        microcode=numbers["microcode"],
        fmc=None if fmc is None else _integer(fmc, 1, f"{name}.fmc")[0],
    ).serialize()


def _version(value: Any, name: str) -> bytes:
    members = _members(value, frozenset(("major", "minor", "build")), frozenset(), name)
    return b"".join(_integer(members[part], 1, f"{name}.{part}") for part in ("build", "minor", "major"))


def _signature(wire: bytearray, value: Any) -> None:
    members = _members(value, frozenset(_SIGNATURE), frozenset(("_reserved",)), "signature")
    for name, (offset, size) in _SIGNATURE.items():
        wire[offset : offset + size] = _string(members[name], size, f"signature.{name}")
    if "_reserved" in members:
        offset, size = _SIGNATURE_RESERVED
        wire[offset : offset + size] = _string(members["_reserved"], size, "signature._reserved")


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}",
        expected=expected,
        found=found,
        remedy="Export the report again, or pass it as its 1184 raw bytes.",
    )
