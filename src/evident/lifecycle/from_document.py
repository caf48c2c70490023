"""From a deployment document to a machine, and to another one in its place.

    up(target, specification, Builders((key,), cache, build))

The image must be the one that the document names by its digest, and signed by somebody trusted. On this host its kernel is handed over; in
a cloud, or where the document says so, it boots from its own disk, with the deployment's parameters on the command line that is measured
there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from evident.audit.keys import VerifyingKey
from evident.files import read_private
from evident.lifecycle import again, bring_up, from_image, images, proving, secret_files, specification, succession
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.images import Build
from evident.lifecycle.place import order
from evident.lifecycle.plan import Option, plan
from evident.lifecycle.specification import Specification
from evident.platforms import registry
from evident.platforms.driver import KEY_SERVER
from evident.platforms.order import Order
from evident.reference_values import documents
from evident.reference_values.model import ReferenceSet, ReferenceValue


@dataclass(frozen=True, slots=True)
class Builders:
    """What a preparation depends on beside the document."""

    trusted: tuple[VerifyingKey, ...]
    """Who may have signed the image."""
    cache: Path
    """Of endorsements, for the key server."""
    build: Build
    """What builds an image that is not there."""


def up(target: Deployment, wanted: Specification, builders: Builders, *, platform: str | None = None) -> None:
    """Create `target`, or carry on with creating it; `platform` takes the place of the document's own. Done again, it finds all done.

    An update that did not end is carried on with by its own document, and given up by that of the machine before it.
    Raises `PolicyRefused` with all that the plan finds unmet, or ``keys.quarantined`` where it exists and was refused, `UsageError`
    ``deployment.changed`` where it exists by another document, and as `bring_up.up`.
    """
    there, coming = again.there(target), target.generations.coming
    if coming is not None and specification.kept(target.at(coming.number)) == wanted:
        update(target, wanted, builders, window=coming.window)
        return
    if there:
        same = specification.kept(target) == wanted
        again.carry_on(target, builders.cache, made_by=f"the document that {target.name!r} was made from", same=same)
        return
    chosen = _planned(target, wanted, builders, platform)
    ordered, release = _prepared(target, wanted, chosen, builders)
    bring_up.up(target, chosen.platform, ordered, policy=wanted.policy, release=release, document=wanted)


def update(target: Deployment, wanted: Specification, builders: Builders, *, window: timedelta) -> None:
    """Put a machine of `wanted` in the place of the one that runs, where that is. Raises as `up`, and `succession.update`."""
    chosen = _planned(target, wanted, builders, target.platform)
    ordered, release = _prepared(succession.successor(target), wanted, chosen, builders)
    prove = functools.partial(proving.prove, cache=builders.cache)
    succession.update(target, ordered, window=window, policy=wanted.policy, release=release, document=wanted, prove=prove)


def _planned(target: Deployment, wanted: Specification, builders: Builders, platform: str | None) -> Option:
    """Where it goes; its image is there now. Built or not, an image that is not what the document says is among what is unmet."""
    at, around = target.surroundings.clock().date(), target.surroundings
    made = plan(wanted, at=at, platform=platform, spire=around.spire)
    made.check()
    if not images.there(wanted.image):
        around.progress(f"no image in {wanted.image.path} yet: building it from {wanted.image.spec}")
        images.make(wanted.image, builders.build)
        made = plan(wanted, at=at, platform=platform, spire=around.spire)
        made.check()
    around.progress(f"{made.name} on {made.chosen.platform}: {made.because}")
    return made.chosen


def _prepared(target: Deployment, wanted: Specification, chosen: Option, builders: Builders) -> tuple[Order, Release | None]:
    cloud = registry.OUTLINES[chosen.platform].cloud
    machine = order(wanted, chosen.platform, chosen.technology)
    prepared = from_image.ordered(
        target,
        chosen.platform,
        Path(wanted.image.path),
        trusted=builders.trusted,
        machine=replace(machine, disks=machine.disks[1:]),  # the first is the image's, and every machine gets its own
        boot="uki" if cloud or machine.where.get("boot") == "uki" else "direct",
        verifier=(wanted.key_server or "") if cloud else KEY_SERVER,
        sha256=wanted.image.sha256,
        secrets=secret_files.read(wanted.secrets),
        attest_first=wanted.attest_first,
        reopened_by=wanted.disks.reopened_by,
    )
    made = replace(prepared.order, references=_references(prepared.order.references, wanted))
    return made, Release(prepared.key, builders.cache, bring_up.listening(wanted, chosen.platform)) if prepared.key else None


def _references(own: ReferenceSet | None, wanted: Specification) -> ReferenceSet:
    given: tuple[ReferenceValue, ...] = tuple(
        value for path in wanted.references for value in documents.load(read_private(Path(path))).values
    )
    return ReferenceSet(1, (*(own.values if own else ()), *given), own.name if own else f"reference values of {wanted.name}")
