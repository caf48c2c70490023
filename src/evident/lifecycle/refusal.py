"""The answer to a refusal: the machine is quarantined, kept or destroyed as specified, and its owner told which layer failed.

(1) the journal says QUARANTINED, by which finding, and what is to become of the machine
(2) from that line on nothing is released to it (`evident.lifecycle.quarantine`)
(3) it is destroyed, where the specification says so; else it stays as it is, for whoever wants to look at it
(4) its owner is told

The one line is the whole quarantine, so that a crash leaves it in force or not yet begun; (3) is finished by the next attestation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evident.errors import Finding
from evident.lifecycle import farewell, quarantine, specification
from evident.lifecycle.answers import levels
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.reports.json_report import Outcome


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was done about a refused machine."""

    finding: Finding
    """The leading one: the layer that failed, and why."""
    record: Path | None
    """The final record, where it was destroyed; None where it is kept."""

    @property
    def words(self) -> str:
        """For the owner, in a sentence."""
        failed = f"refused at layer {self.finding.layer.replace('_', ' ')} ({self.finding.code})"
        if self.record is not None:
            return f"{failed} and destroyed, as specified; final record: {self.record}"
        return f"{failed} and quarantined: it gets no secrets until it attests again, or another image is put in its place"


def answer(target: Deployment, outcome: Outcome, *, spare: bool = False) -> Refusal:
    """Answer `outcome`, the statement or error that refuses `target`. May be repeated after a crash.

    `spare`: keep it whatever the specification says, for it was held to another policy than its own.
    """
    first, wanted = outcome.findings[0], specification.kept(target)
    what = wanted.on_refusal if wanted and not spare else "keep"
    said = {"decision": outcome.decision, "code": first.code, "layer": first.layer, "answer": what, **levels(outcome)}
    target.record(State.QUARANTINED, **said)
    done = Refusal(first, farewell.down(target) if what == "destroy" else None)
    target.surroundings.progress(f"{target.name}: {done.words}")
    return done


def finish(target: Deployment) -> None:
    """Destroy `target` where a refusal was to and a crash came in between."""
    held = quarantine.in_force(target)
    if held is not None and held.detail.get("answer") == "destroy":
        farewell.down(target)
