"""TrustStatements written by hand: renderings are judged on what they are given, not on how it came about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.appraisal.degrees import Levels, Verifiability
from evident.appraisal.statement import Answer, Caveat, Component, Layer, TrustStatement
from evident.errors import Finding

KERNEL = "2b7ad1c5" * 8
OTHER = "91f00e3d" * 8


def _layer(name: str, level: int | None, degree: int, **more: Any) -> Layer:
    base = Layer(
        name=name,
        level=level,
        verifiability=Verifiability(degree),
        summary="",
        endorsers=("AMD",),
        residual_trust=(),
        trusted_parties=(),
        needs_provider=False,
        freshness="bound to this challenge",
        evidence=(),
    )
    return dataclasses.replace(base, **more)


LAYERS = (
    _layer(
        "root_of_trust",
        1,
        1,
        summary="A genuine AMD Milan processor answered this challenge.",
        endorsers=("AMD", "AMD secure processor"),
        residual_trust=("AMD, who makes the processor and signs for its keys",),
        evidence=("report signature over 0x000-0x29f", "report REPORT_DATA (0x050-0x08f)"),
        caveats=(Caveat("tcb.smt", "Simultaneous multithreading is on.", "Start the guest with SMT forbidden by policy."),),
    ),
    _layer(
        "firmware",
        2,
        4,
        summary="The firmware is the one you rebuilt from source.",
        endorsers=("AMD secure processor", "you"),
        residual_trust=("the authors of the firmware's source",),
        evidence=("report MEASUREMENT (0x090-0x0bf)",),
        components=(Component("OVMF.fd", "ab" * 48, "sha384", "matched", "virtual firmware"),),
    ),
    _layer(
        "boot_chain",
        3,
        3,
        summary="Kernel, initial RAM disk and command line are the ones you named.",
        endorsers=("AMD secure processor", "you"),
        residual_trust=("whoever built the kernel binary",),
        components=(
            Component("kernel", KERNEL, "sha256", "matched", "vmlinuz-6.12"),
            Component("cmdline", "cd" * 32, "sha256", "matched", "console=ttyS0"),
        ),
    ),
    _layer(
        "root_filesystem",
        4,
        0,
        summary="No evidence speaks of the root file system.",
        endorsers=(),
        needs_provider=True,
        residual_trust=("whoever can write the disk",),
    ),
    _layer(
        "provisioning",
        None,
        0,
        summary="cloud-init is not measured.",
        endorsers=(),
        needs_provider=True,
        residual_trust=("the host, which supplies metadata and ACPI tables",),
    ),
)
STATEMENT = TrustStatement(
    decision="accepted",
    code="accepted",
    platform="qemu-snp",
    technology="snp",
    simulated=False,
    at=datetime(2026, 11, 22, 6, 0, tzinfo=UTC),
    authentic=True,
    revocation="good",
    levels=Levels(3, 3),
    layers=LAYERS,
    questions=(
        Answer("Is it a genuine confidential VM?", "yes", "AMD's chain of certificates ends in this report.", ("report",), ("AMD",)),
        Answer("Can the disk be put back?", "unknown", "No evidence speaks of storage.", (), ("the host",)),
    ),
    findings=(),
    headline={
        "use": "Yes, for what the policy asks: level 3 is proven.",
        "proven": "A genuine processor, your firmware, your kernel.",
        "trust": "AMD, and whoever can write the disk.",
        "todo": "Nothing. To prove the root file system, put a dm-verity root hash on the command line.",
    },
    claims={"snp": {"measurement": "ab" * 48, "policy": 196608, "vmpl": 0}, "big": 2**70},
    steps=("The chain ends in a pinned AMD root.", "The signature over the report holds."),
    unsafe=(),
    policy_name="strict",
    policy_sha256="11" * 32,
    reference_sha256="22" * 32,
    profile="qemu-snp as of 2026-11-22",
    endorsers=("AMD", "AMD secure processor"),
    kind="snp",
)
SWAPPED = Finding(
    "boot_chain.kernel",
    "boot_chain",
    f"kernel {KERNEL[:16]}…",
    f"kernel {OTHER[:16]}…",
    "The host started another kernel than the one you named. Do not use this machine; destroy it and start it elsewhere.",
)
NO_CRL = Finding(
    "snp.crl.missing",
    "root_of_trust",
    "a certificate revocation list of ARK-Milan no older than the evidence",
    "none: the cache is empty and the network is off",
    "Run `evident trust fetch` on a connected machine, then verify again.",
)


@pytest.fixture
def statement() -> Callable[..., TrustStatement]:
    """The good statement, with whatever a test changes."""

    def make(**changes: Any) -> TrustStatement:
        return dataclasses.replace(STATEMENT, **changes)

    return make


@pytest.fixture
def refused(statement: Callable[..., TrustStatement]) -> TrustStatement:
    """A kernel swapped by the host."""
    kernel = Component("kernel", OTHER, "sha256", "differs", "not the kernel that was named")
    layers = tuple(
        dataclasses.replace(layer, verifiability=Verifiability.LINK, components=(kernel,)) if layer.name == "boot_chain" else layer
        for layer in LAYERS
    )
    return statement(
        decision="refused",
        code=SWAPPED.code,
        layers=layers,
        levels=Levels(2, 2),
        findings=(SWAPPED,),
        headline={
            "use": "No. The kernel is not the one you named.",
            "proven": "A genuine processor and your firmware; not what they started.",
            "trust": "Whoever chose the other kernel: the host.",
            "todo": SWAPPED.remedy,
        },
    )


@pytest.fixture
def undecided(statement: Callable[..., TrustStatement]) -> TrustStatement:
    return statement(
        decision="indeterminate",
        code=NO_CRL.code,
        revocation="unknown",
        findings=(NO_CRL,),
        headline={**STATEMENT.headline, "use": "Not yet. Whether AMD has revoked this chain is not known.", "todo": NO_CRL.remedy},
    )
