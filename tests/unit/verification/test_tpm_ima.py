"""IMA lists beside a quote: the userspace of the statement, and the attacks on it (AT-33 to AT-35) through the whole procedure."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from datetime import UTC, datetime

import pytest
from tests.unit.evidence.test_ima_log import DIGEST, an_entry
from tests.unit.evidence.test_tcg_log import a_header
from tests.unit.verification.test_log import measured

from evident.appraisal.beside import userspace
from evident.endorsements import anchors
from evident.errors import Indeterminate, NotAuthentic
from evident.evidence import ima_log, tcg_log
from evident.evidence.pcr import digest
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import boot_chain, ima, log, log_rules
from evident.verification import tpm as procedure
from evident.verification.context import Context
from evident.verification.remarks import REMARKS
from evident.verification.verified import Verified

AT = datetime(2026, 6, 20, tzinfo=UTC)
NONCE = bytes(range(32))
BANKS = ("sha256", "sha384")
LOG = a_header() + measured(4, 4, bytes(4)) + measured(7, 4, bytes(4))


def booted(*lines: bytes) -> tuple[SimulatedTpm, bytes]:
    """A machine that measured `LOG`, then boot_aggregate and `lines`; and its list."""
    machine = SimulatedTpm()
    for event in tcg_log.parse(LOG).events:
        machine.extend(event.register, {bank: digest(bank, event.data) for bank in BANKS})
    covered = b"".join(machine.pcrs["sha256"][index] for index in range(10))
    aggregate = hashlib.sha256(covered).hexdigest()
    data = b"".join(len(field).to_bytes(4, "little") + field for field in (b"sha256:\0" + bytes.fromhex(aggregate), b"boot_aggregate\0"))
    first = f"10 {hashlib.sha1(data).hexdigest()} ima-ng sha256:{aggregate} boot_aggregate\n".encode()  # noqa: S324 - the kernel's template hash
    listed = first + b"".join(lines)
    for entry in ima_log.parse(listed).entries:
        machine.extend(10, {bank: ima.measured_digest(entry, bank, "per-bank") for bank in BANKS})
    return machine, listed


def judged(machine: SimulatedTpm, listed: bytes, *, without: frozenset[str] = frozenset(), **more: bytes) -> Verified[object]:
    quote, signature = machine.quote(NONCE)
    values = {"sha256": {str(index): value.hex() for index, value in machine.pcrs["sha256"].items()}}
    pieces = {
        "quote": quote,
        "signature": signature,
        "ak": machine.ak.tpm2b,
        "pcrs": json.dumps(values).encode(),
        "log": LOG,
        "ima": listed,
    }
    context = Context(at=AT, anchors=anchors.production(), fetcher=None, nonce=NONCE)  # type: ignore[arg-type]  # no network here
    return procedure.verify({role: (content,) for role, content in (pieces | more).items()}, context, without=without)


def test_a_genuine_list_becomes_the_userspace() -> None:
    machine, listed = booted(an_entry("/bin/sh"), an_entry("/init"))
    allowed = {"allow-list": f"{DIGEST}  /bin/sh\n".encode()}
    runtime = judged(machine, listed, **allowed).facts.runtime
    assert runtime is not None
    assert (runtime.entries, runtime.violations, runtime.unlisted) == (2, 0, ("/init",))
    assert set(ima.GAPS) <= set(runtime.gaps)
    claims = judged(machine, listed).facts.claims["ima"]
    assert claims["boot_aggregate"] == "sha256 over sha256 PCR 0-9"
    assert claims["pcrs"] == {"sha256": {"10": machine.pcrs["sha256"][10].hex()}}


def test_a_kernel_whose_policy_measures_nothing_shows_nothing() -> None:
    """Its list is boot_aggregate alone: of firmware, and no file of user space."""
    runtime = judged(*booted()).facts.runtime
    assert runtime is not None
    assert (runtime.entries, runtime.unlisted) == (0, ())
    assert userspace(judged(*booted()).facts, "somebody", True, "fresh").verifiability == 0


def test_what_the_list_explains_is_not_called_unexplained() -> None:
    """PCR 10 is the kernel's: the firmware's log says nothing of it."""
    machine, listed = booted(an_entry("/init"))
    boot = judged(machine, listed).facts.boot
    assert boot is not None
    assert "log.register-unexplained" not in boot.caveats
    machine.extend(13, {"sha256": bytes(32)})
    assert (other := judged(machine, listed).facts.boot) is not None
    assert "log.register-unexplained" in other.caveats


@pytest.mark.attack("AT-35", "Entries are taken out of a measurement list, reordered, renamed or cut off.", "ima.replay")
def test_at35_edited_lists_are_refused_by_this_step_alone() -> None:
    machine, listed = booted(an_entry("/bin/sh"), an_entry("/opt/rootkit"), an_entry("/init"))
    lines = listed.splitlines(keepends=True)
    edits = {
        "removed": b"".join(lines[:2] + lines[3:]),
        "reordered": b"".join([*lines[:2], lines[3], lines[2]]),
        "truncated": b"".join(lines[:-1]),
        "renamed": listed.replace(b"/opt/rootkit", b"/opt/rootnot"),
    }
    for name, edited in edits.items():
        with pytest.raises(NotAuthentic) as caught:
            judged(machine, edited)
        assert caught.value.code == ("ima.template-hash" if name == "renamed" else "ima.replay")
        passed = judged(machine, edited, without=frozenset({"tpm.ima"}))
        assert "tpm.ima" in passed.required - {record.id for record in passed.steps}


def test_at34_violations_are_counted() -> None:
    machine, listed = booted(b"10 " + b"0" * 40 + b" ima-ng sha1:" + b"0" * 40 + b" /bin/changed\n")
    runtime = judged(machine, listed).facts.runtime
    assert runtime is not None
    assert runtime.violations == 1


@pytest.mark.attack("AT-35", "The measurement list of another boot is sent along.", "ima.boot-aggregate", "refused")
def test_a_list_of_another_boot_is_refused() -> None:
    machine, listed = booted(an_entry("/bin/sh"))
    other = SimulatedTpm()
    for entry in ima_log.parse(listed).entries:
        other.extend(10, {bank: ima.measured_digest(entry, bank, "per-bank") for bank in BANKS})
    with pytest.raises(NotAuthentic) as caught:
        judged(other, listed)
    assert "ima.boot-aggregate" in {finding.code for finding in caught.value.findings}
    judged(machine, listed)


def test_entries_after_the_quote_are_dropped_and_said() -> None:
    machine, listed = booted(an_entry("/bin/sh"))
    verified = judged(machine, listed + an_entry("/opt/later"))
    assert "ima.later-entries" in verified.facts.caveats
    assert verified.facts.runtime is not None
    assert "/opt/later" not in verified.facts.runtime.unlisted


def test_a_list_of_another_pcr_is_undecided() -> None:
    machine, listed = booted()
    with pytest.raises(Indeterminate) as caught:
        judged(machine, listed.replace(b"10 ", b"11 ", 1))
    assert caught.value.code == "ima.uncovered"


def test_every_deviation_that_replay_can_name_has_words() -> None:
    source = "".join(inspect.getsource(module) for module in (log, log_rules, boot_chain))
    names = set(re.findall(r'Quirk\(\s*"([a-z0-9-]+)"', source)) | set(re.findall(r'"log\.(command-line-[a-z]+)"', source))
    names |= {rule.name for rule in log_rules.RULES if rule.quirk} | {completion.name for completion in log.COMPLETIONS}
    names |= set(re.findall(r'note\("([a-z0-9-]+)"', source))
    assert len(names) > 15
    assert not {name for name in names if f"log.{name}" not in REMARKS}
