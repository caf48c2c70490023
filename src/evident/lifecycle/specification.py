"""The deployment document: one machine, wherever it is to run. ``docs/deploy.md`` explains it, ``schemas/deployment.json`` is its schema.

    specification = read(parsed, Path("shop.yaml").parent)

Every key has an effect; an unknown one is refused, with the nearest known key.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from evident import codec
from evident.appraisal import identities
from evident.appraisal.policy import Policy
from evident.errors import Malformed
from evident.files import read_private, write_private_bytes
from evident.keys.secrets import check_names
from evident.lifecycle.names import NAME, NAME_WORDS
from evident.platforms import registry
from evident.platforms.opening import Opening

if TYPE_CHECKING:
    from evident.lifecycle.deployment import Deployment

WHAT: Final = "specification"
FILE: Final = "specification.json"
ANY: Final = "any"
_A_YEAR: Final = 365 * 24 * 3600
_DIGEST_BYTES: Final = 32
_REMEDY: Final = "Correct the document; docs/deploy.md explains it."
Technology = Literal["snp", "tdx"]


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


def _refuse(problem: str, expected: str, found: str, remedy: str = _REMEDY) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Image:
    path: str = field(metadata=_doc("Folder made by `evident image build`, seen from this document."))
    sha256: bytes = field(metadata=_doc("SHA-256 of its disk.raw, as `evident image build` prints it. Another image is refused."))
    spec: str | None = field(
        default=None,
        metadata=_doc(
            "Image specification from which the folder is built where it is missing, seen from this document; its lock is beside it "
            "(SPEC.lock.json). An image that is there is never built again."
        ),
    )

    def __post_init__(self) -> None:
        if len(self.sha256) != _DIGEST_BYTES:
            raise _refuse("digest", f"image.sha256: {2 * _DIGEST_BYTES} hexadecimal digits", f"{2 * len(self.sha256)}")


@dataclass(frozen=True, slots=True)
class Size:
    vcpus: int = field(default=1, metadata=_doc("Virtual processors, on your own host. In a cloud its type says it: `where`."))
    memory_mib: int = field(default=1024, metadata=_doc("Memory in MiB, on your own host. In a cloud its type says it: `where`."))

    def __post_init__(self) -> None:
        for name, value, most in (("vcpus", self.vcpus, 4096), ("memory_mib", self.memory_mib, 16 * 1024 * 1024)):
            if not 1 <= value <= most:
                raise _refuse("size", f"{name} from 1 to {most}", str(value))


@dataclass(frozen=True, slots=True)
class Disks:
    root_key: Literal["key-server", "none"] = field(
        default="none",
        metadata=_doc(
            "Who holds the key of the root disk. `key-server`: yours, and the machine gets it after attestation (image profile "
            "`encrypted`). `none`: it is not encrypted, its integrity is measured (profiles `integrity`, `microcvm`)."
        ),
    )
    reopened_by: Literal["key-server", "launch", "tpm"] = field(
        default="key-server",
        metadata=_doc(
            "What opens the root disk of a machine that your key server released once, when it starts again. `key-server`: that, every "
            "time. `launch`: a key that the chip derives from this very launch (SEV-SNP, kernel handed over). `tpm`: a passphrase that the "
            "TPM keeps for this very boot (machines that boot their own disk); whoever runs the TPM has it. With both nobody judges again: "
            "once revoked, the machine still opens its disk wherever its host starts it. What does not open asks the key server. They go "
            "without `secrets`."
        ),
    )
    data: tuple[str, ...] = field(default=(), metadata=_doc("Raw disk images attached beside it, on your own host only."))


@dataclass(frozen=True, slots=True)
class Port:
    port: int = field(metadata=_doc("TCP or UDP port."))
    peer: str = field(metadata=_doc("Who may: a network such as 203.0.113.0/24. On your own host ports are reached from that host alone."))
    protocol: Literal["tcp", "udp"] = field(default="tcp", metadata=_doc("`tcp` or `udp`."))


@dataclass(frozen=True, slots=True)
class Network:
    """Nothing else is open, in either direction."""

    inbound: tuple[Port, ...] = field(default=(), metadata=_doc("What may reach the machine. In a cloud 8442 is needed to attest it."))
    outbound: tuple[Port, ...] = field(default=(), metadata=_doc("What the machine may reach, in a cloud."))

    def __post_init__(self) -> None:
        self.openings()  # raises where a port or network is none

    def openings(self) -> tuple[Opening, ...]:
        return (
            *(Opening("in", each.protocol, each.port, each.peer) for each in self.inbound),
            *(Opening("out", each.protocol, each.port, each.peer) for each in self.outbound),
        )


@dataclass(frozen=True, slots=True)
class Specification:
    version: Literal[1] = field(metadata=_doc("Version of the document's format."))
    name: str = field(metadata=_doc("Name of the deployment: lower-case letters, digits and inner hyphens."))
    image: Image = field(metadata=_doc("What is to run."))
    platform: str | tuple[str, ...] = field(
        default=ANY, metadata=_doc("One platform, several in the order of preference, or `any`: the one where most can be proven.")
    )
    technology: Literal["best", "snp", "tdx"] = field(
        default="best", metadata=_doc("`snp`, `tdx`, or `best`: the one with which more can be proven there.")
    )
    where: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict, metadata=_doc("Platform to its own settings: region, type, subnet... `evident plan` names what is missing.")
    )
    size: Size = field(default_factory=Size, metadata=_doc("How large, on your own host."))
    disks: Disks = field(default_factory=Disks, metadata=_doc("Its disks, and who holds their keys."))
    network: Network = field(default_factory=Network, metadata=_doc("What its network lets through."))
    key_server: str | None = field(
        default=None,
        metadata=_doc("IPv4 address and port at which a machine in a cloud reaches your key server, such as 203.0.113.10:8443."),
    )
    attest_first: bool = field(
        default=False,
        metadata=_doc(
            "Have the machine ask your key server for leave before anything of the image's units starts: accepted by the policy, they do; "
            "refused, it switches itself off. So does every machine that has a key or `secrets` to get; those without start at once."
        ),
    )
    secrets: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_doc(
            "Name to the file that holds the secret, seen from this document, readable by you alone. Your key server releases them to the "
            "attested machine alone, where each unit finds those that it names in /run/evident/secrets/UNIT/NAME."
        ),
    )
    identity: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata=_doc(
            "Which machine it must be: identity or signed register (`chip_id`, `csp_id`, `id_key_digest`, `project_id`...) to the values "
            "accepted, hex where it is bytes. Demanded by the key server, and by every `evident attest`."
        ),
    )
    references: tuple[str, ...] = field(
        default=(), metadata=_doc("Files of reference values beside the image's own: a cloud's firmware, for example.")
    )
    policy: Policy | None = field(
        default=None,
        metadata=_doc(
            "What it has to prove, and whom you are ready to trust (`levels`, `accepted_trust`...). Left out: strict, and demanding "
            "every level that its reference values settle."
        ),
    )
    reattest_seconds: int | None = field(default=None, metadata=_doc("How often it has to prove it: `evident attest NAME --every`."))
    on_refusal: Literal["keep", "destroy"] = field(
        default="keep", metadata=_doc("What becomes of a machine that is refused: kept without secrets, or destroyed.")
    )

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise _refuse("name", NAME_WORDS, repr(self.name))
        if not self.platforms:
            raise _refuse("platform", "a platform, several, or any", "none")
        if self.reattest_seconds is not None and not 1 <= self.reattest_seconds <= _A_YEAR:
            raise _refuse("reattest", f"from a second to a year ({_A_YEAR})", str(self.reattest_seconds))
        if self.key_server is not None:
            address(self.key_server)
        check_names(self.secrets)
        identities.check(self.identity, f"{WHAT}.identity")
        twice = sorted(self.identity.keys() & self.policy.allowed_identities.keys()) if self.policy else []
        if twice:
            raise _refuse("identity.twice", "each identity in `identity` or in `policy.allowed_identities`", f"{twice[0]} in both")

    @property
    def asks(self) -> bool:
        """Whether its machine asks a key server for leave to start, and for what it is to get."""
        return self.attest_first or bool(self.secrets) or self.disks.root_key == "key-server"

    def held_to(self, policy: Policy) -> Policy:
        """`policy`, and no machine but the one that the document means."""
        return replace(policy, allowed_identities={**policy.allowed_identities, **self.identity})

    @property
    def platforms(self) -> tuple[str, ...]:
        """In the order of preference; ``any`` stands for all."""
        return (self.platform,) if isinstance(self.platform, str) else self.platform


def address(text: str) -> tuple[str, int]:
    """Host and port of ``ADDRESS:PORT``; the guest resolves no names. Raises `Malformed` ``specification.key-server``."""
    import ipaddress

    host, _, port = text.rpartition(":")
    try:
        return str(ipaddress.IPv4Address(host)), Opening("out", "tcp", int(port), f"{host}/32").port
    except ValueError:
        raise _refuse("key-server", "an IPv4 address and a port, such as 203.0.113.10:8443", repr(text)) from None


def read(value: Any, folder: Path) -> Specification:
    """The document `value`, parsed YAML or JSON; its paths are seen from `folder`.

    Raises `Malformed` (unknown keys with the nearest known one), and what `Policy` and `Outline.known` raise.
    """
    read = codec.decode(Specification, value, WHAT)
    root = folder.resolve()
    return replace(
        read,
        image=replace(read.image, path=_under(root, read.image.path), spec=_under(root, read.image.spec) if read.image.spec else None),
        disks=replace(read.disks, data=tuple(_under(root, path) for path in read.disks.data)),
        references=tuple(_under(root, path) for path in read.references),
        secrets={name: _under(root, path) for name, path in read.secrets.items()},
        where={platform: _seen_from(root, platform, settings) for platform, settings in read.where.items()},
    )


def _under(root: Path, path: str) -> str:
    if "\0" in path:
        raise _refuse("path", "a path", repr(path)[:80])
    return str(root / path)


def _seen_from(root: Path, platform: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of `platform`, those that are paths absolute."""
    if platform not in registry.OUTLINES:
        near = difflib.get_close_matches(platform, registry.OUTLINES, n=1, cutoff=0.5)
        expected = "settings of platforms among " + ", ".join(registry.OUTLINES)
        raise _refuse("where", expected, repr(platform)[:80], f"Did you mean {near[0]!r}?" if near else _REMEDY)
    outline = registry.OUTLINES[platform]
    outline.known(platform, settings)
    return {name: _under(root, value) if outline.settings[name].path else value for name, value in settings.items()}


def keep(target: Deployment, specification: Specification) -> None:
    """Write it down with the machine; its paths are absolute there."""
    write_private_bytes(target.home / FILE, json.dumps(codec.encode(specification), indent=1, sort_keys=True).encode())


def drop(target: Deployment) -> None:
    """From now on there is none for it."""
    (target.home / FILE).unlink(missing_ok=True)


def kept(target: Deployment) -> Specification | None:
    """The document that `target` was made from; None where it was made from options."""
    path = target.home / FILE
    return codec.decode(Specification, codec.loads(read_private(path), WHAT), WHAT) if path.exists() else None
