"""Debian packages built from their source once more, in a root of their own, and compared with what the lock names.

From which source a package was made is in the package itself, whose SHA-256 is the lock's; the source's files come from the archive by
the SHA-256 of its signed index. Debian's record of each build's environment (.buildinfo) is not in the archive, so packages are built with
what the suite offers now, and the outcome names all of it. A package that then differs is not thereby false: it stays of degree 3.
Sources: deb-control(5) (Source, Built-Using), deb-changelog(5) (binary-only), Debian wiki "binNMU".
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from evident import __version__, codec
from evident.audit import canonical, dsse
from evident.audit.keys import SigningKey
from evident.errors import CollateralUnavailable, EvidentError, Finding, Unsupported
from evident.image import apt, deb, lock, stanza
from evident.image.chroot import Chroot
from evident.image.difference import first_difference
from evident.image.lock import Progress, Store
from evident.image.provenance import PACKAGE_TYPE, PackageRebuild
from evident.image.stated import Lock, LockedPackage

Kind = Literal["any", "all"]
_BASE = ("?essential", "build-essential", "fakeroot")
_BINARY_ONLY = re.compile(r"(.+)\+b[0-9]+")
_SOURCE = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?: \(([^)\s]+)\))?")


@dataclass(frozen=True, slots=True)
class Origin:
    """From which source, and in which of its builds, a package came."""

    source: str
    version: str
    kind: Kind
    change: bytes = b""
    """The entry in the changelog of a build without a change of the source (binNMU)."""

    def __str__(self) -> str:
        return f"{self.source} {self.version} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of building one package."""

    package: LockedPackage
    origin: Origin | None = None
    description: bytes = b""
    """SHA-256 of the source's description (.dsc), which names every file of the source."""
    environment: Lock | None = None
    """Every package that was installed for the build."""
    made: bytes | None = None
    """The package that was built; None where nothing was."""
    difference: str | None = None
    problem: Finding | None = None

    @property
    def equal(self) -> bool:
        return self.built == self.package.sha256

    @property
    def built(self) -> bytes | None:
        """SHA-256 of what was built."""
        return None if self.made is None else hashlib.sha256(self.made).digest()


def origin(package: LockedPackage, raw: bytes) -> Origin:
    """The source of `package`, whose bytes are `raw`.

    Raises `Malformed`, and `Unsupported` ``image.package-built-using`` where other sources' binaries are in it (the kernel, signed by the
    distribution) and ``image.package-binnmu`` where the changelog of a binary-only build is not in it.
    """
    fields = deb.control(raw, str(package))
    if fields.get("built-using"):
        raise Unsupported.of(
            "image.package-built-using",
            expected=f"all of {package} to come from its own source",
            found=f"binaries of {fields['built-using']} in it",
            remedy="It stays of degree 3: what another source's build made is not compiled with this one.",
        )
    said = fields.get("source", package.name)
    match = _SOURCE.fullmatch(said)
    if match is None:
        raise Unsupported.of(
            "image.package-source", expected="a source package's name", found=repr(said), remedy="Lock the packages again."
        )
    name, version = match.group(1), match.group(2) or package.version
    kind: Kind = "all" if fields.get("architecture") == "all" else "any"
    again = _BINARY_ONLY.fullmatch(package.version)
    if again is None or version.endswith(package.version.removeprefix(again.group(1))):
        return Origin(name, version, kind)
    return Origin(name, version, kind, _change(package, raw))


def _change(package: LockedPackage, raw: bytes) -> bytes:
    path = f"usr/share/doc/{package.name}/changelog.Debian.{apt.ARCHITECTURE}.gz"
    entry = dict(deb.entries(raw, str(package))).get(path)
    try:
        text = gzip.decompress(entry.data) if entry is not None and entry.kind == "file" else b""
    except (OSError, EOFError, zlib.error):
        text = b""
    if b"binary-only=yes" not in text.partition(b"\n")[0]:
        raise Unsupported.of(
            "image.package-binnmu",
            expected=f"the changelog of its binary-only build in {package}",
            found="none",
            remedy="It stays of degree 3: the entry goes into the build, and only Debian's record of the build has it.",
        )
    return text.rstrip(b"\n") + b"\n\n"


def sign(tried: Tried, *, at: datetime, key: SigningKey) -> bytes:
    """The signed outcome of a build, equal or not. Raises `ValueError` where nothing was built."""
    if tried.origin is None or tried.environment is None or tried.built is None:
        raise ValueError("nothing was built")
    package = tried.package
    outcome = PackageRebuild(
        1,
        package.name,
        package.version,
        package.sha256,
        tried.origin.source,
        tried.origin.version,
        tried.description,
        hashlib.sha256(lock.dump(tried.environment)).digest(),
        tried.built,
        tried.difference,
        __version__,
        at,
    )
    return dsse.seal(PACKAGE_TYPE, canonical.dumps(codec.encode(outcome)), key)


