"""The signed manifest of an image: specification, lock, every component's digest, inventory, and what a boot of it will measure.

A manifest says all that is needed to build the image again; `reproduce` does so. Its reference values are RECOMPUTED (degree 3), not
REBUILT: the image is made anew, but from the distribution's binaries and a firmware as given, and nobody compiled those; each component
says for itself which of the two it is (docs/decisions/010-degree.md). They count as your own only for whoever built the image again; others
take the word of those who did (`accepted_values`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from evident import __version__, codec
from evident.audit import canonical, dsse
from evident.errors import Malformed, NotAuthentic, PolicyRefused
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

    component: str
    expected: bytes | None
    found: bytes | None


def components(built: Built) -> tuple[Component, ...]:
    strengths = {True: Strength.REBUILT, False: Strength.RECOMPUTED}
    return tuple(Component(name, digest, strengths[name in built.from_source]) for name, digest in built.components.items())


def compare(expected: Iterable[Component], found: Iterable[Component]) -> Difference | None:
    """The first component, in the order of the build, that differs, is missing or is new; None for identical builds."""
    wanted, got = {item.name: item.sha256 for item in expected}, {item.name: item.sha256 for item in found}
    for name in dict.fromkeys((*wanted, *got)):
        if wanted.get(name) != got.get(name):
            return Difference(name, wanted.get(name), got.get(name))
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
        if signer not in keys:
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


def accepted_values(
    envelope: bytes, endorsements: Iterable[bytes], trusted: Iterable[VerifyingKey], *, own: VerifyingKey | None = None, minimum: int = 1
) -> tuple[ReferenceValue, ...]:
    """The manifest's reference values at the strength that its signers earn it; `minimum` is the policy's ``minimum_rebuilders``.

    Rebuilt here (`own` among the signers): endorsed by ``you``. Rebuilt by `minimum` distinct trusted signers: endorsed by them, by name.
    Raises `PolicyRefused` (``image.rebuilders``) for fewer.
    """
    signers = rebuilders(envelope, endorsements, trusted)
    if len(signers) < max(minimum, 1):
        raise PolicyRefused.of(
            "image.rebuilders",
            expected=f"{max(minimum, 1)} distinct trusted signers who built this image",
            found=", ".join(sorted(signers)) or "none",
            remedy="Have it rebuilt (evident image reproduce MANIFEST) and pass the endorsement files.",
            layer="boot_chain",
        )
    mine = own is not None and own.keyid in signers
    by = "you" if mine else "rebuilders " + ", ".join(sorted(keyid[:16] for keyid in signers))
    return tuple(replace(value, endorser=by) for value in read(envelope)[0].reference.values)
