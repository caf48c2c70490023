"""What differs between two answers of one machine: continuous attestation names it.

Compared are the decision, the levels, each finding, and every claim; the nonce and all that follows from it (report data, signatures,
times of a quote) differ in honest answers and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from evident.appraisal.statement import TrustStatement
from evident.reports.json_report import Outcome, Recorded

_OF_EACH_ANSWER: Final = frozenset({"report_data", "signature", "nonce", "extra_data", "clock", "reset_count", "timestamp", "user_data"})


def drift(before: Outcome | Recorded, after: Outcome | Recorded) -> tuple[str, ...]:
    """One sentence per difference, in a stable order; none for answers that say the same."""
    changes = [] if before.decision == after.decision else [f"decision: {before.decision} -> {after.decision}"]
    known = {finding.code for finding in before.findings}
    changes += [f"finding {finding.code} [{finding.layer}]: {finding.found}" for finding in after.findings if finding.code not in known]
    if isinstance(before, TrustStatement) and isinstance(after, TrustStatement):
        for name in ("nominal", "trustworthy"):
            old, new = getattr(before.levels, name), getattr(after.levels, name)
            if old != new:
                changes.append(f"{name} level: AL{old} -> AL{new}")
        changes += _claims("", before.claims, after.claims)
    return tuple(changes)


def _claims(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if name in _OF_EACH_ANSWER or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _claims(f"{path}{name}.", old, new)
        else:
            yield f"claim {path}{name}: {old} -> {new}"