def depends(description: bytes, kind: Kind, what: str) -> tuple[str, ...]:
    """What apt has to satisfy for a build of `kind`: the .dsc's relations, then its conflicts. Raises `Malformed`."""
    fields = stanza.parse(description, what)
    further = {"any": "arch", "all": "indep"}[kind]
    wanted = [fields.get(name, "").replace("\n", " ").strip(" ,") for name in ("build-depends", f"build-depends-{further}")]
    unwanted = [fields.get(name, "").replace("\n", " ").strip(" ,") for name in ("build-conflicts", f"build-conflicts-{further}")]
    return (*(text for text in wanted if text), *(f"Conflicts: {text}" for text in unwanted if text))


def rebuild(
    packages: Iterable[LockedPackage],
    *,
    suite: str,
    store: Store,
    addresses: Sequence[str],
    logs: Path,
    progress: Progress = lambda _: None,
) -> Iterator[Tried]:
    """Build `packages`, which the store holds, and say of each what came of it; one build for all that come out of it.

    What each build prints is kept in the folder `logs`. One that fails stops no other. Raises what makes any build impossible: the lists of
    packages cannot be had, or no root can be made.
    """
    builds: dict[Origin, list[LockedPackage]] = {}
    for package in packages:
        try:
            builds.setdefault(origin(package, store.read(package)), []).append(package)
        except EvidentError as error:
            yield Tried(package, problem=error.findings[0])
    if not builds:
        return
    with tempfile.TemporaryDirectory(prefix="evident-packages-") as folder:
        workshop = _Workshop(suite, store, addresses, Path(folder), logs, progress)
        try:
            for number, (came_from, wanted) in enumerate(builds.items(), 1):
                progress(f"build {number} of {len(builds)}: {came_from}")
                yield from workshop.build(came_from, wanted)
        finally:
            workshop.close()


class _Workshop:
    """Lists of the archive, a store, and one root that every build's is a copy of."""

    def __init__(self, suite: str, store: Store, addresses: Sequence[str], folder: Path, logs: Path, progress: Progress) -> None:
        self._suite, self._store, self._addresses = suite, store, addresses
        self._folder, self._logs, self._progress = folder, logs, progress
        progress(f"reading the lists of packages and sources of {suite}")
        self._archive = apt.PrivateApt(folder / "apt", suite, addresses, sources=True)
        self._archive.update()
        self._packages = tuple(self._archive.packages("install", _BASE))
        self._fetch(self._packages)
        progress(f"installing the root of all builds: {len(self._packages)} packages")
        self._root = Chroot(folder / "base", logs / "base.log")
        self._root.bootstrap(store, self._archive.packages("install", _BASE[:1]), self._packages)

    def build(self, came_from: Origin, wanted: Sequence[LockedPackage]) -> Iterator[Tried]:
        try:
            tried, made = self._build(came_from, wanted)
            yield from (self._compare(replace(tried, package=package), made) for package in wanted)
        except EvidentError as error:
            yield from (Tried(package, came_from, problem=error.findings[0]) for package in wanted)

    def _build(self, came_from: Origin, wanted: Sequence[LockedPackage]) -> tuple[Tried, dict[str, bytes]]:
        files = self._source(came_from)
        self._fetch(files)
        description = next(file for file in files if file.name.endswith(".dsc"))
        relations = depends(self._store.read(description), came_from.kind, description.name)
        # Together with the root's packages, which are there already: where they have a choice, apt chooses as it did for them.
        asked = (", ".join(package.name for package in self._packages), *relations)
        installed = {package.name: package for package in (*self._packages, *self._archive.packages("satisfy", asked))}
        further = [package for package in installed.values() if package not in self._packages]
        self._fetch(further)
        log = self._logs / f"{came_from.source}_{quote(came_from.version, safe='+~')}_{came_from.kind}.log"
        log.unlink(missing_ok=True)
        self._progress(f"{came_from}: installing {len(further)} packages, then building; {log}")
        root = self._root.copy(self._folder / "build", log)
        try:
            root.install(self._store, further)
            made = root.build(self._store, files, came_from.kind, came_from.change, len(os.sched_getaffinity(0)))
        finally:
            root.remove()
        environment = Lock(1, self._suite, apt.ARCHITECTURE, tuple(installed[name] for name in sorted(installed)))
        return Tried(wanted[0], came_from, description.sha256, environment), made

    def _source(self, came_from: Origin) -> list[LockedPackage]:
        try:
            return self._archive.source(came_from.source, came_from.version)
        except CollateralUnavailable as error:
            raise CollateralUnavailable.of(
                "image.source-vanished",
                expected=f"the source of {came_from} in the archive",
                found=error.findings[0].found,
                remedy="Another version may have taken its place. Lock the packages again, or name a mirror that has it.",
            ) from None

    def _compare(self, tried: Tried, made: dict[str, bytes]) -> Tried:
        found = made.get(unquote(tried.package.path.rsplit("/", 1)[-1]))
        if found is None:
            raise Unsupported.of(
                "image.package-build",
                expected=f"a build of {tried.origin} that makes {tried.package}",
                found=", ".join(made) or "no package",
                remedy="Read its log: an option of the build may leave it out.",
            )
        return replace(tried, made=found, difference=first_difference(self._store.read(tried.package), found))

    def _fetch(self, packages: Sequence[LockedPackage]) -> None:
        self._store.fetch(Lock(1, self._suite, apt.ARCHITECTURE, tuple(packages)), self._addresses, progress=self._progress)

    def close(self) -> None:
        self._root.remove()
