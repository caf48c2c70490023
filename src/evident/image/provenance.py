"""Which packages of an image were built from source, and on whose word: signed outcomes, counted like those of `manifest.rebuilders`.

An outcome raises a package only when a trusted signer built, from source, exactly the bytes that the lock names. One that differs raises
nothing and takes nothing away: the environment of Debian's own build is not known, and who got the same bytes did get them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from evident import __version__, codec
from evident.audit import canonical, dsse
from evident.errors import Malformed
from evident.image import lock
from evident.image.stated import Lock

if TYPE_CHECKING:  # whoever only counts needs none of what builds
    from evident.audit.keys import SigningKey, VerifyingKey
    from evident.image.rebuild import Tried

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


def is_outcome(envelope: bytes) -> bool:
    """Whether this is the outcome of building a package. Raises `Malformed` for what is no envelope."""
    return dsse.read(envelope)[0] == PACKAGE_TYPE


def read(envelope: bytes) -> PackageRebuild:
    """The outcome in `envelope`, *unverified*. Raises `Malformed`."""
    kind, payload, _ = dsse.read(envelope)
    if kind != PACKAGE_TYPE:
        raise Malformed.of("rebuild.type", expected=PACKAGE_TYPE, found=kind, remedy="This is another document of Evident's.")
    return codec.decode(PackageRebuild, codec.loads(payload, "rebuild"), "rebuild")


def from_source(
    locked: Lock, outcomes: Iterable[bytes], trusted: Iterable[VerifyingKey], *, own: VerifyingKey | None = None, minimum: int = 1
) -> Mapping[str, str]:
    """Name of each package of `locked` that `minimum` distinct trusted signers built, from source, with the lock's SHA-256; to by whom.

    That is ``you`` where `own` is among them. Signers who are not trusted, other versions and builds that differ do not count. Raises
    `NotAuthentic` for an outcome whose signature is not that of the trusted key that it names, `Malformed` for what is no outcome.
    """
    keys = {key.keyid: key for key in trusted}
    signers: dict[tuple[str, str, bytes], set[str]] = {
        (package.name, package.version, package.sha256): set() for package in locked.packages
    }
    for envelope in outcomes:
        signer = dsse.read(envelope)[2]
        if signer not in keys:
            continue
        dsse.unseal(envelope, keys.values())
        said = read(envelope)
        of = (said.package, said.package_version, said.sha256)
        if said.equal and of in signers:
            signers[of].add(signer)
    return {name: _by(found, own) for (name, _, _), found in signers.items() if len(found) >= max(minimum, 1)}


def _by(signers: Iterable[str], own: VerifyingKey | None) -> str:
    if own is not None and own.keyid in signers:
        return YOU
    return "rebuilders " + ", ".join(sorted(keyid[:16] for keyid in signers))
