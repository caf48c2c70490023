"""From a built image (`evident image build`) to an order: what to boot, how the guest finds its key server, and its encrypted disk.

The manifest must be signed by this verifier or another that is trusted, and the files must be those that it names. The machine gets a
disk of its own. Under the profile ``encrypted`` root and hash tree are sealed on it under a fresh key, which nothing but the key server
keeps, and its partition has a name of its own (PARTUUID), which stands on the measured command line: the guest asks for the key of this
disk and no other, and the key server knows by it whose the disk is. A boot by UKI finds everything on that disk: the image's UKI with
the deployment's command line, put together here from signed files alone, so that what its boot measures is predicted from the very bytes
(`Order.references`): into the run-time registers of a TD where those measure it, else into a TPM.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from evident.audit.keys import VerifyingKey
from evident.errors import NotAuthentic, UsageError
from evident.evidence import disk as partitions
from evident.files import read_private
from evident.identity.registration import INTERPRETER
from evident.image import build, manifest, names, seal, uki
from evident.image.manifest import Manifest
from evident.image.prediction import Registers, of_boot
from evident.lifecycle import disks, enrolment, keystore
from evident.lifecycle.deployment import Deployment, driver
from evident.lifecycle.keystore import BySvid, DiskKey
from evident.platforms import registry
from evident.platforms.driver import KEY_SERVER, Surroundings
from evident.platforms.order import AGENT_PORT, Disk, Order
from evident.reference_values import programs
from evident.reference_values.model import ReferenceSet, ReferenceValue

DISK_KEY_BYTES: Final = 64
BY_KEY_SERVER: Final = "key-server"
NO_SECRETS: Final[Mapping[str, bytes]] = MappingProxyType({})
_TABLE_BYTES: Final = 1 << 20

Boot = Literal["direct", "uki"]
"""``direct``: the host hands over kernel, initrd and command line. ``uki``: firmware boots the machine's own disk."""


@dataclass(frozen=True, slots=True)
class Prepared:
    order: Order
    key: DiskKey | None
    """For the key server; None where the machine gets nothing from it."""


def ordered(
    target: Deployment,
    platform: str,
    image: Path,
    *,
    trusted: Iterable[VerifyingKey],
    machine: Order,
    boot: Boot = "direct",
    verifier: str = KEY_SERVER,
    sha256: bytes | None = None,
    secrets: Mapping[str, bytes] = NO_SECRETS,
    attest_first: bool = False,
    reopened_by: str = BY_KEY_SERVER,
) -> Prepared:
    """`prepare` for `target` on `platform`, with what its guest has to be told: where it runs, where its agent answers, and, where it has a
    disk to open, `secrets` to get or to `attest_first`, its key server at `verifier` and what it knows that by; what else opens its
    disk again, where the document says so (`specification.Disks`).
    """
    around = target.surroundings
    parameters = {**driver(platform, around).parameters(target.machine), "evident.attest": str(AGENT_PORT)}
    spec = manifest.read(read_private(image / names.MANIFEST))[0].spec
    if attest_first or secrets or spec.svids or spec.profile == "encrypted":
        known_by = (
            enrolment.parameters(around.spire, spec.spire.trust_domain)
            if spec.spire
            else {"evident.key": keystore.open_store(around).pin.hex()}
        )
        parameters |= {"evident.verifier": verifier, **known_by}
    if reopened_by != BY_KEY_SERVER:
        parameters |= {"evident.reopened": reopened_by}
    return prepare(
        image,
        target.home,
        around,
        trusted=trusted,
        parameters=parameters,
        machine=machine,
        boot=boot,
        sha256=sha256,
        secrets=secrets,
        attest_first=attest_first,
        registers=_registers(platform, machine, around.clock()),
    )


