"""Reference values of a TD: MRTD from its firmware, RTMR1 and RTMR2 from what it boots, each with what it assumes.

What is measured where, and in which order. Firmware (EDK2) and stubs choose a PCR, and the firmware maps it: PCR 1 and 7 are RTMR0, PCR 2
to 6 are RTMR1, PCR 8 to 15 are RTMR2 (UEFI 2.10, table 38.4.1). Every digest is SHA-384 of the content named.

RTMR1, of a boot from a disk; a kernel or UKI that the VMM hands over is loaded before the boot attempt, and no partition table is measured:

1. ``Calling EFI Application from Boot Option`` (PCR 4);
2. a separator, four zero bytes: EDK2 since efaf893 (before, it went into RTMR0 by mistake);
3. the partition table of that disk: header, number of partitions, their entries (PCR 5);
4. the Authenticode digest of the image that is started (PCR 4), and of the kernel inside it where systemd-stub (up to 257) has the
   firmware load that;
5. ``Exit Boot Services Invocation``, ``Exit Boot Services Returned with Success`` (PCR 5). Where the memory map changed under Linux's first
   attempt, ``Exit Boot Services Returned with Failure`` comes before them, once: Linux tries twice.

RTMR2:

1. name and content of each section of a UKI (PCR 11), by systemd-stub 256 and later, whether or not there is a TPM beside;
2. load options and initrd (PCR 9), by the EFI stub of Linux 6.9 and later, only where there is no TPM.

RTMR0 floats: it holds Secure Boot's variables and the boot options, but also the memory map and the ACPI tables, which follow from memory
size, vCPUs, devices and the VMM's version. It is not predicted. RTMR3 stays zero until the guest extends it.

What floats may still not start anything else: an option ROM, another loader or an add-on is an image (RTMR1), and a command line from
outside the UKI is one more event in RTMR2 (PCR 12). That is why a boot that leaves RTMR2 zero (seen on Google's machines: a stub before 256
beside a TPM) has no reference values, of RTMR1 neither: such a quote says nothing of the command line.

Sources: tianocore/edk2 ``OvmfPkg/Tcg/TdTcg2Dxe/TdTcg2Dxe.c`` (10701fe9), ``SecurityPkg/Library/DxeTpm2MeasureBootLib`` and commit efaf893;
systemd/systemd pull requests 30996 (confidential computing in the stub) and 31939 (beside a TPM as well), both in 256; Linux commit
ac93cbfc ("Measure into CC protocol if TCG2 protocol is absent"), in 6.9. Logs of real TDs: ``tests/unit/reference_values/test_rtmr.py``.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from evident.errors import Unsupported
from evident.evidence import disk
from evident.evidence import uki as images
from evident.evidence.disk import Buffer
from evident.evidence.pcr import extend
from evident.reference_values import tdx_mrtd, uki
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.reference_values.pcr import Measurement, Prediction, boot_attempt
from evident.reference_values.snp_reference import settles_root, verity_root_hash
from evident.reference_values.tdx_mrtd import Order

BANK = ("sha384",)
NOT_LEFT = b"Exit Boot Services Returned with Failure"
LEAVING = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
FIRST_STUB_THAT_MEASURES = 256
FLOATS = (
    "RTMR0 is not predicted: it holds the memory map and ACPI tables, which float with memory size, vCPUs, devices and the VMM's version"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """In what machines differ that boot the same, as far as RTMR1 and RTMR2 show it."""

    separator: Literal["rtmr1", "rtmr0"] = "rtmr1"
    """Into which register EDK2 puts the separator behind the boot attempt."""
    tpm: bool = False
    """Whether there is a TPM beside the run-time registers: then Linux measures into that alone."""
    initrd_argument: Literal["after", "before"] = "after"
    """Where EDK2 puts ``initrd=initrd`` for a kernel that the VMM hands over: behind the command line, or before it (newer builds)."""
    second_attempt: bool = False
    """Whether Linux left the boot services at its second attempt. That is chance, seen in one real log of Google's."""


