"""Reference values of a TD: MRTD from its firmware, RTMR1 and RTMR2 from what it boots, each with what it assumes.

What is measured where (UEFI 2.10, table 38.4.1: PCR 2 to 6 in RTMR1, PCR 8 to 15 in RTMR2, in the order of the boot), as the logs of real
TDs show it:

* RTMR1: the image that the firmware starts, the boot attempt and its separator (before the image where it comes from a disk, then the
  partition table comes first too), a kernel that systemd-stub has the firmware load, and the two events of leaving the boot services.
* RTMR2: the sections of a UKI by systemd-stub, then load options and initrd by the Linux EFI stub.

RTMR0 floats: it holds the memory map and the ACPI tables, which follow from memory size, vCPUs, devices and the VMM's version. It is not
predicted. RTMR3 stays zero until the guest extends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from evident.evidence import disk
from evident.evidence.disk import Buffer
from evident.evidence.pcr import extend
from evident.reference_values import tdx_mrtd, uki
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.reference_values.pcr import BOOT_OPTION, SEPARATOR, Measurement, Prediction
from evident.reference_values.snp_reference import verity_root_hash
from evident.reference_values.tdx_mrtd import Order

BANK = ("sha384",)
INITRD_ARGUMENTS = ("after", "before")
"""Where EDK2 puts ``initrd=initrd`` for a kernel that the VMM hands over: behind the command line, or before it (newer builds)."""
LEAVING = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
FLOATS = (
    "RTMR0 is not predicted: it holds the memory map and ACPI tables, which float with memory size, vCPUs, devices and the VMM's version"
)
NO_HARDWARE = "predicted, and not yet compared with a machine of this kind"


def mrtd_reference(firmware: bytes, order: Order, *, origin: str, recorded_at: datetime | None = None) -> ReferenceValue:
    """MRTD as register ``launch``, RECOMPUTED by ``you``. Raises as `tdx_mrtd.predict`."""
    return ReferenceValue(
        layers=("firmware",),
        register="launch",
        value=tdx_mrtd.predict(firmware, order),
        strength=Strength.RECOMPUTED,
        endorser="you",
        description=f"firmware as MRTD, pages {order}",
        provenance=Provenance(origin, f"MRTD over the TDX metadata; {NO_HARDWARE}", {"firmware": _sha256(firmware)}, recorded_at),
        components={"firmware": hashlib.sha384(firmware).digest()},
    )


def direct_boot(kernel: bytes, initrd: bytes | None, command_line: str, *, initrd_argument: str = "after") -> Prediction:
    """Kernel, initrd and command line that the VMM hands to the firmware; `pcr` of each measurement is the RTMR.

    Raises `Malformed` (``pe.*``) for a kernel without an EFI stub.
    """
    placed = command_line
    if initrd is not None:
        placed = f"initrd=initrd {command_line}" if initrd_argument == "before" else f"{command_line} initrd=initrd"
    predicted = uki.predict_direct(kernel, None, command_line, banks=BANK, kernel_as_is=True)
    loaded = [item for item in predicted.measurements if item.pcr == 4]
    options = replace(uki.load_options(placed, BANK), stage="cmdline")
    return Prediction(
        measurements=(
            *_in(1, loaded),
            *_leaving(),
            *_in(2, [options, *([] if initrd is None else [Measurement.of(9, initrd, BANK, "initrd", "initrd")])]),
        ),
        artifacts={**predicted.artifacts, **({} if initrd is None else {"initrd": _sha256(initrd)})},
        assumptions=(
            "the VMM hands the kernel over as it is, its header unchanged",
            f"EDK2 puts initrd=initrd {initrd_argument} the command line" if initrd is not None else "no initrd",
            "Linux 6.1 or later",
            FLOATS,
        ),
        command_line=command_line,
    )


def unified_image(image: bytes, *, stub_version: int | None = None, booted_from: Buffer | None = None) -> Prediction:
    """A UKI that the firmware starts: handed over by the VMM, or from the disk image `booted_from`.

    Raises `Malformed` (``pe.*``, ``uki.*``, ``disk.*``) and `Unsupported` (``uki.stub``, ``uki.profiles``).
    """
    predicted = uki.predict_uki(image, banks=BANK, stub_version=stub_version)
    images = [item for item in predicted.measurements if item.stage in ("uki", "kernel-image")]
    attempt = [Measurement.of(4, BOOT_OPTION, BANK, "boot attempt"), Measurement.of(4, SEPARATOR, BANK, "separator")]
    if booted_from is None:
        started = [images[0], *attempt, *images[1:]]
    else:
        table = Measurement.of(5, disk.gpt_event(booted_from), BANK, "partition table")
        started = [*attempt, table, *images]
    sections = [item for item in predicted.measurements if item.pcr == 11]
    options = [item for item in predicted.measurements if item.pcr == 9]
    return replace(
        predicted,
        measurements=(*_in(1, started), *_leaving(), *_in(2, [*sections, *options])),
        unextended=(),
        assumptions=(*predicted.assumptions[1:-1], "systemd-stub measures into run-time registers (252 and later)", FLOATS),
    )


def references(
    prediction: Prediction, *, origin: str, recorded_at: datetime | None = None, registers: Sequence[int] = (1, 2)
) -> tuple[ReferenceValue, ...]:
    """RTMR1 and RTMR2 of a prediction, RECOMPUTED by ``you``; a register that holds the command line also settles its root hash."""
    verity = verity_root_hash(prediction.command_line) if prediction.command_line else None
    result: list[ReferenceValue] = []
    for number in registers:
        items = [item for item in prediction.measurements if item.pcr == number]
        components = {item.stage: item.digests["sha384"] for item in items if item.stage}
        carries = bool({"cmdline", "load-options"} & components.keys())
        result.append(
            ReferenceValue(
                layers=("boot_chain", "root_filesystem") if carries and verity else ("boot_chain",),
                register=f"rtmr{number}",
                value=value_of(items),
                strength=Strength.RECOMPUTED,
                endorser="you",
                description=f"RTMR{number}: " + ", ".join(item.what for item in items),
                provenance=Provenance(origin, "; ".join((*prediction.assumptions, NO_HARDWARE)), prediction.artifacts, recorded_at),
                components={**components, **({"verity_root_hash": verity} if carries and verity else {})},
                command_line=prediction.command_line if carries else None,
            )
        )
    return tuple(result)


def value_of(measurements: Iterable[Measurement]) -> bytes:
    """The value of an RTMR after `measurements`, from zeros."""
    value = bytes(48)
    for item in measurements:
        value = extend("sha384", value, item.digests["sha384"])
    return value


def _in(register: int, measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    return tuple(replace(item, pcr=register) for item in measurements)


def _leaving() -> tuple[Measurement, ...]:
    return tuple(Measurement.of(1, text, BANK, "leaving the boot services") for text in LEAVING)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
