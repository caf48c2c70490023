"""What every statement assumes and does not cover, versioned and machine-readable (AL-19, AL-05, AT-56, AT-59)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from evident.appraisal.statement import Caveat
from evident.verification.remarks import NO_REMEDY, remark

VERSION = 1
"""Rises whenever a line below changes its meaning."""

TRUSTED = ("the silicon vendor and its hardware", "the verifier and whoever runs it")
HOSTILE = ("all software outside the confidential VM, on your own host too", "the network", "other tenants")
ENFORCED_BY_HARDWARE = ("memory confidentiality", "protection against memory replay, remapping and register replay")
OUT_OF_SCOPE = ("availability", "side channels", "physical attacks on chip and memory bus", "defects of the software inside the VM")


def model() -> Mapping[str, object]:
    """The threat model as a statement carries it."""
    return {
        "version": VERSION,
        "trusted": list(TRUSTED),
        "hostile": list(HOSTILE),
        "enforced_by_hardware": list(ENFORCED_BY_HARDWARE),
        "out_of_scope": list(OUT_OF_SCOPE),
    }


CAVEATS: Mapping[str, Caveat] = MappingProxyType(
    {
        "side-channels": Caveat(
            "threat.side-channels",
            "Attestation says nothing of side channels (cache, timing, ciphertext) through which a neighbour or the host may learn.",
            "Prefer hardware with ciphertext hiding and turn SMT off where the statement shows that you can.",
        ),
        "physical": Caveat(
            "threat.physical",
            "Whoever holds the machine may attack the chip or the memory bus; keys have been extracted from chips before.",
            "Pin your own machines with allowed_identities, and deny known-bad ones with deny.",
        ),
        "replay": Caveat(
            "threat.memory-integrity",
            "Protection against memory replay and remapping is enforced by the hardware; Evident cannot check it.",
            NO_REMEDY,
        ),
        "software-inside": Caveat(
            "threat.software-inside",
            "A genuine TEE excludes the host from the trusted base, not the software inside the VM.",
            "Reach a higher level: the layers above say what runs inside.",
        ),
    }
)


def said(code: str) -> Caveat:
    """A coded remark of the verification, in words."""
    words = remark(code)
    return Caveat(code, words.text, words.remedy)
