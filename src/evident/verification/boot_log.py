"""The firmware's log beside PCRs that somebody signed: steps 1 to 4 of `evident.verification.log`, and the boot that it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evident.evidence import tcg_log
from evident.verification import boot_chain, log
from evident.verification.facts import BootChain


@dataclass(frozen=True, slots=True)
class Told:
    """What is authentic of a log."""

    boot: BootChain
    claims: Mapping[str, Any]


def judge(raw: bytes, registers: Mapping[str, Mapping[int, bytes]]) -> Told:
    """Replay a log to the PCRs that a vTPM's quote or document covers.

    Raises `NotAuthentic` (``log.*``), `Malformed` and `Unsupported`.
    """
    authentic = log.authenticate(log.replay(tcg_log.parse(raw, registers="pcr")), registers)
    claims = {
        "bank": authentic.bank,
        "events": len(authentic.replay.events),
        "explained": sorted(authentic.explained, key=lambda name: int(name.removeprefix("pcr"))),
        "quirks": [quirk.name for quirk in authentic.quirks],
    }
    return Told(boot_chain.tell(authentic, "vtpm"), claims)
