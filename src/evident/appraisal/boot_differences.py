"""A PCR that no reference value equals: in which stages of the boot the log, which replays to it, differs from what was predicted.

The log's digests are those that were extended. Which stage each is of is the log's word, good enough to say what to look at: the
register is refused whatever the answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from evident.appraisal.differences import Difference
from evident.errors import Finding
from evident.reference_values.mismatch import parameter_difference
from evident.reference_values.model import ReferenceValue
from evident.verification.facts import BootChain

COMMAND_LINES = ("cmdline", "load-options")


def nearest(references: Iterable[ReferenceValue], boot: BootChain | None) -> Difference | None:
    """The reference value of one register with the fewest stages that differ; None where no stage tells the difference."""
    found = [Difference(value, findings, explained=False) for value in references if (findings := _differences(value, boot))]
    return min(found, key=lambda difference: len(difference.findings), default=None)


def _differences(value: ReferenceValue, boot: BootChain | None) -> tuple[Finding, ...]:
    told = {stage.name: stage.digest for stage in boot.stages if stage.register == value.register} if boot else {}
    findings = []
    for stage, wanted in value.components.items():
        if stage not in told or told[stage] == wanted:
            continue
        expected, got = wanted.hex(), told[stage].hex()
        if stage in COMMAND_LINES and value.command_line and boot and boot.command_line and boot.command_line != value.command_line:
            expected, got = parameter_difference(value.command_line, boot.command_line)
        remedy = "Find out who changed it. If the change was yours, predict again from the image that boots now (`evident measure uki`)."
        findings.append(Finding(f"boot.{stage}", "boot_chain", f"{stage} {expected} in {value.register}", got, remedy))
    return tuple(findings)
