"""Kind ``tcg-log``: an event log alone. It is replayed and told, and nothing of it is authentic, for nobody has signed it.

Always ends in `Indeterminate` (``log.unsigned``) with the replayed registers as claims, unless the log is malformed or unsupported:
to believe a log, verify it together with the quote or report that signs its registers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from evident.endorsements import x509
from evident.errors import Indeterminate, Malformed, Unsupported
from evident.evidence import tcg_events, tcg_log
from evident.evidence.importers import event_log
from evident.verification import pieces as piece
from evident.verification.boot_chain import SecureBoot, secure_boot
from evident.verification.context import Context
from evident.verification.log import Replay, replay
from evident.verification.pieces import Pieces, Role

NAME = "tcg-log"
ROLES: Mapping[str, Role] = MappingProxyType({"log": Role("one", tcg_log.MAX_LOG_BYTES, "TCG event log or CCEL data area")})


def claims(replayed: Replay) -> dict[str, Any]:
    """What a replayed log says, JSON-ready: registers (``pcrs`` by bank and index, or ``rtmr0``...), Secure Boot, quirks, counts."""
    log = replayed.log
    state = secure_boot(replayed.events)
    banks = [bank for bank in log.banks if bank in tcg_log.REPLAYABLE]
    registers: dict[str, Any] = {"pcrs": {bank: _hex(replayed.registers.get(bank, {})) for bank in banks}}
    if log.registers == "rtmr":
        values = next(iter(replayed.registers.values()))
        registers = {f"rtmr{number}": values.get(number, bytes(48)).hex() for number in range(4)}
    return {
        **registers,
        "format": log.format,
        "banks": list(log.banks),
        "events": len(log.events),
        "verified_events": sum(item.verified for item in replayed.events),
        "secure_boot": state.enabled,
        "secure_boot_databases": {name: _database(state, name) for name in state.variables},
        "quirks": [{"name": quirk.name, "statement": quirk.statement, "events": list(quirk.events)} for quirk in replayed.quirks],
    }


def _database(state: SecureBoot, name: str) -> list[dict[str, str]] | None:
    """Certificates by subject and SHA-256, and digests, each with its owner; None where the data are no signature lists."""
    try:
        entries = state.entries(name)
    except Malformed:  # the variable's digest stands all the same
        return None
    return [
        {"kind": entry.kind, "owner": entry.owner, **(_certificate(entry.data) if entry.kind == "x509" else {"digest": entry.data.hex()})}
        for entry in entries
    ]


def _certificate(der: bytes) -> dict[str, str]:
    fingerprint = {"sha256": hashlib.sha256(der).hexdigest()}
    try:
        return {"subject": x509.load_all(der)[0].name, **fingerprint}
    except (Malformed, Unsupported):  # firmware boots with it all the same; its digest names it
        return fingerprint


def event_claims(replayed: Replay) -> list[dict[str, Any]]:
    """Every event, JSON-ready: number, register, type, what it says, and whether its digest follows from that."""
    return [
        {
            "number": item.event.number,
            "register": item.register or None,
            "type": tcg_events.type_name(item.event.type),
            "digests": {bank: digest.hex() for bank, digest in item.event.digests.items()},
            "says": str(item.decoded),
            "basis": item.basis.rule if item.verified else "asserted" if item.register else "not extended",
        }
        for item in replayed.events
    ]


def _hex(values: Mapping[int, bytes]) -> dict[str, str]:
    return {str(index): value.hex() for index, value in values.items()}


def verify(pieces: Pieces, context: Context) -> NoReturn:
    """Replay the log; never returns. Raises as the module says."""
    piece.check(pieces, ROLES, NAME)
    replayed = replay(event_log.read(piece.one(pieces, "log")))
    said = {**claims(replayed), "event_list": event_claims(replayed)}
    raise Indeterminate.of(
        "log.unsigned",
        expected="a quote or report that signs the registers",
        found=f"a log alone, of {len(replayed.events)} events, judged at {context.at.isoformat()}",
        remedy="Verify it with the quote: --kind tpm (or the cloud's kind) quote=... signature=... ak=... log=...",
        layer="boot_chain",
    ).with_claims(said)
