"""What is in an image and what can still reach it from outside: stated from the files themselves, and refused where a rule forbids it.

Rules (requirements AT-24..26, 46..49): no cloud-init, no agent of a cloud, no shell, no login on the console, no secret, nothing writable
and executable at once. `host_inputs` names every input that whoever runs the machine controls, and whether this image listens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from evident.errors import EvidentError, Finding, PolicyRefused
from evident.evidence.cmdline import parameters
from evident.image import spire
from evident.image.spec import ImageSpec
from evident.image.stated import HostInput, Inventory
from evident.image.tree import Entry, Tree
from evident.reference_values import agents

SHELLS = frozenset({"sh", "bash", "dash", "busybox", "zsh", "ksh", "csh", "fish", "agetty", "getty", "login", "su", "sudo", "sulogin"})
# What is never public: private keys in PEM form, password hashes, and tokens with a telling prefix (as published by their issuers).
_SECRETS: tuple[tuple[str, bytes, re.Pattern[bytes]], ...] = (
    ("private key", b"PRIVATE KEY-----", re.compile(rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/=]{32,}")),
    ("AWS access key", b"AKIA", re.compile(rb"\bAKIA[A-Z0-9]{16}\b")),
    ("GitHub token", b"ghp_", re.compile(rb"\bghp_[A-Za-z0-9]{36}\b")),
    ("Google API key", b"AIza", re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("Slack token", b"xoxb-", re.compile(rb"\bxoxb-[0-9A-Za-z-]{20,}\b")),
    ("Google service account", b"private_key_id", re.compile(rb'"private_key_id"\s*:\s*"[0-9a-f]{40}"')),
    ("password hash", b":$", re.compile(rb"^[a-z_][a-z0-9_-]*:\$(?:1|5|6|y|2[aby])\$[^:]{8,}:", re.MULTILINE)),
)
"""What it is, a part that every one has (looked for first: the expressions alone are slow), and its form."""


def take(spec: ImageSpec, initrd: Tree, root: Tree, *, parts: Mapping[str, int], modules_offered: int, python_modules: int) -> Inventory:
    """The inventory of an image by its trees (`root` is empty for a microCVM)."""
    modules = tuple(PurePosixPath(path).name.removesuffix(".ko") for path in initrd if path.endswith(".ko"))
    programs = tuple(f"/{path}" for path, entry in _files(root if len(root) else initrd) if entry.mode & 0o111 and ".so" not in path)
    return Inventory(
        initrd_bytes=dict(sorted(parts.items())),
        initrd_files=sum(1 for _ in _files(initrd)),
        root_files=sum(1 for _ in _files(root)),
        kernel_modules_offered=modules_offered,
        kernel_modules=modules,
        programs=programs,
        ssh_authorized_keys=spec.ssh_authorized_keys,
        writable=tuple(place.path for place in spec.writable),
        agents=found_agents((initrd, root)),
        host_inputs=tuple(_host_inputs(spec, (initrd, root), modules)),
        python_modules=python_modules,
        spire=spire.listed(initrd) if spec.spire else {},
    )


def _files(tree: Tree) -> Iterator[tuple[str, Entry]]:
    return ((path, tree[path]) for path in tree if tree[path].kind == "file")


def _host_inputs(spec: ImageSpec, trees: tuple[Tree, ...], modules: Iterable[str]) -> Iterator[HostInput]:
    """Closed only where the files show it: no reader in the image, or a parameter that turns it off."""
    loaded, line = set(modules), " ".join((*HARDENING, *spec.command_line))
    agent, shell = bool(found_agents(trees)), bool(found_shells(trees))
    disk = spec.profile != "microcvm"
    yield HostInput("cloud-init data (attached disk, fw_cfg, SMBIOS, kernel parameter)", True, agent, "no program in the image reads it")
    yield HostInput("metadata service", True, agent, "no program in the image asks one")
    yield HostInput("agent of the cloud (passwords, keys, extensions)", True, agent, "none is installed, and the root is read-only")
    yield HostInput("keyboard and serial console", True, shell, "nothing reads them: no shell, no login, and SysRq is off")
    yield HostInput("QEMU fw_cfg files", True, "qemu_fw_cfg" in loaded, "the driver is not in the image")
    yield HostInput(
        "devices with drivers on demand (USB, SCSI, NIC, ...)", True, "usb_storage" in loaded, "no module loader, and no other driver"
    )
    yield HostInput("kernel command line", True, False, "measured at launch; another one is another measurement")
    yield HostInput(
        "Secure Boot variables", True, False, "trust rests on the launch measurement and PCR 4, 7, 11; no key of the variable store counts"
    )
    yield HostInput(
        "block devices", True, disk, "read through dm-verity or authenticated encryption only" if disk else "no block driver in use"
    )
    yield HostInput("network", True, "virtio_net" in loaded, "needed; what comes from it is authenticated by the guest")
    yield HostInput(
        "ACPI tables and AML",
        True,
        "acpi=off" not in parameters(line),
        "the kernel interprets what the firmware passes on; measured into PCR 0 and 1 by OVMF, not by the launch digest",
    )
    yield HostInput("time (RTC, kvm-clock, TSC)", True, True, "certificates and nonces are judged by the verifier's clock, not the guest's")
    yield HostInput(
        "entropy device", True, "virtio_rng" in loaded, "mixed in only; RDRAND and the secure processor's derived keys do not depend on it"
    )
    yield HostInput("TPM (where the host emulates it)", True, True, "believed only as far as the report binds its keys")


HARDENING = ("sysctl.kernel.sysrq=0", "lockdown=integrity", "module.sig_enforce=1", "oops=panic", "init_on_free=1", "loglevel=4")
"""Kernel parameters of every image: against what an administrator (or the host, through SysRq) could otherwise do to a running kernel, and
against what would otherwise stay in memory of the key that opened the disk (`evident.guest.apart`)."""


def found_shells(trees: Iterable[Tree]) -> tuple[str, ...]:
    return tuple(
        f"/{path}"
        for tree in trees
        for path in tree
        if PurePosixPath(path).name in SHELLS and "/bin/" in f"/{path}".replace("/sbin/", "/bin/")
    )


def found_agents(trees: Iterable[Tree]) -> tuple[str, ...]:
    """Names of the provisioning agents in the image, as `reference_values.agents` knows them."""
    return agents.find(path for tree in trees for path in tree)


def found_secrets(trees: Iterable[Tree]) -> tuple[str, ...]:
    """Path and kind of every secret, never the secret itself."""
    hits: list[str] = []
    for tree in trees:
        for path, entry in _files(tree):
            hits += [f"/{path}: {kind}" for kind, part, form in _SECRETS if part in entry.data and form.search(entry.data)]
    return tuple(hits)


def found_logins(trees: Iterable[Tree]) -> tuple[str, ...]:
    """Units and tables that would start a login on a console."""
    names = ("getty@.service", "serial-getty@.service", "console-getty.service", "debug-shell.service", "inittab")
    return tuple(f"/{path}" for tree in trees for path in tree if PurePosixPath(path).name in names)


def check(spec: ImageSpec, initrd: Tree, root: Tree) -> None:
    """Raise `PolicyRefused` with everything in the image that its rules forbid, at once."""
    trees = (initrd, root)
    found = (
        ("image.shell", "no shell and no way to become another user", () if spec.allow_shell else found_shells(trees), "without"),
        ("image.console", "no login on a console", found_logins(trees), "without"),
        ("image.agent", "no cloud-init and no agent of a cloud", found_agents(trees), "without"),
        ("image.secret", "no secret: the image is public", found_secrets(trees), "secret"),
        ("image.set-user-id", "no set-user-id program", _privileged(trees), "without"),
        ("image.ssh-key", "SSH keys from the specification alone", _foreign_keys(trees), "keys"),
    )
    remedies = {
        "without": "Name the package under `without`, or remove the file from the specification.",
        "secret": "Have it released to the attested guest instead; nothing in an image is confidential.",
        "keys": "State them as ssh_authorized_keys, so that they are part of the signed inventory.",
    }
    findings = [
        Finding(
            code, "provisioning", expected, ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else ""), remedies[kind]
        )
        for code, expected, paths, kind in found
        if paths
    ]
    if findings:
        error: EvidentError = PolicyRefused(*findings)
        raise error


def _privileged(trees: Iterable[Tree]) -> tuple[str, ...]:
    return tuple(f"/{path}" for tree in trees for path, entry in _files(tree) if entry.mode & 0o6000)


def _foreign_keys(trees: Iterable[Tree]) -> tuple[str, ...]:
    return tuple(f"/{path}" for tree in trees for path in tree if PurePosixPath(path).name in {"authorized_keys", "authorized_keys2"})
