"""Step 18 of kind ``tdx``: the event log of a TD against the four run-time registers that its quote signs.

A register confirms the *digests* of a log, in their order, and nothing else of it. Events whose digest follows from their own data are
verified; all others are the guest's word, listed as such (``claims.log.guest_asserted``) and remarked on (`CAVEAT_ASSERTED`). The
digests of ACPI tables get a remark of their own: verifiers have taken them from the very log that they were to judge (dstack issue 1051),
which lets a host choose them. Evident never makes a reference value of a log.

Sources: Intel, "Guest-Host-Communication Interface for TDX", section 4.3 (CCEL); UEFI 2.10, section 38.4.1 (register mapping).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evident.evidence import tcg_events as events
from evident.evidence.importers import event_log
from evident.evidence.tdx_quote import TdReport
from evident.verification import boot_chain, log
from evident.verification.facts import BootChain
from evident.verification.log import ReplayedEvent

CAVEAT_ASSERTED = "tdx.log.guest-asserted"
CAVEAT_ACPI = "tdx.log.acpi-asserted"
ACPI_TEXT = "ACPI DATA"
"""Event data under which OVMF measures the three files of QEMU's ACPI table loader."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a log that replays to signed registers may be believed to say."""

    boot: BootChain
    caveats: tuple[str, ...]
    claims: Mapping[str, Any]


def tell(raw: bytes, report: TdReport) -> Told:
    """The boot chain of a log against the RTMRs of an authentic `report`.

    Raises `NotAuthentic` (``log.replay``, naming each register that differs), `Indeterminate`, `Malformed`, `Unsupported`.
    """
    replayed = log.replay(event_log.read(raw, registers="rtmr"))
    authentic = log.authenticate(replayed, {"sha384": dict(enumerate(report.rtmrs))})
    asserted = [item for item in authentic.events() if not item.verified]
    caveats = (*((CAVEAT_ASSERTED,) if asserted else ()), *((CAVEAT_ACPI,) if any(map(_is_acpi, asserted)) else ()))
    claims = {
        "events": len(replayed.events),
        "explained": sorted(authentic.explained),
        "quirks": [quirk.name for quirk in authentic.quirks],
        "guest_asserted": [
            {
                "number": item.event.number,
                "register": item.register,
                "type": events.type_name(item.event.type),
                "says": str(item.decoded),
                "digest": item.event.digests["sha384"].hex(),
            }
            for item in asserted
        ],
    }
    return Told(boot_chain.tell(authentic, "tee"), caveats, claims)


def _is_acpi(item: ReplayedEvent) -> bool:
    return item.event.type == events.EV_PLATFORM_CONFIG_FLAGS and str(item.decoded) == ACPI_TEXT
