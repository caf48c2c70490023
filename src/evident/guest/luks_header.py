"""LUKS2 headers, read strictly before any tool acts on them: the header lies on the host's disk, and the host writes it at will.

Source: M. Broz, "LUKS2 On-Disk Format Specification" 1.1.3, sections 2 (binary header, JSON area, checksums) and 3 (objects).

A header that asks for no encryption opens with any key and shows the guest whatever the host put there (the null cipher; CVE-2025-59054
and its kin). `check` therefore accepts one form only, the profile's:

(1) both copies are intact and equal, so it does not matter which of them a tool takes
(2) one segment, encrypted by one of `CIPHERS` with `INTEGRITY`, to the end of the disk
(3) every key slot encrypted by `SLOT_CIPHER`, its key as long as that cipher's, derived by a known function of bounded cost
(4) nothing else: no tokens, no requirements (re-encryption), no flags, no second segment, no unknown member

A machine that writes its own header (`evident.guest.steps.reopen`) may lose power between one copy and the other. `mended` then makes
both what the newest intact one says, in memory, before `check` and the tools see them: (1) holds for what is opened all the same.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evident import codec
from evident.errors import Finding, Malformed, NotAuthentic, raise_all
from evident.evidence.reader import Reader

WHAT = "luks"
BINARY_BYTES = 4096
SIZES = (0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000)
"""Allowed sizes of one copy: binary header and JSON area."""
MAGIC = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")
CIPHERS = ("aes-xts-random", "aes-xts-plain64")
SLOT_CIPHER = "aes-xts-plain64"
INTEGRITY = "hmac(sha256)"
SECTORS = (512, 4096)
COPIES_BYTES = 2 * SIZES[-1]
"""Enough of a disk for both copies of any header."""
MAX_OFFSET = 64 * 1024 * 1024
MAX_KDF_MEMORY = 1024 * 1024
"""KiB"""
_OFFSET_AT, _CHECKSUM_AT, _CHECKSUM_BYTES = 256, 448, 64


@dataclass(frozen=True, slots=True)
class Header:
    """One copy."""

    size: int
    sequence: int
    uuid: str
    offset: int
    """Where this copy lies, bytes."""
    metadata: Any
    """The JSON area."""
    raw: bytes


def parse(raw: bytes, copy: int = 0) -> Header:
    """The primary (0) or secondary (1) copy, which begins `raw`; longer input is allowed. Raises `Malformed` ``luks...``."""
    reader = Reader(raw, WHAT)
    magic, version, size = reader.take(6, "magic"), reader.u16("version", order="big"), reader.u64("header size", order="big")
    if magic != MAGIC[copy] or version != 2 or size not in SIZES:
        raise _malformed("form", f"a LUKS2 header of {len(SIZES)} known sizes", f"magic {magic.hex()}, version {version}, size {size}")
    sequence = reader.u64("sequence id", order="big")
    reader.take(48, "label")
    algorithm = _text(reader.take(32, "checksum algorithm"), "checksum algorithm")
    reader.take(64, "salt")
    uuid = _text(reader.take(40, "UUID"), "UUID")
    reader.take(48, "subsystem")
    offset = reader.u64("header offset", order="big")
    reader.zeros(184, "padding")
    checksum = reader.take(_CHECKSUM_BYTES, "checksum")
    reader.zeros(BINARY_BYTES - reader.offset, "padding to 4096")
    area = reader.take(size - BINARY_BYTES, "JSON area")
    if algorithm != "sha256" or offset != copy * size:
        raise _malformed("form", f"checksum sha256, copy {copy} at {copy * size}", f"{algorithm!r}, at {offset}")
    whole = raw[:size]
    digest = _digest(whole)
    if not hmac.compare_digest(digest.ljust(_CHECKSUM_BYTES, b"\0"), checksum):
        raise _malformed("checksum", digest.hex(), checksum.hex()[:64])
    text, _, padding = area.partition(b"\0")
    if padding.strip(b"\0"):
        raise _malformed("json", "zeros behind the JSON text", "other bytes")
    return Header(size, sequence, uuid, offset, codec.loads(text, WHAT, limit=size), whole)


def _digest(whole: bytes) -> bytes:
    """SHA-256 of one copy, its checksum field zero."""
    return hashlib.sha256(whole[:_CHECKSUM_AT] + bytes(_CHECKSUM_BYTES) + whole[_CHECKSUM_AT + _CHECKSUM_BYTES :]).digest()


def mended(raw: bytes) -> bytes:
    """The beginning of a disk with both copies as the newest intact one says, where a write was cut short.

    As it is where there is nothing to mend, or nothing that such a write leaves (no intact copy, copies of two headers, two of one age
    that differ): `check` says so.
    """
    copies = [copy for at, number in ((0, 0), *((size, 1) for size in SIZES)) if (copy := _intact(raw[at : at + SIZES[-1]], number))]
    newest = max(copies, key=lambda copy: copy.sequence, default=None)
    if newest is None or any(_strange(copy, newest) for copy in copies) or [copy.sequence for copy in copies] == [newest.sequence] * 2:
        return raw
    return _as_copy(newest, 0) + _as_copy(newest, 1) + raw[2 * newest.size :]


def _intact(raw: bytes, copy: int) -> Header | None:
    try:
        return parse(raw, copy)
    except Malformed:
        return None


def _strange(copy: Header, newest: Header) -> bool:
    """Whether no write of `newest` over an older header leaves this `copy`."""
    another = (copy.uuid, copy.size) != (newest.uuid, newest.size)
    return another or (copy.sequence == newest.sequence and copy.metadata != newest.metadata)


def _as_copy(header: Header, number: int) -> bytes:
    raw = bytearray(header.raw)
    raw[: len(MAGIC[number])] = MAGIC[number]
    raw[_OFFSET_AT : _OFFSET_AT + 8] = (number * header.size).to_bytes(8, "big")
    raw[_CHECKSUM_AT : _CHECKSUM_AT + _CHECKSUM_BYTES] = _digest(bytes(raw)).ljust(_CHECKSUM_BYTES, b"\0")
    return bytes(raw)


@dataclass(frozen=True, slots=True)
class Checked:
    """What may be opened."""

    uuid: str
    cipher: str
    sector: int
    data_offset: int
    """Bytes; everything before it is header."""
    used: int = 0
    """Bytes from the beginning that are in use: both copies and the key slots."""
    slots: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Each key slot to where its area begins and ends."""


