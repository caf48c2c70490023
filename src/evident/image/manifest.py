"""The signed manifest of an image: specification, lock, every component's digest, inventory, and what a boot of it will measure.

A manifest says all that is needed to build the image again; `reproduce` does so. Its reference values are RECOMPUTED (degree 3), not
REBUILT: the image is made anew, but from the distribution's binaries and a firmware as given, and nobody compiled those; each component
says for itself which of the two it is (docs/decisions/010-degree.md). They count as your own only for whoever built the image again; others
take the word of those who did (`accepted_values`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from evident import __version__, codec
from evident.audit import canonical, dsse
from evident.errors import Malformed, NotAuthentic, PolicyRefused
from evident.image import provenance
from evident.image.provenance import PACKAGE_TYPE, YOU, Word
from evident.image.spec import ImageSpec
from evident.image.stated import Inventory, Lock
from evident.reference_values.model import ReferenceSet, ReferenceValue, Strength

if TYPE_CHECKING:  # whoever only reads a manifest needs no keys, and none of the tools that build
    from evident.audit.keys import SigningKey, VerifyingKey
    from evident.image.build import Built

MANIFEST_TYPE = "application/vnd.evident.image-manifest+json"
REBUILD_TYPE = "application/vnd.evident.image-rebuild+json"


@dataclass(frozen=True, slots=True)
class Component:
    name: str
    sha256: bytes
    strength: Strength = Strength.RECOMPUTED
    """REBUILT where all of it is made from source by the build; a layer of the statement has the lowest of its parts."""
    packages: tuple[str, ...] = ()
    """Every package whose bytes are in it, or whose program wrote them; none where all is made from source, or an origin is unknown."""

    def __str__(self) -> str:
        return f"{self.name} with SHA-256 {self.sha256.hex()}, degree {self.strength}, of packages {', '.join(self.packages) or '(none)'}"


@dataclass(frozen=True, slots=True)
class Manifest:
    version: Literal[1]
    spec: ImageSpec
    lock: Lock
    components: tuple[Component, ...]
    """In the order of the build: of two builds that differ, the first difference is the cause."""
    command_line: str
    root_hash: bytes | None
    inventory: Inventory
    reference: ReferenceSet
    evident: str
    """Version of Evident that built it; its guest is part of the initrd."""
    built_at: datetime

    @property
    def degree(self) -> Strength:
        """That of the whole: the lowest of its components."""
        return min(component.strength for component in self.components)

    @property
    def from_source(self) -> tuple[str, ...]:
        """The components all of which the build makes from source."""
        return tuple(component.name for component in self.components if component.strength is Strength.REBUILT)

    def file(self, name: str) -> bytes:
        """SHA-256 of the artifact `name`. Raises `Malformed` (``manifest.component``)."""
        for component in self.components:
            if component.name == name:
                return component.sha256
        raise Malformed.of("manifest.component", expected=f"a component {name}", found="none", remedy="Build the image again.")


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What one signer found when building from a manifest."""

    version: Literal[1]
    manifest: bytes
    """SHA-256 of the manifest's payload."""
    identical: bool
    components: int
    """How many were compared."""
    first_difference: str | None
    evident: str
    rebuilt_at: datetime


@dataclass(frozen=True, slots=True)
class Difference:
    """The first component that two builds do not share."""

    expected: Component | None
    found: Component | None

    @property
    def component(self) -> str:
        return self.expected.name if self.expected else self.found.name if self.found else ""


@dataclass(frozen=True, slots=True)
class Degree:
    """How one component is known, where packages that were built from source count."""

    component: str
    strength: Strength
    by: str
    """On whose word it is of degree 4: ``you``, or rebuilders by key; empty where no package had to be built for it."""


def components(built: Built) -> tuple[Component, ...]:
    strengths = {True: Strength.REBUILT, False: Strength.RECOMPUTED}
    return tuple(
        Component(name, digest, strengths[name in built.from_source], tuple(sorted(built.made_of.get(name, ()))))
        for name, digest in built.components.items()
    )


def compare(expected: Iterable[Component], found: Iterable[Component]) -> Difference | None:
    """The first component, in the order of the build, that differs, is missing or is new; None for identical builds.

    What a manifest says of a component's degree and packages has to be the same too: it decides what rebuilt packages are worth.
    """
    wanted, got = {item.name: item for item in expected}, {item.name: item for item in found}
    for name in dict.fromkeys((*wanted, *got)):
        if wanted.get(name) != got.get(name):
            return Difference(wanted.get(name), got.get(name))
    return None


def sign(manifest: Manifest, key: SigningKey) -> bytes:
    """The manifest in its signed envelope."""
    return dsse.seal(MANIFEST_TYPE, canonical.dumps(codec.encode(manifest)), key)


def read(envelope: bytes) -> tuple[Manifest, bytes]:
    """The manifest in `envelope` and the SHA-256 of its payload, *unverified*: to build from it needs no trust."""
    kind, payload, _ = dsse.read(envelope)
    return _decode(kind, payload), hashlib.sha256(payload).digest()


def verify(envelope: bytes, trusted: Iterable[VerifyingKey]) -> tuple[Manifest, VerifyingKey]:
    """The manifest, signed by one of `trusted`. Raises `NotAuthentic` and `Malformed`."""
    opened = dsse.unseal(envelope, trusted)
    return _decode(opened.payload_type, opened.payload), opened.signer


