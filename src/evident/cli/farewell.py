"""How `evident audit verify` shows a deployment's final record, once its signature has held."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.audit.farewell import Farewell, Opened


def present(opened: Opened, form: str) -> int:
    """Print it; 0, for a record that holds. Raises `UsageError` for a form that only statements have."""
    from evident import codec
    from evident.errors import UsageError

    if form == "json":
        print(json.dumps({"final_record": codec.encode(opened.farewell), "signer": opened.keyid, "sha256": opened.sha256}, indent=2))
    elif form == "text":
        print("\n".join(_lines(opened)))
    else:
        raise UsageError.of(
            "audit.final-record-form",
            expected="text or json, for a final record",
            found=form,
            remedy="Leave out -o, or verify the last answer's bundle in that form.",
        )
    return 0


def _lines(opened: Opened) -> list[str]:
    from evident.reports.view import clean

    said = opened.farewell
    log = said.release_log
    rows = [
        ("destroyed", f"between {said.began:%Y-%m-%d %H:%M:%S} and {said.at:%H:%M:%S} UTC, made {said.planned:%Y-%m-%d %H:%M} UTC"),
        ("consisted of", ", ".join(said.destroyed) or "nothing that was known any more"),
        ("gone", "the cloud lists nothing of it any more" if said.surveyed else "removed from this host; there was no cloud to ask"),
        *(("denied", each) for each in said.denied or ("nothing: it had no disk key, and no evidence ever identified it",)),
        ("last answer", _last(said)),
        (
            "release log",
            f"{log.lines} entries, the last {log.sha256.hex()}" if log else "not readable",
        ),
        ("journal", f"{said.journal.lines} lines, SHA-256 {said.journal.sha256.hex()}"),
        *(("not established", note) for note in said.notes),
        ("signer", opened.keyid),
        ("SHA-256", opened.sha256),
    ]
    head = f"The final record holds: {said.deployment} on {said.platform}, deployment {said.life} of this name, is no more.\n"
    return [clean(head), *(f"  {name:<15} {clean(value)}" for name, value in rows)]


def _last(said: Farewell) -> str:
    if said.last is None:
        return "none that is on record"
    simulated = "SIMULATED, " if said.last.simulated else ""
    return (
        f"{said.last.at:%Y-%m-%d %H:%M:%S} UTC: {simulated}{said.last.decision} ({said.last.code}), nominal level {said.last.nominal}, "
        f"trustworthy level {said.last.trustworthy}; bundle {said.last.bundle}, SHA-256 {said.last.sha256.hex()}"
    )
