"""The IMA list beside a TPM's quote: steps 1 to 4 of `evident.verification.ima` against the PCRs that the quote covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from evident.errors import Indeterminate
from evident.evidence import ima_log
from evident.evidence.ima_log import ImaLog
from evident.verification import ima
from evident.verification import pieces as piece
from evident.verification.facts import Runtime
from evident.verification.pieces import Pieces, Role

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "ima": Role("optional", ima_log.MAX_LIST_BYTES, "IMA measurement list, binary or ASCII"),
        "allow-list": Role("any", 64 * 1024 * 1024, "acceptable digests of files, as sha256sum prints them"),
        "ima-key": Role("any", 64 * 1024, "public key that signs files"),
    }
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A list, and what its files are compared with."""

    listed: ImaLog
    allowed: ima.AllowList | None
    keys: tuple[ima.PublicKey, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """What is authentic of it."""

    runtime: Runtime
    claims: Mapping[str, Any]
    caveats: tuple[str, ...]


def read(pieces: Pieces) -> Measured | None:
    """The pieces of `ROLES`, parsed; None without a list. Raises `Malformed` and `Unsupported`."""
    listed = piece.optional(pieces, "ima")
    if listed is None:
        return None
    allowed = ima.merge(ima.parse_allow_list(raw) for raw in piece.several(pieces, "allow-list"))
    return Measured(ima_log.parse(listed), allowed, tuple(ima.load_key(raw) for raw in piece.several(pieces, "ima-key")))


def judge(measured: Measured, registers: Mapping[str, Mapping[int, bytes]]) -> Ran:
    """Replay against authentic PCRs; boot_aggregate as far as the quote covers PCR 0 to 9.

    Raises `NotAuthentic` (``ima.template-hash``, ``ima.replay``, ``ima.boot-aggregate``) and `Indeterminate` (``ima.uncovered``).
    """
    authentic = ima.authenticate(measured.listed, registers)
    caveats: list[str] = []
    rule = None
    try:
        rule = ima.boot_aggregate(authentic.entries, registers).rule
    except Indeterminate:  # the quote leaves PCRs out: the list is genuine, only its tie to this boot's firmware is unproven
        caveats.append("ima.boot-aggregate-undecided")
    if authentic.later:
        caveats.append("ima.later-entries")
    runtime = ima.runtime(authentic, allowed=measured.allowed, keys=measured.keys)
    covered = ImaLog(authentic.entries, measured.listed.binary, measured.listed.raw)
    value = {authentic.bank: registers[authentic.bank][ima.IMA_PCR]}
    said = {
        **ima.claims(covered, value),
        "boot_aggregate": rule,
        "extended": authentic.generation,
        "unlisted": list(runtime.unlisted),
        "violated": list(runtime.violated),
    }
    return Ran(runtime, said, tuple(caveats))
