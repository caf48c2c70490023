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
from evident.identity import spiffe_id

WHAT = "image"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,62}")
_SIZE = re.compile(r"[1-9][0-9]{0,5}[km]")
_HOST_NAME = re.compile(r"(?!.{254}|[0-9.]+\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_HOST_NAMES = 100
ROOT, FIRST_USER = "root", 1000
_OWN_UNITS = (ROOT, "sshd", "spire-agent")
"""Names that no unit of an image may have: root is no user of a unit's own, sshd is what lets somebody log in, and spire-agent SPIRE's."""
_SHARED = ("/tmp", "/run")  # noqa: S108  # paths inside the image
_CERTIFICATES = re.compile(r"(-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,76}\n)+-----END CERTIFICATE-----\n*)+")
_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
OWN_PARAMETERS = (
    *("root", "roothash", "init", "rdinit", "ro", "rw"),
    *("evident.mode", "evident.root", "evident.hash", "evident.data", "evident.machine"),
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
    user: str | None = field(
        default=None,
        metadata=_doc("The user whose alone it is, as in `units`. Left out: everybody's, where each is master of its own files."),
    )

    def __post_init__(self) -> None:
        check_path(self.path)
        if not _SIZE.fullmatch(self.size):
            raise _refuse("writable", f"a size such as 64m for {self.path}", repr(self.size))
        if self.path in _SHARED and self.user is not None:
            raise _refuse("writable", f"{self.path} without a user: it is everybody's", repr(self.user))


@dataclass(frozen=True, slots=True)
class Unit:
    """One program that runs once the root is verified."""

    name: str = field(metadata=_doc("Name: lower-case letters, digits, dots and dashes. The console's lines about it bear it."))
    command: tuple[str, ...] = field(metadata=_doc("The program, by its absolute path, and its arguments."))
    environment: Mapping[str, str] = field(default_factory=dict, metadata=_doc("Its environment, beside a PATH."))
    user: str | None = field(
        default=None,
        metadata=_doc(
            "Whose it is. Left out: a user called as the unit, without capabilities, whom neither another unit's user nor the agent and "
            "its keys, the secure processor, the TPM and the disk's key are open to. The name of another user: the same one, with the same "
            "files. `root`: it can do all that the agent can, and answer in its place. Users are numbered from 1000, as they come."
        ),
    )
    on_end: Literal["next", "power-off", "restart", "nothing"] = field(
        default="power-off",
        metadata=_doc(
            "What happens when it ends. `power-off`: the machine is switched off. `restart`: it is started again, after a pause of 1 to 30 "
            "seconds. `nothing`: the others go on. `next`: only then, and if it ended with exit code 0, the units behind it are started; "
            "with another one the machine is switched off (`guest.unit`)."
        ),
    )
    secrets: tuple[str, ...] = field(
        default=(), metadata=_doc("Names of the deployment's secrets that it reads, each in /run/evident/secrets/UNIT/NAME.")
    )
    tls_names: tuple[str, ...] = field(
        default=(),
        metadata=_doc(
            "Host names under which it serves TLS: every boot then makes a TLS key and certificates for them in /run/evident/tls, and "
            "answers to challenges name that key. One unit may have it."
        ),
    )
    svid: bool = field(
        default=False,
        metadata=_doc(
            "Whether it gets an X.509-SVID of its own, `spiffe://TRUST-DOMAIN/evident/DEPLOYMENT/unit/NAME`, from the SPIFFE Workload API, "
            "whose address is in its environment as SPIFFE_ENDPOINT_SOCKET. The image needs `spire`."
        ),
    )

    def __post_init__(self) -> None:
        for what, name in (("unit", self.name), ("user", self.owner)):
            if not _NAME.fullmatch(name):
                raise _refuse("name", f"a {what} of lower-case letters, digits, +, . and -", repr(name))
        if self.name in _OWN_UNITS:
            raise _refuse("unit", "another name than " + ", ".join(_OWN_UNITS), repr(self.name))
        if not self.command or not self.command[0].startswith("/") or any("\0" in word for word in self.command):
            raise _refuse("unit", f"an absolute path and arguments, without NUL, for unit {self.name}", repr(list(self.command)))
        if len(self.tls_names) > _HOST_NAMES or not all(_HOST_NAME.fullmatch(name) for name in self.tls_names):
            raise _refuse(
                "tls-name", f"at most {_HOST_NAMES} host names in lower case, no wildcard and no address", repr(list(self.tls_names))[:80]
            )

        if self.svid and (self.owner == ROOT or "+" in self.name):
            raise _refuse("svid", "svid of a unit that is not root's and whose name goes into a SPIFFE ID, without +", repr(self.name))

    @property
    def owner(self) -> str:
        """Name of its user."""
        return self.user or self.name


@dataclass(frozen=True, slots=True)
class SpireSpec:
    """What the initrd attests with where SPIRE stands between the machine and its key server: whose agent, and whom it believes."""

    agent_sha256: bytes = field(metadata=_doc("SHA-256 of the program `spire-agent`, linked statically, for x86-64."))
    trust_domain: str = field(metadata=_doc("The trust domain that the machine belongs to, such as example.org."))
    bundle: str = field(
        metadata=_doc(
            "Certificates (PEM) of the trust domain's authorities, by which the agent knows its server: `spire-server bundle show`."
        )
    )

    def __post_init__(self) -> None:
        spiffe_id.check_trust_domain(self.trust_domain)
        if len(self.agent_sha256) != hashlib.sha256().digest_size:
            raise _refuse("spire-agent", "a SHA-256", f"{len(self.agent_sha256)} bytes")
        if not _CERTIFICATES.fullmatch(self.bundle):
            raise _refuse("spire-bundle", "certificates in PEM and nothing else", repr(self.bundle[:40]))


@dataclass(frozen=True, slots=True)
class ImageSpec:
    version: Literal[1] = field(metadata=_doc("Version of the specification's format."))
    name: str = field(metadata=_doc("Name of the image: lower-case letters, digits, dots and dashes."))
    units: tuple[Unit, ...] = field(metadata=_doc("The programs that run once the root is verified, started in this order."))
    suite: str = field(default="trixie", metadata=_doc("Debian suite that the packages come from."))
    profile: Literal["integrity", "encrypted", "microcvm"] = field(
        default="integrity",
        metadata=_doc(
            "`integrity`: dm-verity root, all else in memory. `encrypted`: the same root inside LUKS2 with integrity, whose key is "
            "released after attestation. `microcvm`: the units in the initrd, one measured blob and no disk."
        ),
    )
    packages: tuple[str, ...] = field(default=(), metadata=_doc("Debian packages of the root file system, with all they depend on."))
    without: tuple[str, ...] = field(
        default=("debconf", "dpkg", "dash", "bash", "perl-base", "tar"),
        metadata=_doc("Packages left out although something depends on them: what only maintainer scripts and shells need."),
    )
    files: tuple[FileSpec, ...] = field(default=(), metadata=_doc("Files laid over the packages."))
    writable: tuple[Writable, ...] = field(
        default=(Writable("/tmp"), Writable("/run", "16m")),  # noqa: S108  # as above
        metadata=_doc("Where units may write; everything else is read-only."),
    )
    command_line: tuple[str, ...] = field(default=(), metadata=_doc("Kernel parameters added to those of the build."))
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
    allow_shell: bool = field(
        default=False, metadata=_doc("UNSAFE: leave interpreters for administrators (sh, bash, busybox) in the root.")
    )
    spire: SpireSpec | None = field(
        default=None,
        metadata=_doc(
            "Attest to a SPIRE server, and ask the key server with the SVID that it issues. Left out: the guest attests to the key server."
        ),
    )

    def __post_init__(self) -> None:
        for what, names in (("name", (self.name,)), ("suite", (self.suite,)), ("package", (*self.packages, *self.without))):
            for name in names:
                if not _NAME.fullmatch(name):
                    raise _refuse(what, f"a {what} of lower-case letters, digits, +, . and -", repr(name))
        self._check_units()
        for parameter in self.command_line:
            if not re.fullmatch(r"[!-~]+", parameter) or parameter.split("=")[0] in OWN_PARAMETERS:
                raise _refuse("command-line", "parameters without blanks that the build does not set itself", repr(parameter))
        for key in self.ssh_authorized_keys:
            if key.split(" ")[0] not in _KEY_TYPES or "\n" in key or "PRIVATE" in key:
                raise _refuse("ssh-key", "a public key line, of type " + ", ".join(_KEY_TYPES), repr(key[:40]))
        paths = [item.path for item in self.files]
        doubled = {path for path in paths if paths.count(path) > 1}
        if doubled:
            raise _refuse("file", "every path once", ", ".join(sorted(doubled)))

    def _check_units(self) -> None:
        if not self.units or self.units[-1].on_end == "next":
            raise _refuse(
                "unit", "units, and one behind every one that ends with `next`", "none" if not self.units else self.units[-1].name
            )
        names = [unit.name for unit in self.units]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise _refuse("unit", "every name once", ", ".join(doubled))
        if sum(bool(unit.tls_names) for unit in self.units) > 1:
            raise _refuse("tls-name", "tls_names of one unit", "several: a boot has one TLS key")
        if self.spire is None and self.svids:
            raise _refuse("svid", "`spire`, where units have SVIDs", "none, and unit " + next(iter(self.svids)))
        strange = sorted({place.user for place in self.writable if place.user is not None and place.user not in self.users})
        if strange:
            raise _refuse("writable", "users of units: " + ", ".join(self.users), strange[0])

    @property
    def users(self) -> Mapping[str, int]:
        """Every user of a unit to its number, which is its group's too; root's is 0."""
        own = (unit.owner for unit in self.units if unit.owner != ROOT)
        return {**{name: FIRST_USER + number for number, name in enumerate(dict.fromkeys(own))}, ROOT: 0}

    @property
    def svids(self) -> Mapping[str, int]:
        """Every unit that has an SVID of its own to the number of its user; while there are any, SPIRE's agent runs."""
        return {unit.name: self.users[unit.owner] for unit in self.units if unit.svid}

    def digest(self) -> bytes:
        """SHA-256 over the canonical JSON form."""
        return hashlib.sha256(json.dumps(codec.encode(self), sort_keys=True, separators=(",", ":")).encode()).digest()
