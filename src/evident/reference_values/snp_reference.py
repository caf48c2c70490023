"""A launch description turned into a `ReferenceValue`, with what it settles, how strongly it is known, and from which bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime

from evident.errors import UsageError
from evident.evidence.cmdline import parameters
from evident.reference_values.kernel_hashes import command_line_hash
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.reference_values.snp_launch import LaunchTemplate, SnpLaunch

_DIGEST = r"([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})"
_ROOT_HASH = re.compile(r"(?:[\w-]+\.)?(?:roothash|verity_roothash|rootfs_hash|verity_root_hash)=" + _DIGEST)
# Kernel documentation, admin-guide/device-mapper/{dm-init,verity}:
# dm-mod.create="name,uuid,minor,flags,START LENGTH verity VERSION DATA HASH 4096 4096 BLOCKS HASHSTART ALGORITHM ROOTHASH SALT"
_DEVICES = re.compile("dm[-_]mod[.]create=")
_VERITY = re.compile(r"\d+ \d+ verity 1 \S+ \S+ \d+ \d+ \d+ \d+ \w+ " + _DIGEST + " ", re.ASCII)


def verity_root_hash(command_line: str) -> bytes | None:
    """The dm-verity root hash that a kernel command line names for the root file system.

    Known spellings: ``roothash=`` (systemd), ``verity_roothash=`` (SNPGuard), ``PREFIX.rootfs_hash=`` (dstack), and the verity target of
    ``dm-mod.create=``. ``usrhash=`` covers /usr alone and does not count. Two different hashes are ambiguous, and so are single quotes and
    backslashes: None.
    """
    if {"'", "\\"} & set(command_line):  # systemd reads these as a shell does, the kernel does not
        return None
    hashes = set()
    for parameter in parameters(command_line):
        if match := _ROOT_HASH.fullmatch(parameter):
            hashes.add(match.group(1))
        elif _DEVICES.match(parameter):
            hashes.update(_VERITY.findall(parameter))
    return bytes.fromhex(hashes.pop()) if len(hashes) == 1 else None


def root_in_initrd(command_line: str) -> bool:
    """Whether Evident's guest is told to stay in its initrd (``evident.mode=microcvm``, `evident.guest.init`): what measures that then
    measures all of the root file system.
    """
    return [word for word in parameters(command_line) if word.startswith("evident.mode=")] == ["evident.mode=microcvm"]


def settles_root(command_line: str | None) -> bool:
    """Whether a measurement with this line, and of the initrd beside it, settles the root file system."""
    return command_line is not None and (verity_root_hash(command_line) is not None or root_in_initrd(command_line))


def snp_reference(
    launch: SnpLaunch,
    *,
    command_line: str | None = None,
    origin: str = "inputs given to evident measure",
    artifacts: Mapping[str, bytes] | None = None,
    strength: Strength = Strength.RECOMPUTED,
    recorded_at: datetime | None = None,
    agents: tuple[str, ...] | None = None,
) -> ReferenceValue:
    """The launch digest of `launch` as a reference value of register ``launch``, endorsed by ``you``.

    `command_line` must be the text behind `launch.hashes` (`UsageError` otherwise); `artifacts` are names to SHA-256 of further inputs.
    `agents` as in `ReferenceValue`.
    `strength` is RECOMPUTED, or REBUILT where the caller has built the inputs from source. Other errors as `snp_launch.predict`.
    """
    if command_line is not None and (launch.hashes is None or command_line_hash(command_line) != launch.hashes.cmdline):
        raise UsageError.of(
            "snp-launch.command-line",
            expected="the command line whose hash is in the launch",
            found=repr(command_line),
            remedy="Pass the same command line to both.",
        )
    template = LaunchTemplate.of(launch)
    components = {"firmware": template.firmware_digest, **(launch.hashes.components() if launch.hashes else {})}
    verity = verity_root_hash(command_line) if command_line else None
    if verity:
        components["verity_root_hash"] = verity
    hashed = {"firmware": hashlib.sha256(launch.firmware).digest()}
    if launch.svsm:
        hashed["svsm"] = hashlib.sha256(launch.svsm.image).digest()
    if launch.hashes:
        hashed |= {"kernel": launch.hashes.kernel, "initrd": launch.hashes.initrd}
    what = _description(launch)
    return ReferenceValue(
        layers=("firmware", *(("boot_chain",) if launch.hashes else ()), *(("root_filesystem",) if settles_root(command_line) else ())),
        register="launch",
        value=template.digest(),
        strength=strength,
        endorser="you",
        description=what,
        provenance=Provenance(origin, f"SNP launch digest over {what}", {**hashed, **(artifacts or {})}, recorded_at),
        components=components,
        command_line=command_line,
        agents=agents,
        template=template.serialize(),
    )


def _description(launch: SnpLaunch) -> str:
    parts = ["firmware"]
    if launch.svsm:
        parts.append("SVSM")
    if launch.hashes:
        parts.append("kernel, initrd and command line")
    vcpus = "1 vCPU" if launch.vcpus == 1 else f"{launch.vcpus} vCPUs"
    return f"{' + '.join(parts)}, {vcpus}, {launch.vmm}, guest features {launch.guest_features:#x}"
