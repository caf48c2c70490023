"""The lock: every package of an image, and of the tools that make it, by version and SHA-256.

apt resolves in a directory of its own (`apt.PrivateApt`). From then on hashes decide: a mirror only transports, and what it hands out is
compared with the lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from evident import codec
from evident.errors import CollateralUnavailable, Malformed, NotAuthentic
from evident.image import apt, deb
from evident.image.spec import ImageSpec
from evident.image.stated import Group, Lock, LockedPackage
from evident.image.tree import Entry, Tree

WHAT = "lock"
KERNEL = "linux-image-cloud-amd64"
INITRD = ("python3-minimal", "libpython3-stdlib", "python3-cryptography", "cryptsetup-bin", "openssl-provider-legacy")
SPIRE = ("python3-grpcio",)
"""What the guest speaks with to a SPIRE agent, beside the other packages of the initrd."""
TOOLS = ("erofs-utils", "cryptsetup-bin", "systemd-boot-efi", "python3-minimal", "libpython3-stdlib", "zstd")
Progress = Callable[[str], None]


def load(data: bytes) -> Lock:
    """Read a lock file. Raises `Malformed` (``lock.*``)."""
    lock = codec.decode(Lock, codec.loads(data, WHAT), WHAT)
    for package in lock.packages:
        if len(package.sha256) != 32 or not re.fullmatch(r"[a-z0-9-]+/pool/[A-Za-z0-9+._~%:/-]+", package.path) or ".." in package.path:
            raise Malformed.of(
                f"{WHAT}.package", expected="a path below pool/ and a SHA-256", found=f"{package}: {package.path}", remedy="Lock again."
            )
    return lock


def dump(lock: Lock) -> bytes:
    """The lock file: indented JSON, packages by name."""
    return json.dumps(codec.encode(lock), indent=1, sort_keys=True).encode() + b"\n"


def resolve(spec: ImageSpec, addresses: Sequence[str], *, progress: Progress = lambda _: None) -> Lock:
    """Lock the newest packages of the suite. Raises `UsageError` and `CollateralUnavailable`."""
    with tempfile.TemporaryDirectory(prefix="evident-apt-") as folder:
        archive = apt.PrivateApt(Path(folder), spec.suite, addresses)
        progress(f"reading the package lists of {spec.suite}")
        archive.update()
        groups: dict[Group, tuple[str, ...]] = {
            "root": spec.packages,
            "initrd": (*INITRD, *(SPIRE if spec.spire else ())),
            "tools": TOOLS,
            "kernel": (KERNEL,),
        }
        packages: dict[str, LockedPackage] = {}
        for group, wanted in groups.items():
            progress(f"resolving: {group}")
            for package in archive.packages("install", wanted, (group,)):
                if package.name in spec.without or (group == "kernel" and not package.name.startswith("linux-image-")):
                    continue  # of the kernel's dependencies only itself: it is unpacked, not installed
                known = packages.get(package.name)
                used = (*known.groups, group) if known else (group,)
                packages[package.name] = LockedPackage(package.name, package.version, package.path, package.size, package.sha256, used)
    return Lock(1, spec.suite, apt.ARCHITECTURE, tuple(packages[name] for name in sorted(packages)))


class Store:
    """Packages by content: a file named by its SHA-256. May be shared by many images and deleted at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unpacked: dict[bytes, tuple[tuple[str, Entry], ...]] = {}

    def path(self, sha256: bytes) -> Path:
        return self._folder / sha256.hex()

    def read(self, package: LockedPackage) -> bytes:
        """The package's bytes, hashed anew on every read. Raises `CollateralUnavailable` and `NotAuthentic` (``image.package-hash``)."""
        path = self.path(package.sha256)
        if not path.is_file():
            raise vanished((package,))
        data = path.read_bytes()
        if hashlib.sha256(data).digest() != package.sha256:
            raise _changed(package, hashlib.sha256(data).digest(), f"Delete {path.name} from the store and build again.")
        return data

    def put(self, program: bytes, sha256: bytes) -> None:
        """Take in the program that an image names by `sha256`. Raises `NotAuthentic` (``image.program-hash``) where it is another."""
        _check(program, sha256, "Name this program in the specification, or give the one that it names.")
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{sha256.hex()}.{os.getpid()}"
        temporary.write_bytes(program)
        temporary.replace(self.path(sha256))

    def program(self, sha256: bytes) -> bytes:
        """What was put in under `sha256`, hashed anew. Raises `CollateralUnavailable` (``image.program-missing``), and as `put`."""
        path = self.path(sha256)
        if not path.is_file():
            raise CollateralUnavailable.of(
                "image.program-missing",
                expected=f"the program with SHA-256 {sha256.hex()} in the store",
                found="none",
                remedy="Build the image with --spire-agent FILE once, or put the file into the store under its SHA-256.",
            )
        program = path.read_bytes()
        _check(program, sha256, f"Delete {path.name} from the store, and give the program again.")
        return program

    def lay(self, package: LockedPackage, tree: Tree) -> None:
        """Unpack `package` into `tree`; what several parts of an image share is decompressed once."""
        files = self._unpacked.get(package.sha256) or self._entries(package)
        if len(package.groups) > 1:
            self._unpacked[package.sha256] = files
        deb.lay(files, str(package), tree)

    def _entries(self, package: LockedPackage) -> tuple[tuple[str, Entry], ...]:
        name = frozenset({package.name})
        return tuple((path, replace(entry, packages=name)) for path, entry in deb.entries(self.read(package), str(package)))

    def fetch(self, lock: Lock, addresses: Sequence[str], *, progress: Progress = lambda _: None) -> None:
        """Bring in what the store does not hold. Raises `CollateralUnavailable` naming every package that no mirror has any more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [package for package in lock.packages if not self.path(package.sha256).is_file()]
        for number, package in enumerate(missing, 1):
            progress(f"package {number} of {len(missing)}: {package}")
            for address in addresses:
                if self._download(package, address):
                    break
        gone = tuple(package for package in missing if not self.path(package.sha256).is_file())
        if gone:
            raise vanished(gone)

    def _download(self, package: LockedPackage, address: str) -> bool:
        """apt's own transport, to a temporary name; what arrives counts only with the right hash."""
        temporary = self._folder / f".{package.sha256.hex()}.{os.getpid()}"
        uri = f"{address.rsplit('/', 1)[0]}/{package.path}"
        try:
            apt.run(["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "download-file", uri, str(temporary)])
        except CollateralUnavailable:
            return False
        else:
            found = hashlib.sha256(temporary.read_bytes()).digest()
            if found != package.sha256:
                raise _changed(package, found, "The mirror hands out another file under this name: use another one.")
            temporary.replace(self.path(package.sha256))
            return True
        finally:
            temporary.unlink(missing_ok=True)


def _check(program: bytes, sha256: bytes, remedy: str) -> None:
    found = hashlib.sha256(program).digest()
    if found != sha256:
        expected = f"the program with SHA-256 {sha256.hex()}, which the specification names"
        raise NotAuthentic.of("image.program-hash", expected=expected, found=found.hex(), remedy=remedy)


def _changed(package: LockedPackage, found: bytes, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(
        "image.package-hash", expected=f"{package} with SHA-256 {package.sha256.hex()}", found=found.hex(), remedy=remedy
    )


def vanished(packages: Iterable[LockedPackage]) -> CollateralUnavailable:
    """The error that names packages which cannot be had."""
    names = ", ".join(f"{package} (SHA-256 {package.sha256.hex()})" for package in packages)
    return CollateralUnavailable.of(
        "image.package-vanished",
        expected=f"on a mirror or in the store: {names}",
        found="nowhere",
        remedy="Put the file into the store under its SHA-256 (an older mirror may have it), or lock anew with --update-lock.",
    )