def check(raw: bytes) -> Checked:
    """Hold the beginning of a disk (at least both copies) against the one accepted form, naming everything that differs.

    Raises `Malformed` ``luks...`` for what is no header, `NotAuthentic` ``luks.weak`` (and others) for one that must not be opened.
    """
    primary = parse(raw)
    secondary = parse(raw[primary.size :], 1)
    same = primary.metadata == secondary.metadata and (primary.sequence, primary.uuid) == (secondary.sequence, secondary.uuid)
    findings = [] if same else [_finding("copies", "two equal copies of the header", "copies that differ")]
    metadata = _members(primary.metadata, {"keyslots", "tokens", "segments", "digests", "config"}, "header", findings)
    if metadata.get("tokens") != {}:
        findings.append(_finding("tokens", "no tokens", repr(metadata.get("tokens"))[:80]))
    config = _members(metadata.get("config"), {"json_size", "keyslots_size"}, "config", findings)
    if config.get("json_size") != str(primary.size - BINARY_BYTES):
        findings.append(_finding("config", f"json_size {primary.size - BINARY_BYTES}", repr(config.get("json_size"))[:40]))
    segment = _segment(metadata.get("segments"), findings)
    slots, areas = metadata.get("keyslots"), dict[str, tuple[int, int]]()
    if not isinstance(slots, dict) or not slots:
        findings.append(_finding("keyslots", "at least one key slot", repr(slots)[:40]))
    else:
        areas = {name: _slot(name, slot, segment.data_offset, findings) for name, slot in slots.items()}
    _digests(metadata.get("digests"), findings)
    raise_all(NotAuthentic, findings)
    used = max(2 * primary.size, *(end for _, end in areas.values()))
    return Checked(primary.uuid, segment.cipher, segment.sector, segment.data_offset, used, areas)


def _segment(value: Any, findings: list[Finding]) -> Checked:
    if not isinstance(value, dict) or list(value) != ["0"]:
        findings.append(_finding("segments", "one segment, number 0", repr(value)[:80]))
        return Checked("", "", 0, 0)
    allowed = {"type", "offset", "size", "iv_tweak", "encryption", "sector_size", "integrity"}
    segment = _members(value["0"], allowed, "segment 0", findings)
    cipher, sector, offset = segment.get("encryption"), segment.get("sector_size"), _number(segment.get("offset"))
    integrity = _members(segment.get("integrity"), {"type", "journal_encryption", "journal_integrity", "key_size"}, "integrity", findings)
    if segment.get("type") != "crypt" or cipher not in CIPHERS or sector not in SECTORS or isinstance(sector, bool):
        findings.append(
            _finding("weak", "a segment encrypted by " + " or ".join(CIPHERS), f"{segment.get('type')!r} {cipher!r}, sectors {sector!r}")
        )
    if integrity.get("type") != INTEGRITY or (integrity.get("journal_encryption"), integrity.get("journal_integrity")) != ("none", "none"):
        findings.append(_finding("weak", f"integrity {INTEGRITY}, journal none", repr(integrity)[:80]))
    if segment.get("size") != "dynamic" or segment.get("iv_tweak") != "0" or not 0 < offset <= MAX_OFFSET or offset % 4096:
        findings.append(_finding("segments", f"from at most {MAX_OFFSET} to the end of the disk", repr(segment)[:120]))
    return Checked("", str(cipher), sector if isinstance(sector, int) else 0, offset)