def _decode(kind: str, payload: bytes) -> Manifest:
    if kind != MANIFEST_TYPE:
        raise Malformed.of("manifest.type", expected=MANIFEST_TYPE, found=kind, remedy="This is another document of Evident's.")
    return codec.decode(Manifest, codec.loads(payload, "manifest"), "manifest")


def endorse(manifest: bytes, expected: Manifest, found: Iterable[Component], *, at: datetime, key: SigningKey) -> tuple[Rebuild, bytes]:
    """The outcome of building from the manifest with payload digest `manifest`, and its signed form: good or bad, it is recorded."""
    difference = compare(expected.components, found)
    outcome = Rebuild(
        1, manifest, difference is None, len(expected.components), difference.component if difference else None, __version__, at
    )
    return outcome, dsse.seal(REBUILD_TYPE, canonical.dumps(codec.encode(outcome)), key)


def rebuilders(envelope: bytes, endorsements: Iterable[bytes], trusted: Iterable[VerifyingKey]) -> frozenset[str]:
    """Key ids of the distinct trusted signers who built this image: its builder, and those whose endorsement says identical.

    Raises `NotAuthentic`: an endorsement with a broken signature or for another manifest (``image.endorsement``), and a trusted signer who
    built something else (``image.rebuild-differs``). A signer who is not trusted does not count.
    """
    keys = {key.keyid: key for key in trusted}
    _, payload, _ = dsse.read(envelope)
    digest, counted = hashlib.sha256(payload).digest(), set[str]()
    if dsse.read(envelope)[2] in keys:
        counted.add(dsse.unseal(envelope, keys.values()).signer.keyid)
    for endorsement in endorsements:
        kind, _, signer = dsse.read(endorsement)
        if signer not in keys or kind == PACKAGE_TYPE:
            continue
        opened = dsse.unseal(endorsement, keys.values())
        said = codec.decode(Rebuild, codec.loads(opened.payload, "rebuild"), "rebuild") if kind == REBUILD_TYPE else None
        if said is None or said.manifest != digest:
            found = "another kind of document" if said is None else f"manifest {said.manifest.hex()}"
            raise NotAuthentic.of(
                "image.endorsement",
                expected=f"an endorsement of manifest {digest.hex()}",
                found=found,
                remedy="Pass the endorsements of this image.",
            )
        if not said.identical:
            raise NotAuthentic.of(
                "image.rebuild-differs",
                expected=f"the same image from the hands of {signer}",
                found=f"another one, first in {said.first_difference}",
                remedy="Ask both signers for their components and find the cause before you use the image.",
            )
        counted.add(signer)
    return frozenset(counted)


def degrees(stated: Manifest, built: Mapping[str, str]) -> tuple[Degree, ...]:
    """How each component is known when the packages `built` were made from source: name to on whose word (`provenance.from_source`).

    One of degree 3 is of degree 4 where every package that it is of was built; of unknown origin it never is.
    """
    return tuple(_degree(component, built) for component in stated.components)


def _degree(component: Component, built: Mapping[str, str]) -> Degree:
    if component.strength is not Strength.RECOMPUTED or not component.packages or not built.keys() >= set(component.packages):
        return Degree(component.name, component.strength, "")
    return Degree(component.name, Strength.REBUILT, "; ".join(sorted({built[name] for name in component.packages})))


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an image is worth on the word of those who built it, and its packages."""

    values: tuple[ReferenceValue, ...]
    signers: frozenset[str]
    """Key ids of those who built the image."""
    sources: Mapping[str, str]
    """Packages that were built from source, to on whose word."""


def accepted_values(envelope: bytes, word: Word) -> Accepted:
    """The manifest's reference values at the strength that its signers earn it.

    Rebuilt here (your own key among the signers): endorsed by ``you``. Rebuilt by enough trusted signers: endorsed by them, by name. Where
    every component is then of degree 4, so are the values, but of a launch: its firmware is as given. Your own value is raised by the
    packages that you built alone, for others' word is worth degree 2, and yours of the binary is worth 3.
    Raises `PolicyRefused` (``image.rebuilders``) for fewer, and as `rebuilders` and `provenance.from_source`.
    """
    signers = rebuilders(envelope, word.endorsements, word.trusted)
    if len(signers) < max(word.minimum, 1):
        raise PolicyRefused.of(
            "image.rebuilders",
            expected=f"{max(word.minimum, 1)} distinct trusted signers who built this image",
            found=", ".join(sorted(signers)) or "none",
            remedy="Have it rebuilt (evident image reproduce MANIFEST) and pass the endorsement files.",
            layer="boot_chain",
        )
    by = provenance.by(signers, word.own)
    stated, _ = read(envelope)
    sources = provenance.from_source(stated.lock, word)
    counted = {name: who for name, who in sources.items() if who == YOU or by != YOU}
    whole = min(degree.strength for degree in degrees(stated, counted))
    return Accepted(tuple(replace(_raised(value, whole), endorser=by) for value in stated.reference.values), signers, sources)


def _raised(value: ReferenceValue, whole: Strength) -> ReferenceValue:
    if whole is not Strength.REBUILT or value.register == "launch":
        return value
    how = f"{value.provenance.how}; every package built from source"
    return replace(value, strength=whole, provenance=replace(value.provenance, how=how))
