"""The image specification: what is in the image, what runs, what may write, and nothing about the machine that builds it.

Read with `codec.decode(ImageSpec, ..., "image")`; the published schema is ``schemas/image.json``, generated from these classes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evident import codec
from evident.errors import Malformed

WHAT = "image"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,62}")
_SIZE = re.compile(r"[1-9][0-9]{0,5}[km]")
_HOST_NAME = re.compile(r"(?!.{254}|[0-9.]+\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_HOST_NAMES = 100
_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
OWN_PARAMETERS = (
    *("root", "roothash", "init", "rdinit", "ro", "rw"),
    *("evident.mode", "evident.root", "evident.hash", "evident.data", "evident.secrets"),
)
"""Kernel parameters that the build states itself or every machine has its own of, and those that would move the first process."""


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


def _refuse(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy="Correct the image specification.")


def check_path(path: str) -> None:
    """Raise `Malformed` unless `path` is absolute and plain."""
    parts = path.split("/")
    if not path.startswith("/") or path == "/" or any(part in {"", ".", ".."} for part in parts[1:]) or not path.isprintable():
        raise _refuse("path", "an absolute path without . and ..", repr(path))


@dataclass(frozen=True, slots=True)
class FileSpec:
    """One file of the root file system; its text is part of the specification, so that the specification alone names the image."""

    path: str = field(metadata=_doc("Absolute path in the root file system."))
    text: str = field(default="", metadata=_doc("Content as text (UTF-8)."))
    base64: str = field(default="", metadata=_doc("Content in base64, instead of `text`."))
    executable: bool = field(default=False, metadata=_doc("Mode 0755 instead of 0644."))

    def __post_init__(self) -> None:
        check_path(self.path)
        if self.text and self.base64:
            raise _refuse("file", f"text or base64 for {self.path}", "both")
        self.content()

    def content(self) -> bytes:
        try:
            return base64.b64decode(self.base64, validate=True) if self.base64 else self.text.encode()
        except binascii.Error:
            raise _refuse("file", f"standard base64 for {self.path}", "something else") from None


@dataclass(frozen=True, slots=True)
class Writable:
    """A place that may be written to: a tmpfs, mounted nosuid, nodev and noexec."""

    path: str = field(metadata=_doc("Absolute path of the directory."))
    size: str = field(default="64m", metadata=_doc("Most that it holds: a number and k or m."))

    def __post_init__(self) -> None:
        check_path(self.path)
        if not _SIZE.fullmatch(self.size):
            raise _refuse("writable", f"a size such as 64m for {self.path}", repr(self.size))


@dataclass(frozen=True, slots=True)
class ImageSpec:
    version: Literal[1] = field(metadata=_doc("Version of the specification's format."))
    name: str = field(metadata=_doc("Name of the image: lower-case letters, digits, dots and dashes."))
    workload: tuple[str, ...] = field(metadata=_doc("The one program that runs once the root is verified: path and arguments."))
    suite: str = field(default="trixie", metadata=_doc("Debian suite that the packages come from."))
    profile: Literal["integrity", "encrypted", "microcvm"] = field(
        default="integrity",
        metadata=_doc(
            "`integrity`: dm-verity root, all else in memory. `encrypted`: the same root inside LUKS2 with integrity, whose key is "
            "released after attestation. `microcvm`: the workload in the initrd, one measured blob and no disk."
        ),
    )
    packages: tuple[str, ...] = field(default=(), metadata=_doc("Debian packages of the root file system, with all they depend on."))
    without: tuple[str, ...] = field(
        default=("debconf", "dpkg", "dash", "bash", "perl-base", "tar"),
        metadata=_doc("Packages left out although something depends on them: what only maintainer scripts and shells need."),
    )
    files: tuple[FileSpec, ...] = field(default=(), metadata=_doc("Files laid over the packages."))
    environment: Mapping[str, str] = field(default_factory=dict, metadata=_doc("Environment of the workload."))
    writable: tuple[Writable, ...] = field(
        default=(Writable("/tmp"), Writable("/run", "16m")),  # noqa: S108  # paths inside the image
        metadata=_doc("Where the workload may write; everything else is read-only."),
    )
    command_line: tuple[str, ...] = field(default=(), metadata=_doc("Kernel parameters added to those of the build."))
    user: Literal["own", "root"] = field(
        default="own",
        metadata=_doc(
            "`own`: the workload is a user without capabilities (id 1000), who reaches neither the agent and its keys nor the secure "
            "processor, the TPM and the disk's key. `root`: it can do all that the agent can, and answer in its place."
        ),
    )
    ima: bool = field(
        default=False,
        metadata=_doc(
            "Have the kernel measure every program, library and kernel module as it is loaded (IMA, PCR 10), and refuse a machine that "
            "loads what is not among the image's files."
        ),
    )
    ssh_authorized_keys: tuple[str, ...] = field(
        default=(),
        metadata=_doc(
            "Public keys that may log in by SSH, as a user of the image's /etc/passwd that is not root; the image needs openssh-server. "
            "None means no way in at all."
        ),
    )
    tls_names: tuple[str, ...] = field(
        default=(),
        metadata=_doc(
            "Host names under which the workload serves TLS: every boot then makes a TLS key and certificates for them in "
            "/run/evident/tls, and answers to challenges name that key."
        ),
    )
    allow_shell: bool = field(
        default=False, metadata=_doc("UNSAFE: leave interpreters for administrators (sh, bash, busybox) in the root.")
    )

    def __post_init__(self) -> None:
        for what, names in (("name", (self.name,)), ("suite", (self.suite,)), ("package", (*self.packages, *self.without))):
            for name in names:
                if not _NAME.fullmatch(name):
                    raise _refuse(what, f"a {what} of lower-case letters, digits, +, . and -", repr(name))
        if not self.workload or not self.workload[0].startswith("/"):
            raise _refuse("workload", "an absolute path and arguments", repr(list(self.workload)))
        if any("\0" in word for word in self.workload):
            raise _refuse("workload", "words without NUL", "a NUL")
        for parameter in self.command_line:
            if not re.fullmatch(r"[!-~]+", parameter) or parameter.split("=")[0] in OWN_PARAMETERS:
                raise _refuse("command-line", "parameters without blanks that the build does not set itself", repr(parameter))
        for key in self.ssh_authorized_keys:
            if key.split(" ")[0] not in _KEY_TYPES or "\n" in key or "PRIVATE" in key:
                raise _refuse("ssh-key", "a public key line, of type " + ", ".join(_KEY_TYPES), repr(key[:40]))
        if len(self.tls_names) > _HOST_NAMES or not all(_HOST_NAME.fullmatch(name) for name in self.tls_names):
            raise _refuse(
                "tls-name", f"at most {_HOST_NAMES} host names in lower case, no wildcard and no address", repr(list(self.tls_names))[:80]
            )
        paths = [item.path for item in self.files]
        doubled = {path for path in paths if paths.count(path) > 1}
        if doubled:
            raise _refuse("file", "every path once", ", ".join(sorted(doubled)))

    def digest(self) -> bytes:
        """SHA-256 over the canonical JSON form."""
        return hashlib.sha256(json.dumps(codec.encode(self), sort_keys=True, separators=(",", ":")).encode()).digest()
