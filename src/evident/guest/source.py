"""What a source of evidence is asked, and what it answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from evident.errors import EvidentError, Unsupported
from evident.evidence import binding
from evident.evidence.cmw import Pieces

FILE_LIMIT = 1024 * 1024
"""The kernel's event logs are smaller."""


@dataclass(frozen=True, slots=True)
class Question:
    """The verifier's challenge and the key that the evidence has to bind to it."""

    nonce: bytes
    spki: bytes
    """SubjectPublicKeyInfo (DER) of a key made in this guest."""

    @property
    def report_data(self) -> bytes:
        """64 bytes for a TEE's report."""
        return binding.report_data(self.nonce, self.spki)

    @property
    def extra_data(self) -> bytes:
        """32 bytes for a TPM's quote, which takes no more than one digest."""
        return hashlib.sha256(self.report_data).digest()


@dataclass(frozen=True, slots=True)
class Evidence:
    """An answer: the pieces of evidence by role, and as what they are best verified."""

    kind: str
    """A hint for the verifier, who judges by what verifies (NA-04)."""
    pieces: Pieces
    source: str
    """Name of the source, for the log."""


class Source(Protocol):
    """One way to evidence. `collect` raises an `EvidentError` when it does not work here."""

    @property
    def name(self) -> str: ...

    def collect(self, question: Question) -> Evidence: ...


class Tee(Protocol):
    """A TEE that signs 64 bytes of the guest's choice, by the kind of its evidence (``snp``, ``tdx``).

    `report` raises an `EvidentError` when it does not work here, or is of a kind that is not asked for.
    """

    def report(self, report_data: Mapping[str, bytes]) -> Evidence: ...


def with_key(evidence: Evidence, question: Question) -> Evidence:
    """`evidence` with the key that it binds."""
    return replace(evidence, pieces={**evidence.pieces, "key": (question.spki,)})


def first(attempts: Iterable[Callable[[], Evidence]]) -> Evidence:
    """What the first attempt that works gives; `Unsupported` ``guest.no-evidence`` with what became of each."""
    failures: list[str] = []
    for attempt in attempts:
        try:
            return attempt()
        except EvidentError as error:
            failures.append(f"{error.code} ({error.findings[0].found})")
    raise Unsupported.of(
        "guest.no-evidence",
        expected="an interface to a secure processor, a TD module or a confidential VM's vTPM",
        found="; ".join(failures) or "no source to try",
        remedy="This is no confidential VM, or its kernel lacks the driver: launch it as one.",
    )


def absent(name: str, wanted: str, found: str) -> Unsupported:
    """The error of a source that this machine does not have, or that does not answer."""
    return Unsupported.of(
        f"guest.{name}.unavailable",
        expected=wanted,
        found=found,
        remedy="Launch as a confidential VM whose kernel has this interface; otherwise another source has to do.",
    )


def kernel_file(path: Path) -> bytes:
    """What the kernel shows at `path`, at most `FILE_LIMIT` bytes; empty where there is no such file."""
    try:
        with path.open("rb") as stream:
            return stream.read(FILE_LIMIT)
    except OSError:
        return b""
