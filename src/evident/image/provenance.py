"""Which packages of an image were built from source, and on whose word: signed outcomes, counted like those of `manifest.rebuilders`.

An outcome raises a package only when a trusted signer built, from source, exactly the bytes that the lock names. One that differs raises
nothing and takes nothing away: the environment of Debian's own build is not known, and who got the same bytes did get them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from evident import codec
from evident.audit import dsse
from evident.errors import Malformed
from evident.image.stated import Lock

if TYPE_CHECKING:  # whoever only reads an outcome needs no keys
    from evident.audit.keys import VerifyingKey

PACKAGE_TYPE = "application/vnd.evident.package-rebuild+json"
YOU = "you"


@dataclass(frozen=True, slots=True)
class PackageRebuild:
    """What one signer got when building one package from its source."""

    version: Literal[1]
    package: str
    package_version: str
    sha256: bytes
    """Of the package as the lock names it, with which the build was compared."""
    source: str
    source_version: str
    description: bytes
    """SHA-256 of the source's .dsc, which names every file of the source by SHA-256."""
    environment: bytes
    """SHA-256 of the list (a lock) of every package that was installed for the build."""
    built: bytes
    """SHA-256 of what was built."""
    first_difference: str | None
    evident: str
    rebuilt_at: datetime

    @property
    def equal(self) -> bool:
        return self.built == self.sha256


def read(envelope: bytes) -> PackageRebuild:
    """The outcome in `envelope`, *unverified*. Raises `Malformed`."""
    kind, payload, _ = dsse.read(envelope)
    if kind != PACKAGE_TYPE:
        raise Malformed.of("rebuild.type", expected=PACKAGE_TYPE, found=kind, remedy="This is another document of Evident's.")
    return codec.decode(PackageRebuild, codec.loads(payload, "rebuild"), "rebuild")


@dataclass(frozen=True, slots=True)
class Word:
    """What was said of an image and its packages, and whose word counts."""

    endorsements: tuple[bytes, ...]
    """Signed outcomes, of images (`manifest.Rebuild`) and of packages."""
    trusted: tuple[VerifyingKey, ...]
    own: VerifyingKey | None = None
    minimum: int = 1
    """Distinct trusted signers that it takes: the policy's ``minimum_rebuilders``."""


def from_source(locked: Lock, word: Word) -> Mapping[str, str]:
    """Name of each package of `locked` that enough trusted signers built, from source, with the lock's SHA-256; to by whom (`by`).

    Signers who are not trusted, other versions and builds that differ do not count. Raises `NotAuthentic` for an outcome whose signature is
    not that of the trusted key that it names, `Malformed` for what is no outcome.
    """
    keys = {key.keyid for key in word.trusted}
    signers: dict[tuple[str, str, bytes], set[str]] = {
        (package.name, package.version, package.sha256): set() for package in locked.packages
    }
    for envelope in word.endorsements:
        kind, _, signer = dsse.read(envelope)
        if kind != PACKAGE_TYPE or signer not in keys:
            continue
        dsse.unseal(envelope, word.trusted)
        said = read(envelope)
        of = (said.package, said.package_version, said.sha256)
        if said.equal and of in signers:
            signers[of].add(signer)
    return {name: by(found, word.own) for (name, _, _), found in signers.items() if len(found) >= max(word.minimum, 1)}


def by(signers: Iterable[str], own: VerifyingKey | None) -> str:
    """On whose word: ``you`` where `own` is among the signers, else those by key."""
    if own is not None and own.keyid in signers:
        return YOU
    return "rebuilders " + ", ".join(sorted(keyid[:16] for keyid in signers))
