"""Expected PCR values as what they are made of: a list of measurements per PCR, in the form that systemd-pcrlock reads and writes.

Sources: systemd-pcrlock(8) and systemd.pcrlock(5) (``.pcrlock`` files: JSON ``records`` of ``pcr`` and ``digests``); TCG PFP 1.06, section
2.3.4 (which PCR holds what) and 3.3.4.8 (PCR 7). A file that lists all measurements of PCR 4 (with the two events that precede every boot
attempt) serves as an expected-PCR file as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from evident import codec
from evident.errors import Malformed
from evident.evidence import efi
from evident.evidence.pcr import DIGEST_SIZES, extend, initial_pcr
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength
from evident.reference_values.snp_reference import settles_root, verity_root_hash

WHAT = "pcrlock"
MAX_RECORDS = 4096
BOOT_OPTION = b"Calling EFI Application from Boot Option"
SEPARATOR = bytes(4)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One extend: `digests` by bank. `stage` names the stage of the boot chain whose content it is, or is empty."""

    pcr: int
    digests: Mapping[str, bytes]
    what: str = ""
    stage: str = ""

    @classmethod
    def of(cls, pcr: int, content: bytes, banks: Iterable[str], what: str, stage: str = "") -> Measurement:
        """The measurement of `content` itself."""
        return cls(pcr, {bank: hashlib.new(bank, content).digest() for bank in banks}, what, stage)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a boot will measure, and under which assumptions."""

    measurements: tuple[Measurement, ...]
    unextended: tuple[int, ...] = ()
    """PCRs that stay as they start (12 without overrides)."""
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    """Name to SHA-256 of every input."""
    assumptions: tuple[str, ...] = ()
    command_line: str | None = None

    def values(self, bank: str) -> dict[int, bytes]:
        """PCR to expected value."""
        replayed = values(self.measurements, bank)
        return dict(sorted({**{pcr: initial_pcr(pcr, bank) for pcr in self.unextended}, **replayed}.items()))


def values(measurements: Iterable[Measurement], bank: str) -> dict[int, bytes]:
    """The PCR values after `measurements`, each PCR from its initial value. Raises `Malformed` (``pcrlock.bank``) for a missing digest."""
    result: dict[int, bytes] = {}
    for number, measurement in enumerate(measurements):
        if bank not in measurement.digests:
            raise Malformed.of(
                f"{WHAT}.bank",
                expected=f"a {bank} digest in every record",
                found=f"record {number} (PCR {measurement.pcr}) has {', '.join(measurement.digests)}",
                remedy="Predict again with that bank.",
            )
        current = result.get(measurement.pcr, initial_pcr(measurement.pcr, bank))
        result[measurement.pcr] = extend(bank, current, measurement.digests[bank])
    return dict(sorted(result.items()))


def boot_attempt(banks: Sequence[str]) -> tuple[Measurement, ...]:
    """What firmware measures into PCR 4 before it starts the first boot option."""
    return (
        Measurement.of(4, BOOT_OPTION, banks, "boot attempt"),
        Measurement.of(4, SEPARATOR, banks, "separator"),
    )


@dataclass(frozen=True, slots=True)
class SecureBootVariables:
    """Contents of the variables that PCR 7 holds, as the firmware has them; empty where one does not exist."""

    enabled: bool
    pk: bytes = b""
    kek: bytes = b""
    db: bytes = b""
    dbx: bytes = b""
    authorities: tuple[bytes, ...] = ()
    """Certificates (DER) out of db that boot images are verified with, in the order of their first use."""


def secure_boot_policy(variables: SecureBootVariables, banks: Sequence[str]) -> tuple[Measurement, ...]:
    """PCR 7: the five variables, the separator, and the db entry behind each authority (PFP 3.3.4.8).

    Raises `Malformed` (``efi.signatures.*``; ``pcr7.authority`` for a certificate that db does not hold).
    """
    state = b"\x01" if variables.enabled else b"\x00"
    contents = (
        (efi.GLOBAL_VARIABLE, "SecureBoot", state),
        (efi.GLOBAL_VARIABLE, "PK", variables.pk),
        (efi.GLOBAL_VARIABLE, "KEK", variables.kek),
        (efi.IMAGE_SECURITY_DATABASE, "db", variables.db),
        (efi.IMAGE_SECURITY_DATABASE, "dbx", variables.dbx),
    )
    measurements = [Measurement.of(7, efi.serialize_variable(*content), banks, f"variable {content[1]}") for content in contents]
    measurements.append(Measurement.of(7, SEPARATOR, banks, "separator"))
    entries = efi.parse_signature_lists(variables.db)
    for authority in variables.authorities:
        entry = next((entry for entry in entries if entry.data == authority), None)
        if entry is None:
            raise Malformed.of(
                "pcr7.authority",
                expected="a certificate that db holds",
                found=f"SHA-256 {hashlib.sha256(authority).hexdigest()}",
                remedy="Give the certificate in db that the boot image chains to, in DER.",
            )
        content = efi.serialize_variable(efi.IMAGE_SECURITY_DATABASE, "db", efi.guid_bytes(entry.owner) + entry.data)
        measurements.append(Measurement.of(7, content, banks, "authority from db"))
    return tuple(measurements)


def to_pcrlock(measurements: Iterable[Measurement]) -> bytes:
    """A ``.pcrlock`` file."""
    records = [
        {"pcr": item.pcr, "digests": [{"hashAlg": bank, "digest": digest.hex()} for bank, digest in item.digests.items()]}
        for item in measurements
    ]
    return json.dumps({"records": records}, indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class _Digest:
    hashAlg: str  # noqa: N815 - the file's own spelling
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Record:
    pcr: int
    digests: tuple[_Digest, ...]


@dataclass(frozen=True, slots=True)
class _File:
    records: tuple[_Record, ...]


def from_pcrlock(raw: bytes) -> tuple[Measurement, ...]:
    """Read a ``.pcrlock`` file (or an expected-PCR file of the same form) strictly.

    Raises `Malformed` (``pcrlock.*``): unknown banks, wrong digest sizes, a bank twice, PCRs beyond 23.
    """
    parsed = codec.decode(_File, codec.loads(raw, WHAT), WHAT)
    if len(parsed.records) > MAX_RECORDS:
        raise Malformed.of(f"{WHAT}.records", expected=f"at most {MAX_RECORDS}", found=f"{len(parsed.records)}", remedy="Split the file.")
    measurements: list[Measurement] = []
    for number, record in enumerate(parsed.records):
        digests = {entry.hashAlg: entry.digest for entry in record.digests}
        wrong = [bank for bank, digest in digests.items() if DIGEST_SIZES.get(bank) != len(digest)]
        if wrong or len(digests) != len(record.digests) or not digests or not 0 <= record.pcr <= 23:
            raise Malformed.of(
                f"{WHAT}.record",
                expected="a PCR up to 23 and one digest of the right size for each bank",
                found=f"record {number}: PCR {record.pcr}, {', '.join(digests) or 'no digest'}",
                remedy="Make the file anew with evident measure pcr, or systemd-pcrlock.",
            )
        measurements.append(Measurement(record.pcr, digests))
    return tuple(measurements)


def read_records(raw: bytes) -> ReferenceSet:
    """A ``.pcrlock`` file as reference values, in every bank that all of its records have; ``you`` endorse what you give."""
    measurements = from_pcrlock(raw)
    banks = [bank for bank in DIGEST_SIZES if measurements and all(bank in item.digests for item in measurements)]
    prediction = Prediction(
        measurements, artifacts={"file": hashlib.sha256(raw).digest()}, assumptions=("the file lists every measurement",)
    )
    found = [value for bank in banks for value in references(prediction, bank=bank, origin="pcrlock file", strength=Strength.ENDORSED)]
    return ReferenceSet(1, tuple(found), "expected measurements")


def references(
    prediction: Prediction,
    *,
    bank: str = "sha256",
    origin: str = "inputs given to evident measure",
    endorser: str = "you",
    strength: Strength = Strength.RECOMPUTED,
    recorded_at: datetime | None = None,
) -> tuple[ReferenceValue, ...]:
    """One reference value per predicted PCR; those that hold the command line also settle the root that it names."""
    verity = verity_root_hash(prediction.command_line) if prediction.command_line else None
    result: list[ReferenceValue] = []
    for index, value in prediction.values(bank).items():
        components = {item.stage: item.digests[bank] for item in prediction.measurements if item.pcr == index and item.stage}
        carries = "cmdline" in components or "load-options" in components
        what = ", ".join(item.what for item in prediction.measurements if item.pcr == index) or "nothing measured"
        result.append(
            ReferenceValue(
                layers=("boot_chain", "root_filesystem") if carries and settles_root(prediction.command_line) else ("boot_chain",),
                register=f"pcr{index}",
                value=value,
                strength=strength,
                endorser=endorser,
                description=f"PCR {index}: {what}",
                provenance=Provenance(
                    origin, "; ".join(prediction.assumptions) or "replayed measurements", prediction.artifacts, recorded_at
                ),
                components={**components, **({"verity_root_hash": verity} if carries and verity else {})},
                command_line=prediction.command_line if carries else None,
                algorithm=bank,
            )
        )
    return tuple(result)
