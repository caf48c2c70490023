"""Provisioning agents in an image: programs that take orders from whoever runs the host or its metadata service (AT-26).

Whoever holds the binaries of what is measured can see whether an agent is in them; the evidence alone never says. An agent is
told by the path of its program or unit. Sources: file lists of the Debian and Fedora packages cloud-init, walinuxagent,
google-guest-agent, amazon-ssm-agent, ec2-instance-connect, qemu-guest-agent, open-vm-tools; azure-init and afterburn by their
repositories' install targets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from evident.errors import Malformed
from evident.evidence import cpio


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: what it obeys, and how it is known."""

    name: str
    obeys: str
    """Whose orders, in words."""
    can: str
    """What those orders may be."""
    paths: re.Pattern[str]


_BIN = r"(?:usr/(?:local/)?)?s?bin/"
_UNIT = r"(?:usr/)?(?:lib|etc)/systemd/system/(?:\S+/)?"


def _agent(name: str, obeys: str, can: str, *paths: str) -> Agent:
    return Agent(name, obeys, can, re.compile("|".join(f"(?:{path})" for path in paths)))


AGENTS: tuple[Agent, ...] = (
    _agent(
        "cloud-init",
        "the metadata service, attached disks and firmware tables of the host",
        "add users and keys, run any script",
        rf"{_BIN}cloud-init",
        rf"{_UNIT}cloud-(?:init|config|final)\S*\.service",
    ),
    _agent(
        "waagent",
        "Azure's host channel and wire server",
        "reset passwords, update keys, run extensions",
        rf"{_BIN}waagent(?:2\.0)?",
        rf"{_UNIT}(?:walinuxagent|waagent)\.service",
    ),
    _agent("azure-init", "Azure's metadata service", "add users and keys", rf"{_BIN}azure-init", rf"{_UNIT}azure-init\.service"),
    _agent(
        "google-guest-agent",
        "Google's metadata service",
        "add users and keys, run start-up scripts",
        rf"{_BIN}google_(?:guest_agent|metadata_script_runner|startup_scripts)\S*",
        rf"{_UNIT}google-(?:guest-agent|startup-scripts)\S*\.service",
    ),
    _agent(
        "amazon-ssm-agent",
        "Amazon's Systems Manager",
        "run any command",
        rf"{_BIN}amazon-ssm-agent",
        r"(?:snap|var/lib/snapd/snaps)/amazon-ssm-agent\S*",
        rf"{_UNIT}amazon-ssm-agent\.service",
    ),
    _agent(
        "ec2-instance-connect",
        "Amazon's metadata service",
        "add keys for a login",
        r"(?:opt/aws|usr/share/ec2-instance-connect|usr/lib/ec2-instance-connect)/\S*eic_\S+",
    ),
    _agent("afterburn", "the metadata service", "add keys", rf"{_BIN}afterburn", rf"{_UNIT}afterburn\S*\.service"),
    _agent(
        "ignition",
        "the metadata service and firmware tables of the host",
        "write files and units",
        r"usr/lib/dracut/modules\.d/\d+ignition/\S*",
    ),
    _agent(
        "qemu-guest-agent",
        "the host, over a virtual serial port",
        "run commands, set passwords, write files",
        rf"{_BIN}qemu-ga",
        rf"{_UNIT}qemu-guest-agent\.service",
    ),
    _agent("open-vm-tools", "the host", "run programs, copy files", rf"{_BIN}vmtoolsd", rf"{_UNIT}(?:open-vm-tools|vmtoolsd)\.service"),
)


def find(paths: Iterable[str]) -> tuple[str, ...]:
    """Names of the agents to which any of `paths` belongs, in the order of ``AGENTS``. A leading ``/`` or ``./`` does not matter."""
    listed = [path.strip().removeprefix("./").lstrip("/") for path in paths]
    return tuple(agent.name for agent in AGENTS if any(agent.paths.fullmatch(path) for path in listed))


def find_in_initrd(initrd: bytes) -> tuple[str, ...]:
    """As `find`, over the files of an initial RAM disk. Raises `Malformed` and `Unsupported` (``initrd.*``)."""
    return find(cpio.names(initrd))


def read_list(text: bytes) -> tuple[str, ...]:
    """The paths of a file list, one per line, as ``find`` or ``tar --list`` write it. Raises `Malformed` ``files.list``."""
    paths = tuple(line for line in text.decode("utf-8", "replace").splitlines() if line.strip())
    if not paths or any("\0" in path for path in paths):
        raise Malformed.of(
            "files.list",
            expected="the paths of the image's files, one per line",
            found="nothing" if not paths else "binary data",
            remedy="Make it with `find . -xdev` in the mounted image.",
        )
    return paths