SEPARATORS: tuple[Literal["rtmr1", "rtmr0"], ...] = ("rtmr1", "rtmr0")
INITRD_ARGUMENTS: tuple[Literal["after", "before"], ...] = ("after", "before")
MACHINES = tuple(Machine(*each) for each in itertools.product(SEPARATORS, (False, True), INITRD_ARGUMENTS, (False, True)))
"""All that are known: whichever boots, one of their values is its."""


def mrtd_reference(firmware: bytes, order: Order, *, origin: str, recorded_at: datetime | None = None) -> ReferenceValue:
    """MRTD as register ``launch``, RECOMPUTED by ``you``. Raises as `tdx_mrtd.predict`."""
    return ReferenceValue(
        layers=("firmware",),
        register="launch",
        value=tdx_mrtd.predict(firmware, order),
        strength=Strength.RECOMPUTED,
        endorser="you",
        description=f"firmware as MRTD, pages {order}",
        provenance=Provenance(
            origin,
            "MRTD over the TDX metadata; predicted, and not yet compared with a machine of this kind",
            {"firmware": _sha256(firmware)},
            recorded_at,
        ),
        components={"firmware": hashlib.sha384(firmware).digest()},
    )


def direct_boot(kernel: bytes, initrd: bytes | None, command_line: str, machines: Iterable[Machine] = MACHINES) -> tuple[Prediction, ...]:
    """Kernel, initrd and command line that the VMM hands to the firmware, on each of `machines`; `pcr` of a measurement is the RTMR.

    Raises `Malformed` (``pe.*``) for a kernel without an EFI stub.
    """
    predicted = uki.predict_direct(kernel, None, command_line, banks=BANK, kernel_as_is=True)
    loaded = [item for item in predicted.measurements if item.stage == "kernel"]
    given = [] if initrd is None else [Measurement.of(9, initrd, BANK, "initrd", "initrd")]
    found = []
    for machine in machines:
        placed, said = _placed(command_line, machine) if initrd is not None else (command_line, "no initrd")
        options = replace(uki.load_options(placed, BANK), stage="cmdline")
        measured = [] if machine.tpm else [options, *given]
        found.append(
            Prediction(
                measurements=(*_in(1, (*loaded, *_attempt(machine), *_leaving(machine))), *_in(2, measured)),
                artifacts={**predicted.artifacts, **({} if initrd is None else {"initrd": _sha256(initrd)})},
                assumptions=("the VMM hands the kernel over as it is, its header unchanged", said, *_said(machine)),
                command_line=command_line,
            )
        )
    return tuple(found)


def unified_image(
    image: bytes, machines: Iterable[Machine] = MACHINES, *, stub_version: int | None = None, booted_from: Buffer | None = None
) -> tuple[Prediction, ...]:
    """A UKI that the firmware of each of `machines` starts: handed over by the VMM, or from the disk image `booted_from` (of which its
    partition table will do).

    Raises `Malformed` (``pe.*``, ``uki.*``, ``disk.*``) and `Unsupported` (``uki.stub``, ``uki.profiles``).
    """
    predicted = uki.predict_uki(image, banks=BANK, stub_version=stub_version)
    version = stub_version if stub_version is not None else images.parse(image).stub_version
    measures = version is not None and version >= FIRST_STUB_THAT_MEASURES
    started = [item for item in predicted.measurements if item.stage in ("uki", "kernel-image")]
    table = [] if booted_from is None else [Measurement.of(5, disk.gpt_event(booted_from), BANK, "partition table")]
    sections = [item for item in predicted.measurements if item.pcr == 11 and measures]
    found = []
    for machine in dict.fromkeys(replace(each, initrd_argument="after") for each in machines):
        attempt = _attempt(machine)
        loaded = [*attempt, *table, *started] if table else [started[0], *attempt, *started[1:]]
        options = [item for item in predicted.measurements if item.pcr == 9 and not machine.tpm]
        found.append(
            replace(
                predicted,
                measurements=(*_in(1, (*loaded, *_leaving(machine))), *_in(2, (*sections, *options))),
                unextended=(),
                assumptions=(*predicted.assumptions[0 if table else 1 : -1], *_said(machine)),
            )
        )
    return tuple(found)


