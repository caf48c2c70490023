"""What the measured command line and the measured configuration tell the guest. Anything ambiguous ends the boot.

Command line (``/proc/cmdline``):

    evident.mode=integrity|encrypted|microcvm    what kind of root there is
    evident.tee=hardware|simulated               where evidence comes from; simulated shows in the measurement
    evident.verifier=ADDRESS:PORT                the key server
    evident.key=HEX                              SHA-256 of its public key (SubjectPublicKeyInfo)
    evident.keyserver=spiffe://DOMAIN/PATH       its SPIFFE ID, where the image attests by SPIRE
    evident.spire=ADDRESS:PORT                   the SPIRE server, likewise: these two, or evident.key
    evident.data=PARTUUID                        the LUKS partition (encrypted), and the name under which its key and secrets are asked for
    evident.reopened=launch|tpm                  how the disk, once it was released, opens again without the key server (encrypted)
    evident.machine=UUID                         the name under which leave to start and secrets are asked for (integrity, microcvm)
    evident.root=PARTUUID evident.hash=PARTUUID  data and hash tree (integrity)
    evident.hashoffset=BYTES                     where the hash tree begins on the opened volume (encrypted)
    roothash=HEX                                 dm-verity root hash
    evident.network=dhcp|ADDRESS/PREFIX[,GATEWAY]  default: 10.0.2.15/24,10.0.2.2 (QEMU's user network)
    evident.attest=PORT                          answer challenges on this port from the first unit on

A parameter that occurs twice, an unknown ``evident.`` parameter and a missing one are refused: whoever appends to the command line gets
no say, even where nobody measured it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from evident import codec
from evident.errors import Malformed
from evident.evidence.cmdline import parameters
from evident.identity.spiffe_id import SpiffeId
from evident.identity.spiffe_id import parse as parse_spiffe_id

WHAT = "guest.config"
CONFIGURATION_LIMIT = 256 * 1024
DEFAULT_NETWORK = "10.0.2.15/24,10.0.2.2"

Mode = Literal["integrity", "encrypted", "microcvm"]
Reopened = Literal["launch", "tpm"]
_PARAMETERS = (
    *("mode", "tee", "verifier", "key", "keyserver", "spire", "data", "reopened", "machine"),
    *("root", "hash", "hashoffset", "network", "attest"),
)
_SPIRE = ("keyserver", "spire")
_NEEDED = {
    "encrypted": ("tee", "data", "hashoffset", "roothash"),
    "integrity": ("root", "hash", "roothash"),
    "microcvm": (),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of its own in memory (tmpfs)."""

    path: str
    size: str = "64m"
    owner: int | None = None
    """The user whose alone it is; None: everybody may put files of their own there."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A program of the image's."""

    name: str
    command: tuple[str, ...]
    owner: int
    """User and group: of those with no rights beside their own files, or root (0), who can do whatever the agent can (AT-44)."""
    environment: dict[str, str] = field(default_factory=dict)
    on_end: Literal["next", "power-off", "restart", "nothing"] = "power-off"
    secrets: tuple[str, ...] = ()
    """Names of those that it reads."""
    tls_names: tuple[str, ...] = ()
    """Host names under which it serves TLS; none: it gets no key for it."""
    svid: bool = False
    """Whether the machine's SPIRE agent gives it an X.509-SVID of its own."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """``/etc/evident/guest.json`` of the initrd."""

    units: tuple[Unit, ...]
    tmpfs: tuple[Place, ...] = ()
    ssh_authorized_keys: tuple[str, ...] = ()
    ima: bool = False
    """Whether the kernel measures what it loads."""
    spire: bool = False
    """Whether the machine attests to a SPIRE server, and not to the key server."""

    @property
    def svids(self) -> bool:
        """Whether SPIRE's agent runs as long as the machine."""
        return any(unit.svid for unit in self.units)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The ``evident.`` parameters; empty or zero where a mode needs none."""

    mode: Mode
    tee: Literal["hardware", "simulated"]
    verifier: tuple[str, int] = ("", 0)
    key: bytes = b""
    key_server: SpiffeId | None = None
    spire: tuple[str, int] = ("", 0)
    data: str = ""
    reopened: Reopened | None = None
    """None: the key server releases the key for every boot."""
    machine: str = ""
    root: str = ""
    hash: str = ""
    hash_offset: int = 0
    root_hash: bytes = b""
    network: str = DEFAULT_NETWORK
    attest: int = 0

    @property
    def asks(self) -> str:
        """Under which name it asks the key server; empty where it asks for nothing."""
        return self.data if self.mode == "encrypted" else self.machine


def parse_command_line(text: str) -> CommandLine:
    """Read the kernel command line; raises `Malformed` ``guest.config...``."""
    said: dict[str, str] = {}
    for word in parameters(text):
        name, _, value = word.partition("=")
        short = name.removeprefix("evident.")
        if name != "roothash" and short == name:
            continue
        if short not in _PARAMETERS and name != "roothash":
            raise _refuse("unknown", "parameters " + ", ".join(_PARAMETERS), repr(name)[:60])
        if short in said:
            raise _refuse("twice", f"{name} once", "twice")
        said[short] = value
    mode, tee = said.get("mode", ""), said.get("tee", "hardware")
    if mode not in _NEEDED or tee not in ("hardware", "simulated"):
        raise _refuse("mode", "evident.mode of " + ", ".join(_NEEDED) + "; evident.tee hardware or simulated", f"{mode!r}, {tee!r}")
    if mode == "encrypted" and "machine" in said:
        raise _refuse("twice", "evident.data alone: leave comes with the disk's key", "evident.machine beside it")
    if "reopened" in said and (mode != "encrypted" or said["reopened"] not in get_args(Reopened)):
        raise _refuse("reopened", "evident.reopened of launch, tpm, with mode encrypted", f"{said['reopened']!r}, {mode!r}")
    if "key" in said and said.keys() & set(_SPIRE):
        raise _refuse("twice", "evident.key, or evident.keyserver and evident.spire", "both")
    asking = "machine" in said or mode == "encrypted"
    by = _SPIRE if said.keys() & set(_SPIRE) else ("key",)
    needed = (*_NEEDED[mode], *(("verifier", *by) if asking else ()))
    missing = [name for name in needed if not said.get(name)]
    if missing:
        raise _refuse("missing", f"for mode {mode}: " + ", ".join(missing), "none")
    return CommandLine(
        mode=cast("Mode", mode),
        tee="simulated" if tee == "simulated" else "hardware",
        verifier=_address(said["verifier"]) if "verifier" in said else ("", 0),
        key=_hex(said["key"], 32) if "key" in said else b"",
        key_server=parse_spiffe_id(said["keyserver"]) if "keyserver" in said else None,
        spire=_address(said["spire"]) if "spire" in said else ("", 0),
        data=_identifier(said.get("data", "")),
        reopened=cast("Reopened | None", said.get("reopened")),
        machine=_identifier(said.get("machine", "")),
        root=_identifier(said.get("root", "")),
        hash=_identifier(said.get("hash", "")),
        hash_offset=_number(said.get("hashoffset", "0"), 1 << 62),
        root_hash=_hex(said["roothash"], 32) if "roothash" in said else b"",
        network=said.get("network", DEFAULT_NETWORK),
        attest=_number(said.get("attest", "0"), 65535),
    )


def parse_configuration(data: bytes) -> Configuration:
    """Read ``guest.json``; raises `Malformed`."""
    return codec.decode(Configuration, codec.loads(data, WHAT, limit=CONFIGURATION_LIMIT), WHAT)


def check_way(line: CommandLine, configuration: Configuration) -> None:
    """How the machine proves itself is the image's to say, in both places; `Malformed` ``guest.config.way`` where they differ."""
    if (line.asks or configuration.svids) and configuration.spire != (line.key_server is not None):
        ways = {True: "evident.keyserver and evident.spire", False: "evident.key"}
        raise _refuse("way", f"{ways[configuration.spire]}, as the image is made for", ways[not configuration.spire])


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    numbers = host.split(".")
    if len(numbers) != 4 or any(not _decimal(part) or int(part) > 255 for part in numbers):
        raise _refuse("address", "an IPv4 address and a port, ADDRESS:PORT", repr(text)[:60])
    return host, _number(port, 65535)


def _number(text: str, most: int) -> int:
    if not _decimal(text) or len(text) > 19 or int(text) > most:
        raise _refuse("number", f"a number up to {most}", repr(text)[:60])
    return int(text)


def _decimal(text: str) -> bool:
    return text.isascii() and text.isdecimal() and str(int(text[:20])) == text[:20]


def _identifier(text: str) -> str:
    if text and (len(text) != 36 or set(text) - set("0123456789abcdef-")):
        raise _refuse("partition", "a PARTUUID: 36 lower-case hex digits and hyphens", repr(text)[:60])
    return text


def _hex(text: str, size: int) -> bytes:
    if len(text) != 2 * size or set(text) - set("0123456789abcdef"):
        raise _refuse("digest", f"{2 * size} lower-case hex digits", repr(text)[:140])
    return bytes.fromhex(text)


def _refuse(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}",
        expected=expected,
        found=found,
        remedy="Launch with the command line that belongs to the image.",
        layer="boot_chain",
    )
