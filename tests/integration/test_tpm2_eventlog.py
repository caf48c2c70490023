"""tpm2_eventlog (tpm2-tools) as an oracle: every event of every real log, and the registers it computes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import Vectors, vector_cases
from tests.unit.evidence.test_tcg_log import LOG_NAMES

from evident.evidence import efi, tcg_log
from evident.evidence.tcg_events import type_name
from evident.verification.log import replay

# What the oracle prints differently, by its own rules: newer types it does not know, and vendor names for known ones.
UNKNOWN_TO_THE_ORACLE = {"EV_EFI_PLATFORM_FIRMWARE_BLOB2", "EV_EFI_HANDOFF_TABLES2", "EV_POST_CODE2", "EV_EFI_VARIABLE_BOOT2"}


def oracle(path: Path) -> dict[str, Any]:
    tool = shutil.which("tpm2_eventlog")
    if tool is None:
        pytest.skip("no tpm2_eventlog (Debian: tpm2-tools)")
    done = subprocess.run([tool, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"tpm2_eventlog does not read this log (it knows no CCEL): {done.stderr.decode(errors='replace').splitlines()[:1]}")
    text = done.stdout.decode("utf-8", "replace")
    if "EventNum:" not in text:  # of SHA-1 logs it prints the events without the dash that would make them a list
        text = re.sub(r"^  PCRIndex:", "- PCRIndex:", text, flags=re.MULTILINE)
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.mark.parametrize("case", vector_cases("eventlog/"))
def test_events_and_registers_agree(vectors: Vectors, case: str) -> None:
    name = next(entry["name"] for entry in vectors.cases[case]["files"] if entry["name"] in LOG_NAMES)
    theirs = oracle(vectors.root / case / name)
    log = tcg_log.parse(vectors.read(case, name))
    replayed = replay(log)
    offset = 1 if log.header is not None else 0
    listed = theirs["events"][offset:]
    assert len(listed) >= len(log.events)
    for ours, item in zip(replayed.events, listed, strict=False):
        assert item["PCRIndex"] == ours.event.register
        if type_name(ours.event.type) not in UNKNOWN_TO_THE_ORACLE:
            assert item["EventType"] == type_name(ours.event.type)
        assert item["EventSize"] == len(ours.event.data)
        digests = item.get("Digests") or [{"AlgorithmId": "sha1", "Digest": item.get("Digest")}]
        assert {entry["AlgorithmId"]: entry["Digest"] for entry in digests} == {
            bank: digest.hex() for bank, digest in ours.event.digests.items()
        }
        if isinstance(ours.decoded, efi.Variable) and isinstance(item["Event"], dict) and "UnicodeName" in item["Event"]:
            assert item["Event"]["UnicodeName"] == ours.decoded.name
            assert item["Event"]["VariableName"] == ours.decoded.vendor
    # Version 5.4 extends PCR 0 by no-action events and does not know the startup locality; the manifest's PCR 0 is ours (test_log).
    skipped = {0} if any(event.type == tcg_log.EV_NO_ACTION for event in log.events) else set()
    for bank, registers in (theirs.get("pcrs") or {}).items():
        values = replayed.registers.get(bank, {})
        if log.registers == "pcr" and bank in replayed.registers:
            computed = {index: value for index, value in registers.items() if index not in skipped}
            assert computed == {index: int.from_bytes(value, "big") for index, value in values.items() if index not in skipped}
