"""Evidence made by hand, so that every property of the appraisal can be varied alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.verification.facts import BootChain, Facts, Freshness, Stage, Tee, Vtpm
from evident.verification.verified import _TOKEN, StepRecord, Verified

AT = datetime(2026, 11, 22, tzinfo=UTC)
LAUNCH = bytes.fromhex("11" * 48)
ROOT_HASH = "ab" * 32
COMMAND_LINE = f"console=ttyS0 roothash={ROOT_HASH}"
TCB = {"bootloader": 4, "tee": 0, "snp": 20, "microcode": 210}


def make_tee(**changes: Any) -> Tee:
    tee = Tee(
        technology="snp",
        vendor="AMD",
        product="Milan",
        report_key="vcek",
        key_holder=None,
        identities={"chip_id": "c3" * 64, "hwid": "c3" * 64},
        registers={"launch": LAUNCH, "host_data": bytes(32), "report_id_ma": b"\xff" * 32, "id_key_digest": bytes(48)},
        privilege_level=0,
        debug=False,
        migratable=False,
        settings={"policy.smt": True, "platform.tsme": False},
        tcb={"reported": TCB, "current": TCB, "committed": TCB, "launch": TCB},
        guest_svn=2,
    )
    return replace(tee, **changes)


def make_facts(**changes: Any) -> Facts:
    facts = Facts(
        kind="snp", technology="snp", freshness=Freshness("challenge", "REPORT_DATA equals the challenge", "tee", AT), tee=make_tee()
    )
    return replace(facts, **changes)


def make_vtpm(**changes: Any) -> Vtpm:
    vtpm = Vtpm("hypervisor", "certificate", "ExampleCloud", {"sha256": {4: b"\x04" * 32, 11: b"\x0b" * 32}})
    return replace(vtpm, **changes)


def make_boot(**changes: Any) -> BootChain:
    boot = BootChain(
        "vtpm",
        (
            Stage("uki", b"\x55" * 32, "sha256", register="pcr4"),
            Stage("kernel", b"\x66" * 32, "sha256", register="pcr11"),
            Stage("cmdline", b"\x77" * 32, "sha256", register="pcr11"),
        ),
        {"pcr4": b"\x04" * 32, "pcr11": b"\x0b" * 32},
        command_line=COMMAND_LINE,
    )
    return replace(boot, **changes)


def make_reference(**changes: Any) -> ReferenceValue:
    value = ReferenceValue(
        layers=("firmware", "boot_chain", "root_filesystem"),
        register="launch",
        value=LAUNCH,
        strength=Strength.REBUILT,
        endorser="you",
        description="firmware, kernel, initrd and command line, 2 vCPUs",
        provenance=Provenance("a test", "made by hand"),
        components={"kernel": b"\x01" * 32, "initrd": b"\x02" * 32, "cmdline": b"\x03" * 32, "verity_root_hash": bytes.fromhex(ROOT_HASH)},
        command_line=COMMAND_LINE,
    )
    return replace(value, **changes)


def make_verified(facts: Facts | None = None, **changes: Any) -> Verified[object]:
    verified: Verified[object] = Verified(
        evidence=object(),
        facts=facts or make_facts(),
        procedure="snp",
        required=frozenset({"snp.chain", "snp.signature"}),
        steps=(StepRecord("snp.chain", "The chain holds."), StepRecord("snp.signature", "The signature holds.")),
        at=AT,
        revocation="good",
        simulated=False,
        endorsers=("AMD", "AMD-SP"),
        _token=_TOKEN,
    )
    return replace(verified, **changes)


@pytest.fixture
def verified() -> Callable[..., Verified[object]]:
    """`verified(facts=None, **changes)`: good evidence of a direct boot, with changes."""
    return make_verified


@pytest.fixture
def facts() -> Callable[..., Facts]:
    return make_facts


@pytest.fixture
def tee() -> Callable[..., Tee]:
    return make_tee


@pytest.fixture
def vtpm() -> Callable[..., Vtpm]:
    return make_vtpm


@pytest.fixture
def boot() -> Callable[..., BootChain]:
    return make_boot


@pytest.fixture
def reference() -> Callable[..., ReferenceValue]:
    return make_reference
