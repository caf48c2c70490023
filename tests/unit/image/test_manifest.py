"""Who built an image, how many of them, and what their word is worth."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.audit import keys
from evident.errors import Malformed, NotAuthentic, PolicyRefused
from evident.image import inventory, manifest
from evident.image.manifest import Component, Difference, Manifest
from evident.image.provenance import Word
from evident.image.spec import ImageSpec, Unit
from evident.image.stated import Lock
from evident.image.tree import Tree
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength

AT = datetime(2026, 11, 22, tzinfo=UTC)


def a_key(number: int) -> keys.SigningKey:
    return keys.generate(lambda size: number.to_bytes(size))


BUILDER, ALICE, BOB, STRANGER = (a_key(number) for number in (11, 12, 13, 14))
VALUE = ReferenceValue(("boot_chain",), "pcr11", bytes(32), Strength.RECOMPUTED, "you", "PCR 11", Provenance("build", "rebuilt"))
SPEC = ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),))
COMPONENTS = (Component("kernel", b"k" * 32), Component("initrd /usr", b"u" * 32), Component("initrd.img", b"i" * 32))
MANIFEST = Manifest(
    1,
    SPEC,
    Lock(1, "trixie", "amd64"),
    COMPONENTS,
    "ro",
    None,
    inventory.take(SPEC, Tree(), Tree(), parts={}, modules_offered=0, python_modules=0),
    ReferenceSet(1, (VALUE,), "image shop"),
    "0",
    AT,
)
ENVELOPE = manifest.sign(MANIFEST, BUILDER)
DIGEST = manifest.read(ENVELOPE)[1]


def rebuild(key: keys.SigningKey, found: tuple[Component, ...] = COMPONENTS, digest: bytes = DIGEST) -> bytes:
    return manifest.endorse(digest, MANIFEST, found, at=AT, key=key)[1]


def publics(*signers: keys.SigningKey) -> tuple[keys.VerifyingKey, ...]:
    return tuple(key.public for key in signers)


def test_a_manifest_round_trips_and_a_changed_byte_is_noticed() -> None:
    assert manifest.verify(ENVELOPE, publics(BUILDER)) == (MANIFEST, BUILDER.public)
    with pytest.raises(NotAuthentic, match=r"bundle\.signer-untrusted"):
        manifest.verify(ENVELOPE, publics(ALICE))
    with pytest.raises(Malformed, match=r"manifest\.type"):
        manifest.read(rebuild(ALICE))
    assert MANIFEST.file("initrd.img") == b"i" * 32
    with pytest.raises(Malformed, match=r"manifest\.component"):
        MANIFEST.file("nothing")


@pytest.mark.attack("AL-21", "One file of the initrd is another; everything that holds it differs too.", "the first differing component")
def test_the_first_difference_is_the_cause() -> None:
    other = (COMPONENTS[0], Component("initrd /usr", b"U" * 32), Component("initrd.img", b"I" * 32))
    assert manifest.compare(COMPONENTS, COMPONENTS) is None
    assert manifest.compare(COMPONENTS, other) == Difference(COMPONENTS[1], other[1])
    assert manifest.compare(COMPONENTS, COMPONENTS[:2]) == Difference(COMPONENTS[2], None)
    assert manifest.compare(COMPONENTS[:2], COMPONENTS) == Difference(None, COMPONENTS[2])
    outcome, _ = manifest.endorse(DIGEST, MANIFEST, other, at=AT, key=ALICE)
    assert (outcome.identical, outcome.first_difference) == (False, "initrd /usr")


@pytest.mark.parametrize("claim", [{"strength": Strength.REBUILT}, {"packages": ("netbase",)}])
def test_a_builder_who_claims_more_than_the_build_gives_is_found_out(claim: dict[str, Any]) -> None:
    """Same bytes, but called made from source, or of fewer packages than they are of."""
    claimed = (COMPONENTS[0], replace(COMPONENTS[1], **claim), COMPONENTS[2])
    assert [part.sha256 for part in claimed] == [part.sha256 for part in COMPONENTS]
    difference = manifest.compare(claimed, COMPONENTS)
    assert difference == Difference(claimed[1], COMPONENTS[1])
    assert str(difference.expected) != str(difference.found)


def test_distinct_trusted_signers_count_once_each() -> None:
    endorsements = [rebuild(ALICE), rebuild(ALICE), rebuild(BOB), rebuild(STRANGER), rebuild(BUILDER)]
    trusted = publics(BUILDER, ALICE, BOB)
    assert manifest.rebuilders(ENVELOPE, endorsements, trusted) == {key.public.keyid for key in (BUILDER, ALICE, BOB)}
    assert manifest.rebuilders(ENVELOPE, endorsements, publics(ALICE)) == {ALICE.public.keyid}


def test_a_rule_of_n_signers() -> None:
    trusted = publics(BUILDER, ALICE, BOB)
    with pytest.raises(PolicyRefused, match=r"image\.rebuilders"):
        manifest.accepted_values(ENVELOPE, Word((rebuild(ALICE), rebuild(ALICE), rebuild(STRANGER)), trusted, minimum=3))
    (value,) = manifest.accepted_values(ENVELOPE, Word((rebuild(ALICE), rebuild(BOB)), trusted, minimum=3)).values
    assert value.strength == Strength.RECOMPUTED
    assert value.endorser.startswith("rebuilders ")
    assert value.endorser.count(",") == 2
    (mine,) = manifest.accepted_values(ENVELOPE, Word((rebuild(ALICE),), trusted, own=ALICE.public)).values
    assert mine.endorser == "you"
    with pytest.raises(PolicyRefused, match=r"image\.rebuilders"):
        manifest.accepted_values(ENVELOPE, Word((), publics(ALICE), minimum=0))


def test_a_trusted_signer_who_built_something_else_stops_everything() -> None:
    differs = rebuild(BOB, COMPONENTS[:1])
    with pytest.raises(NotAuthentic, match=r"image\.rebuild-differs.*initrd /usr"):
        manifest.rebuilders(ENVELOPE, [rebuild(ALICE), differs], publics(ALICE, BOB))
    assert manifest.rebuilders(ENVELOPE, [rebuild(ALICE), differs], publics(ALICE)) == {ALICE.public.keyid}


def test_endorsements_of_another_image_are_refused() -> None:
    other = manifest.sign(replace(MANIFEST, command_line="rw"), BUILDER)
    with pytest.raises(NotAuthentic, match=r"image\.endorsement"):
        manifest.rebuilders(other, [rebuild(ALICE)], publics(ALICE))
    with pytest.raises(NotAuthentic, match=r"image\.endorsement"):
        manifest.rebuilders(ENVELOPE, [manifest.sign(MANIFEST, ALICE)], publics(ALICE))


def test_a_forged_endorsement_is_refused() -> None:
    forged = rebuild(STRANGER).replace(STRANGER.public.keyid.encode(), ALICE.public.keyid.encode())
    with pytest.raises(NotAuthentic, match=r"bundle\.signature"):
        manifest.rebuilders(ENVELOPE, [forged], publics(ALICE))
