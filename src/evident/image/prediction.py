"""What a boot of a built image will measure, in the manifest that says so. Reading a manifest needs none of this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from evident import __version__
from evident.audit.keys import VerifyingKey
from evident.evidence.disk import Buffer
from evident.image.manifest import Manifest, components
from evident.image.names import INITRD, KERNEL, UKI
from evident.reference_values import pcr, programs, tdx_reference, uki
from evident.reference_values.kernel_hashes import KernelHashes
from evident.reference_values.model import ReferenceSet, ReferenceValue, Strength
from evident.reference_values.snp_launch import SnpLaunch
from evident.reference_values.snp_reference import snp_reference

if TYPE_CHECKING:
    from evident.image.build import Built

BANKS = ("sha256", "sha384")
Registers = Literal["pcr", "rtmr"]
"""What measures a boot by UKI: a TPM, or the run-time registers of a TD."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How the image will be launched directly: firmware with a hash table for kernel, initrd and command line."""

    firmware: bytes
    vcpus: int
    vcpu_signature: int
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Kernel parameters of the deployment, appended to the command line in their order."""


def manifest_of(built: Built, *, at: datetime, builder: VerifyingKey, launches: Iterable[Launch] = ()) -> Manifest:
    """The manifest of a build. `builder` is named in the provenance of every reference value. Raises as `snp_launch.predict`."""
    return Manifest(
        version=1,
        spec=built.spec,
        lock=built.lock,
        components=components(built),
        command_line=built.command_line,
        root_hash=built.root_hash,
        inventory=built.inventory,
        reference=ReferenceSet(1, _values(built, at, builder, tuple(launches)), name=f"image {built.spec.name}"),
        evident=__version__,
        built_at=at,
    )


def of_boot(unified: bytes, disk: Buffer, registers: Registers, *, origin: str, at: datetime) -> tuple[ReferenceValue, ...]:
    """What firmware, systemd-stub and kernel measure when they boot the UKI `unified` from `disk` (its partition table will do)."""
    if registers == "rtmr":
        return tdx_reference.references(tdx_reference.unified_image(unified, booted_from=disk), origin=origin, recorded_at=at)
    prediction = uki.predict_uki(unified, banks=BANKS)
    return tuple(value for bank in BANKS for value in pcr.references(prediction, bank=bank, origin=origin, recorded_at=at))


def _values(built: Built, at: datetime, builder: VerifyingKey, launches: tuple[Launch, ...]) -> tuple[ReferenceValue, ...]:
    origin = f"image {built.spec.name}, rebuilt from {len(built.lock.packages)} locked packages by {builder.keyid}"
    kernel, initrd = built.files[KERNEL].read_bytes(), built.files[INITRD].read_bytes()
    prediction = uki.predict_uki(built.files[UKI].read_bytes(), banks=BANKS)
    strength = Strength.RECOMPUTED
    values = [value for bank in BANKS for value in pcr.references(prediction, bank=bank, origin=origin, strength=strength, recorded_at=at)]
    values += [programs.reference(files, of=f"the {name}", origin=origin, recorded_at=at) for name, files in built.loadable.items()]
    for launch in launches:
        line = " ".join((built.command_line, *(f"{name}={value}" for name, value in launch.parameters.items())))
        described = SnpLaunch(launch.firmware, launch.vcpus, launch.vcpu_signature, hashes=KernelHashes.of(kernel, initrd, line))
        value = snp_reference(described, command_line=line, origin=origin, strength=strength, recorded_at=at)
        # The firmware is the one input that was not built here: its word is that of whoever gave the binary.
        values.append(replace(value, provenance=replace(value.provenance, how=f"{value.provenance.how}; firmware as given")))
    return tuple(replace(value, agents=built.inventory.agents) for value in values)