def _slot(name: str, value: Any, data_offset: int, findings: list[Finding]) -> tuple[int, int]:
    """Check one key slot: where its area begins and ends."""
    slot = _members(value, {"type", "key_size", "area", "kdf", "af", "priority"}, f"key slot {name}", findings)
    area = _members(slot.get("area"), {"type", "offset", "size", "encryption", "key_size"}, f"area of key slot {name}", findings)
    kdf = _members(slot.get("kdf"), {"type", "salt", "hash", "iterations", "time", "memory", "cpus"}, f"KDF of key slot {name}", findings)
    splitter = _members(slot.get("af"), {"type", "stripes", "hash"}, f"splitter of key slot {name}", findings)
    if slot.get("type") != "luks2" or slot.get("key_size") != 96:
        findings.append(
            _finding("weak", "a luks2 key slot for a key of 96 bytes (XTS and HMAC)", f"{slot.get('type')!r}, {slot.get('key_size')!r}")
        )
    if area.get("type") != "raw" or area.get("encryption") != SLOT_CIPHER or area.get("key_size") != 64:
        findings.append(
            _finding(
                "weak", f"key slot {name} encrypted by {SLOT_CIPHER} with 64 bytes", f"{area.get('encryption')!r}, {area.get('key_size')!r}"
            )
        )
    begins, size = _number(area.get("offset")), _number(area.get("size"))
    if not (begins > 0 and size > 0 and begins + size <= data_offset):
        findings.append(_finding("keyslots", f"key slot {name} before the data at {data_offset}", f"{begins} and {size} bytes"))
    if (splitter.get("type"), splitter.get("stripes"), splitter.get("hash")) != ("luks1", 4000, "sha256"):
        findings.append(_finding("keyslots", "4000 stripes, sha256", repr(splitter)[:80]))
    _kdf(name, kdf, findings)
    return begins, begins + size


def _kdf(name: str, kdf: dict[str, Any], findings: list[Finding]) -> None:
    whole = all(isinstance(kdf.get(member, 1), int) for member in ("iterations", "time", "memory", "cpus"))
    if kdf.get("type") == "pbkdf2" and kdf.get("hash") in ("sha256", "sha512"):
        bounded = whole and 1000 <= kdf.get("iterations", 0) <= 100_000_000
    elif kdf.get("type") in ("argon2i", "argon2id"):
        bounded = whole and 0 < kdf.get("time", 0) <= 64 and 0 < kdf.get("memory", 0) <= MAX_KDF_MEMORY and 0 < kdf.get("cpus", 0) <= 8
    else:
        bounded = False
    if not bounded:
        findings.append(_finding("kdf", f"key slot {name} with PBKDF2 or Argon2 of bounded cost", repr(kdf)[:120]))


def _digests(value: Any, findings: list[Finding]) -> None:
    if not isinstance(value, dict) or list(value) != ["0"]:
        findings.append(_finding("digests", "one digest, number 0", repr(value)[:80]))
        return
    digest = _members(value["0"], {"type", "keyslots", "segments", "salt", "digest", "hash", "iterations"}, "digest 0", findings)
    if digest.get("type") != "pbkdf2" or digest.get("segments") != ["0"] or digest.get("hash") not in ("sha256", "sha512"):
        findings.append(_finding("digests", "pbkdf2 over the key of segment 0", repr(digest)[:120]))


def _members(value: Any, allowed: set[str], what: str, findings: list[Finding]) -> dict[str, Any]:
    if not isinstance(value, dict):
        findings.append(_finding("form", f"an object: {what}", type(value).__name__))
        return {}
    unknown = sorted(value.keys() - allowed)
    if unknown:
        findings.append(_finding("unknown", f"{what} with " + ", ".join(sorted(allowed)), ", ".join(unknown)[:80]))
    return value


def _number(value: Any) -> int:
    """A JSON number of 64 bits, which LUKS2 writes as a string; -1 for anything else."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19 else -1


def _text(raw: bytes, what: str) -> str:
    text, _, padding = raw.partition(b"\0")
    if padding.strip(b"\0") or not text.isascii():
        raise _malformed("form", f"ASCII text and zeros: {what}", raw[:40].hex())
    return text.decode("ascii")


_REMEDY = "Do not open this disk: somebody changed its header. Restore it from your own copy, or make the disk anew."


def _finding(problem: str, expected: str, found: str) -> Finding:
    return Finding(f"{WHAT}.{problem}", "storage", expected, found, _REMEDY)


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=_REMEDY, layer="storage")