def prepare(
    image: Path,
    directory: Path,
    surroundings: Surroundings,
    *,
    trusted: Iterable[VerifyingKey],
    parameters: Mapping[str, str],
    machine: Order,
    boot: Boot = "direct",
    sha256: bytes | None = None,
    secrets: Mapping[str, bytes] = NO_SECRETS,
    attest_first: bool = False,
    registers: Registers = "pcr",
) -> Prepared:
    """The order for `image`, its disk made in `directory`; `parameters` are appended to the command line, `machine` says all the rest.

    Booted by ``uki``, the first disk is all that a machine needs, here or in a cloud: a raw image with a GUID partition table.
    `sha256`: of the one image's disk.raw that will do; None: any that is trusted. `attest_first`: its guest asks the key server though it
    has nothing to get; so does one of whose units any has an SVID. `registers`: which measure a boot by UKI there.
    Raises `NotAuthentic` for a manifest or a file that is not what was signed, `UsageError` for what cannot be read.
    """
    stated, _ = manifest.verify(read_private(image / names.MANIFEST), trusted)
    if sha256 is not None:
        _check_wanted(stated, sha256)
    data, asks = uuid.UUID(bytes=surroundings.randomness(16), version=4), attest_first or bool(secrets or stated.spec.svids)
    own = {"evident.data": str(data)} if stated.spec.profile == "encrypted" else {"evident.machine": str(data)} if asks else {}
    line = " ".join((stated.command_line, *(f"{name}={value}" for name, value in {**parameters, **own}.items())))
    unified = _file(image, stated, names.UKI)
    expected = programs.among(stated.reference.values)
    if boot == "uki":
        unified = uki.with_command_line(unified, line)
        order = machine
    else:
        kernel, initrd = (_file(image, stated, name) for name in (names.KERNEL, names.INITRD))
        order = replace(machine, kernel=kernel, initrd=initrd, command_line=line)
    if boot == "direct" and stated.root_hash is None:
        return Prepared(_expecting(order, expected, stated), DiskKey(str(data), b"", secrets, by_svid=_by_svid(stated)) if asks else None)
    disk, key = _disk(image, stated, unified, data, directory, surroundings)
    if boot == "uki":
        expected += _measured(unified, disk, registers, stated, surroundings.clock())
    held = DiskKey(str(data), key, secrets, stated.root_hash if key else None, _by_svid(stated)) if key or asks else None
    return Prepared(replace(_expecting(order, expected, stated), disks=(disk, *machine.disks)), held)


def _by_svid(stated: Manifest) -> BySvid | None:
    spire = stated.spec.spire
    return BySvid(spire.trust_domain, stated.inventory.spire[INTERPRETER], stated.spec.svids) if spire else None


def _registers(platform: str, machine: Order, at: datetime) -> Registers:
    profile = registry.profile(registry.profile_id(platform, machine.technology, machine.where), at.date())
    return "rtmr" if profile.technology == "tdx" and profile.layers["boot_chain"].measured_by.value == "tee" else "pcr"


def _expecting(order: Order, expected: tuple[ReferenceValue, ...], stated: Manifest) -> Order:
    return replace(order, references=ReferenceSet(1, expected, _origin(stated)) if expected else None)


def _measured(unified: bytes, disk: Disk, registers: Registers, stated: Manifest, at: datetime) -> tuple[ReferenceValue, ...]:
    """What firmware, systemd-stub and kernel measure when they boot this very UKI from this very disk."""
    with Path(disk.path).open("rb") as stream:
        values = of_boot(unified, stream.read(_TABLE_BYTES), registers, origin=_origin(stated), at=at)
    return tuple(replace(value, agents=stated.inventory.agents) for value in values)


def _origin(stated: Manifest) -> str:
    return f"image {stated.spec.name} with the command line of this deployment"


def _check_wanted(stated: Manifest, sha256: bytes) -> None:
    found = stated.file(names.DISK)
    if found != sha256:
        raise NotAuthentic.of(
            "specification.image",
            expected=f"the image whose disk.raw has the SHA-256 {sha256.hex()}",
            found=found.hex(),
            remedy="Name the image that you mean: `image.path` or `image.sha256` is of another one.",
            layer="boot_chain",
        )


def _file(image: Path, stated: Manifest, name: str) -> bytes:
    content = read_private(image / name)
    if hashlib.sha256(content).digest() != stated.file(name):
        raise NotAuthentic.of(
            "image.file",
            expected=f"{name} with SHA-256 {stated.file(name).hex()}, as the manifest says",
            found=hashlib.sha256(content).hexdigest(),
            remedy="Build the image again, or fetch it again.",
        )
    return content


def _disk(
    image: Path, stated: Manifest, unified: bytes, data: uuid.UUID, directory: Path, surroundings: Surroundings
) -> tuple[Disk, bytes]:
    """The machine's own disk, which boots `unified`, and its key; encrypted, in the partition `data`, where its profile says so."""
    own = disks.path(directory, str(data))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = _file(image, stated, names.ROOT) + _file(image, stated, names.HASH) if stated.root_hash else b""
    build.write_disk(own, unified, build.partitions(stated.spec, stated.root_hash, image, data))
    if stated.spec.profile != "encrypted":
        return Disk(str(own.resolve()), read_only=True), b""
    surroundings.progress("sealing the root file system under a fresh key")
    key = surroundings.randomness(DISK_KEY_BYTES)
    with own.open("r+b") as stream:
        at, room = _partition(stream.read(_TABLE_BYTES), str(data))
        name = uuid.UUID(bytes=surroundings.randomness(16), version=4)
        seal.seal(content, key, stream, at=at, room=room, identifier=name, random=surroundings.randomness)
    return Disk(str(own.resolve())), key


def _partition(table: bytes, identifier: str) -> tuple[int, int]:
    """Offset and size in bytes of the partition with this PARTUUID."""
    found, sector = partitions.read_partition_table(table)
    for each in found.partitions:
        if each.guid == identifier:
            return each.first * sector, (each.last - each.first + 1) * sector
    raise UsageError.of("image.partition", expected=f"a partition {identifier}", found="none", remedy="Build the image again.")