def references(predictions: Iterable[Prediction], *, origin: str, recorded_at: datetime | None = None) -> tuple[ReferenceValue, ...]:
    """RTMR1 and RTMR2 of each of `predictions`, RECOMPUTED by ``you``, every value once.

    A register that holds the command line also settles its root hash. What a value assumes is what all predictions of it do. Predictions
    that leave RTMR2 zero count for nothing; raises `Unsupported` (``tdx.command-line-unmeasured``) where all do.
    """
    whole = [prediction for prediction in predictions if _items(prediction, 2)]
    if not whole:
        raise Unsupported.of(
            "tdx.command-line-unmeasured",
            expected="a boot that measures its command line into RTMR2",
            found="a TPM that takes it all: systemd-stub before 256, or a kernel that the VMM hands over",
            remedy="Build the image with systemd-stub 256 or later, or boot where there is no TPM beside the run-time registers.",
            layer="boot_chain",
        )
    alike: dict[tuple[int, bytes], list[Prediction]] = {}
    for number, prediction in itertools.product((1, 2), whole):
        alike.setdefault((number, value_of(_items(prediction, number))), []).append(prediction)
    return tuple(_reference(same, number, value, origin, recorded_at) for (number, value), same in alike.items())


def value_of(measurements: Iterable[Measurement]) -> bytes:
    """The value of an RTMR after `measurements`, from zeros."""
    value = bytes(48)
    for item in measurements:
        value = extend("sha384", value, item.digests["sha384"])
    return value


def _items(prediction: Prediction, number: int) -> list[Measurement]:
    return [item for item in prediction.measurements if item.pcr == number]


def _reference(alike: Sequence[Prediction], number: int, value: bytes, origin: str, recorded_at: datetime | None) -> ReferenceValue:
    prediction = alike[0]
    items = _items(prediction, number)
    assumed = (text for text in prediction.assumptions if all(text in each.assumptions for each in alike))
    verity = verity_root_hash(prediction.command_line) if prediction.command_line else None
    components = {item.stage: item.digests["sha384"] for item in items if item.stage}
    carries = bool({"cmdline", "load-options"} & components.keys())
    return ReferenceValue(
        layers=("boot_chain", "root_filesystem") if carries and settles_root(prediction.command_line) else ("boot_chain",),
        register=f"rtmr{number}",
        value=value,
        strength=Strength.RECOMPUTED,
        endorser="you",
        description=f"RTMR{number}: " + ", ".join(item.what for item in items),
        provenance=Provenance(origin, "; ".join(assumed), prediction.artifacts, recorded_at),
        components={**components, **({"verity_root_hash": verity} if carries and verity else {})},
        command_line=prediction.command_line if carries else None,
    )


def _attempt(machine: Machine) -> tuple[Measurement, ...]:
    attempt, separator = boot_attempt(BANK)
    return (attempt, separator) if machine.separator == "rtmr1" else (attempt,)


def _placed(command_line: str, machine: Machine) -> tuple[str, str]:
    """The load options that EDK2 gives to a kernel with an initrd, and the assumption that they are."""
    said = f"EDK2 puts initrd=initrd {machine.initrd_argument} the command line"
    return (f"initrd=initrd {command_line}" if machine.initrd_argument == "before" else f"{command_line} initrd=initrd"), said


def _said(machine: Machine) -> tuple[str, ...]:
    builds = {"rtmr1": "builds newer than 2024.02", "rtmr0": "2024.02 and before"}[machine.separator]
    beside = "a TPM is there: Linux measures into that alone" if machine.tpm else "no TPM is there, and Linux is 6.9 or later"
    return (
        f"EDK2 puts the separator of the boot attempt into {machine.separator.upper()} ({builds})",
        beside,
        f"Linux leaves the boot services at its {'second' if machine.second_attempt else 'first'} attempt",
        FLOATS,
    )


def _in(register: int, measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    return tuple(replace(item, pcr=register) for item in measurements)


def _leaving(machine: Machine) -> tuple[Measurement, ...]:
    failed = (Measurement.of(1, NOT_LEFT, BANK, "a first attempt to leave the boot services"),) if machine.second_attempt else ()
    return (*failed, *(Measurement.of(1, text, BANK, "leaving the boot services") for text in LEAVING))


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
