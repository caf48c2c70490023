"""Whose builds of which packages raise which components, and whose do not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from evident.audit import canonical, dsse, keys
from evident.errors import Malformed, NotAuthentic
from evident.image import inventory, lock, manifest, provenance, rebuild
from evident.image.manifest import Component, Manifest
from evident.image.provenance import Word
from evident.image.rebuild import Origin, Tried
from evident.image.spec import ImageSpec, Unit
from evident.image.stated import Lock, LockedPackage
from evident.image.tree import Tree
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength

AT = datetime(2026, 11, 22, tzinfo=UTC)


def a_key(number: int) -> keys.SigningKey:
    return keys.generate(lambda size: number.to_bytes(size))


def a_package(name: str) -> LockedPackage:
    return LockedPackage(name, "1-2", f"debian/pool/main/{name}_1-2_amd64.deb", 9, hashlib.sha256(name.encode()).digest(), ("root",))


BUILDER, ALICE, BOB, STRANGER = (a_key(number) for number in (11, 12, 13, 14))
TRUSTED = tuple(key.public for key in (BUILDER, ALICE, BOB))
ONE, TWO = a_package("one"), a_package("two")
LOCK = Lock(1, "trixie", "amd64", (ONE, TWO))
"""What is locked here also stands for the environment of the build."""


def outcome(key: keys.SigningKey, package: LockedPackage, made: bytes | None = None) -> bytes:
    origin = Origin("source", "1-2", "any")
    tried = Tried(package, origin, b"d" * 32, LOCK, made or package.name.encode(), "data.tar ./x: content" if made else None)
    return rebuild.sign(tried, at=AT, key=key)


def counted(*outcomes: bytes, locked: Lock = LOCK, **word: Any) -> dict[str, str]:
    return dict(provenance.from_source(locked, Word(outcomes, **{"trusted": TRUSTED, **word})))


def test_an_outcome_says_what_was_built_from_what() -> None:
    said = provenance.read(outcome(ALICE, ONE))
    assert (said.package, said.package_version, said.sha256, said.built) == ("one", "1-2", ONE.sha256, ONE.sha256)
    assert (said.source, said.source_version, said.description, said.equal) == ("source", "1-2", b"d" * 32, True)
    with pytest.raises(Malformed, match=r"rebuild\.type"):
        provenance.read(dsse.seal("application/json", canonical.dumps({}), ALICE))


def test_equal_builds_of_trusted_signers_count() -> None:
    assert counted(outcome(ALICE, ONE)) == {"one": f"rebuilders {ALICE.public.keyid[:16]}"}
    assert counted(outcome(ALICE, ONE), outcome(BOB, TWO), own=ALICE.public) == {
        "one": "you",
        "two": f"rebuilders {BOB.public.keyid[:16]}",
    }


def test_it_takes_as_many_signers_as_the_policy_says() -> None:
    twice = (outcome(ALICE, ONE), outcome(ALICE, ONE))
    assert counted(*twice) != {}
    assert counted(*twice, minimum=2) == {}
    assert counted(*twice, outcome(BOB, ONE), minimum=2).keys() == {"one"}


def test_a_build_that_differs_does_not_count_and_takes_nothing_away() -> None:
    differs = outcome(BOB, ONE, made=b"another")
    assert counted(differs) == {}
    assert counted(outcome(ALICE, ONE), differs).keys() == {"one"}


def test_a_stranger_does_not_count() -> None:
    assert counted(outcome(STRANGER, ONE)) == {}
    assert counted(outcome(STRANGER, ONE), trusted=(STRANGER.public,)).keys() == {"one"}


@pytest.mark.parametrize("change", [{"version": "1-3"}, {"sha256": hashlib.sha256(b"1").digest()}, {"name": "other"}])
def test_another_version_does_not_count(change: dict[str, Any]) -> None:
    """Only what this lock names: the same outcome counts for the lock that has it."""
    other = replace(ONE, **change)
    made = b"1" if "sha256" in change else b"one"
    assert counted(outcome(ALICE, other, made)) == {}
    assert counted(outcome(ALICE, other, made), locked=replace(LOCK, packages=(other,))).keys() == {other.name}


def test_a_forged_outcome_is_refused() -> None:
    forged = outcome(STRANGER, ONE).replace(STRANGER.public.keyid.encode(), ALICE.public.keyid.encode())
    assert provenance.read(forged).equal  # unsigned, it would count
    with pytest.raises(NotAuthentic, match=r"bundle\.signature"):
        counted(forged)


def test_another_document_of_the_same_signer_does_not_count() -> None:
    payload = dsse.read(outcome(ALICE, ONE))[1]
    assert counted(dsse.seal(provenance.PACKAGE_TYPE, payload, ALICE)).keys() == {"one"}
    assert counted(dsse.seal(manifest.REBUILD_TYPE, payload, ALICE)) == {}


SPEC = ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),))
COMPONENTS = (
    Component("spec", b"s" * 32, Strength.REBUILT),
    Component("root /etc", b"e" * 32, Strength.RECOMPUTED, ("one",)),
    Component("root.erofs", b"r" * 32, Strength.RECOMPUTED, ("one", "two")),
)
VALUES = tuple(
    ReferenceValue(("boot_chain",), register, bytes(32), Strength.RECOMPUTED, "you", register, Provenance("build", "rebuilt"))
    for register in ("pcr11", "launch")
)
MANIFEST = Manifest(
    1,
    SPEC,
    LOCK,
    COMPONENTS,
    "ro",
    None,
    inventory.take(SPEC, Tree(), Tree(), parts={}, modules_offered=0, python_modules=0),
    ReferenceSet(1, VALUES, "image shop"),
    "0",
    AT,
)
ENVELOPE = manifest.sign(MANIFEST, BUILDER)


def degrees(built: dict[str, str], stated: Manifest = MANIFEST) -> list[tuple[int, str]]:
    return [(degree.strength, degree.by) for degree in manifest.degrees(stated, built)]


def test_a_component_is_raised_where_every_package_in_it_was_built() -> None:
    assert degrees({}) == [(4, ""), (3, ""), (3, "")]
    assert degrees({"one": "you"}) == [(4, ""), (4, "you"), (3, "")]
    assert degrees({"two": "you"}) == [(4, ""), (3, ""), (3, "")]
    assert degrees({"one": "you", "two": "rebuilders b"}) == [(4, ""), (4, "you"), (4, "rebuilders b; you")]


def test_a_component_of_unknown_origin_is_never_raised() -> None:
    unknown = replace(MANIFEST, components=(replace(COMPONENTS[1], packages=()),))
    assert degrees({"one": "you", "two": "you"}, unknown) == [(3, "")]


def accepted(*outcomes: bytes, own: keys.SigningKey | None = None) -> dict[str, tuple[int, str]]:
    values = manifest.accepted_values(ENVELOPE, Word(outcomes, TRUSTED, own.public if own else None)).values
    return {value.register: (value.strength, value.endorser) for value in values}


def test_the_values_are_raised_with_the_last_component_and_a_launch_never() -> None:
    """Your own by what you built yourself: on others' word they would be worth less than they are."""
    mine = (outcome(BUILDER, ONE), outcome(BUILDER, TWO))
    assert accepted(*mine, own=BUILDER) == {"pcr11": (4, "you"), "launch": (3, "you")}
    assert accepted(*mine[:1], own=BUILDER) == {"pcr11": (3, "you"), "launch": (3, "you")}
    assert accepted(mine[0], outcome(ALICE, TWO), own=BUILDER) == {"pcr11": (3, "you"), "launch": (3, "you")}
    others = f"rebuilders {BUILDER.public.keyid[:16]}"
    assert accepted(mine[0], outcome(ALICE, TWO)) == {"pcr11": (4, others), "launch": (3, others)}


def test_the_environment_is_in_the_outcome_by_digest() -> None:
    assert provenance.read(outcome(ALICE, ONE)).environment == hashlib.sha256(lock.dump(LOCK)).digest()
