"""From nothing to a machine that runs its workload: launch, key server, boot.

    up(target, "qemu", order, release=Release(DiskKey(...), cache))

1. the deployment is created (`deployment.up`), and the disk's key registered under its terms, where there is a disk to open; with it the
   machine's names at spire-server, where it asks by those
2. its key server is started
3. the guest boots; each step is told of, and what ends it early is raised; a refusal is answered first (`refusal`)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evident import codec, processes
from evident.appraisal.policy import Policy
from evident.errors import EvidentError, PolicyRefused, UsageError
from evident.files import write_private
from evident.identity import spire_cli
from evident.lifecycle import deployment, disks, enrolment, keyserver, quarantine, refusal, specification
from evident.lifecycle.deployment import OPTIONS, Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.specification import Specification
from evident.platforms import registry
from evident.platforms.order import Order


@dataclass(frozen=True, slots=True)
class Release:
    """A disk that opens after attestation."""

    disk: DiskKey
    cache: Path
    """Of endorsements, for the key server."""
    listen: int | None = None
    """TCP port of this host where a machine in a cloud reaches the key server; None: the machine runs on this host."""


def up(
    target: Deployment,
    platform: str,
    order: Order,
    *,
    policy: Policy | None = None,
    release: Release | None = None,
    document: Specification | None = None,
) -> None:
    """Create `target`, by its owner's `document` where there is one, and wait until it has booted.

    Raises what the platform refuses, and what ended the boot.
    """
    deployment.up(target, platform, order, policy=policy, settled=lambda: settled(target, order, release, document))
    _boot(target, release)


def resume(target: Deployment, cache: Path, listen: int | None) -> None:
    """Carry on where a boot was not seen to its end, or key server or machine ended: they are started again, and the machine waited for.
    Its names at spire-server are what they were.

    Raises `PolicyRefused` ``keys.quarantined``, `UsageError` ``deployment.state`` where no machine is to run, and what ended the boot.
    """
    quarantine.check(target)
    state = target.journal.state
    if state not in (State.LAUNCHED, State.ATTESTED, State.UNDECIDED, State.KEPT):
        raise UsageError.of(
            "deployment.state",
            expected="a deployment that runs, or none of this name",
            found=f"{target.name!r}, {state}",
            remedy=f"Finish what was begun: `evident status {target.name}` shows it; `evident down {target.name}` removes what there is.",
        )
    missing = _served_again(target, cache, listen) if keyserver.registered(target) else None
    with target.exclusive():
        target.driver().start(target.machine)
    if missing is None:
        _settle(target)
        return
    try:
        target.driver().settle(target.machine)
    except PolicyRefused:
        raise missing from None  # the machine asked for what nobody could give it


def _served_again(target: Deployment, cache: Path, listen: int | None) -> EvidentError | None:
    """Have its key server run, and the machine known at spire-server. Where that cannot be (its wrapping key is elsewhere, or spire-server
    out of reach), a machine that reopens its disk by itself may do without: then the error is given back, and raised for any other.
    """
    wanted = specification.kept(target)
    try:
        with target.exclusive():
            enrolment.restore(target)
        serve(target, cache, listen)
    except EvidentError as error:
        if error.code not in (keyserver.UNSTARTED, spire_cli.OUT_OF_REACH) or wanted is None or wanted.disks.reopened_by == "key-server":
            raise
        without = "its key server, which does not start" if error.code == keyserver.UNSTARTED else "spire-server, which does not answer"
        target.surroundings.progress(f"without {without}; the disk has to open by its {wanted.disks.reopened_by}")
        return error
    return None


def settled(target: Deployment, order: Order, release: Release | None, document: Specification | None) -> None:
    """Key and document (or options) are on record before the deployment counts as launched: a crash before that makes another disk, with
    another key. What is made without a document is not by that of a launch before, which a crash cut short.
    """
    if document is not None:
        specification.keep(target, document)
        (target.home / OPTIONS).unlink(missing_ok=True)
        write_private(target.home / "policy.json", codec.encode(document.held_to(target.policy)))
    else:
        specification.drop(target)
        write_private(target.home / OPTIONS, dict(order.said))
    if release is not None:
        keyserver.register(target, release.disk)
    disks.sweep(target.home, order.disks)


def _boot(target: Deployment, release: Release | None) -> None:
    if release is not None:
        serve(target, release.cache, release.listen)
    _settle(target)


def listening(wanted: Specification | None, platform: str) -> int | None:
    """TCP port of this host at which a machine by the document `wanted` looks for the key server; None: the machine runs on this host."""
    there = wanted.key_server if wanted is not None and registry.OUTLINES[platform].cloud else None
    return specification.address(there)[1] if there else None


def serve(target: Deployment, cache: Path, listen: int | None) -> None:
    """Have its key server run: one, whoever else carries on with the same deployment."""
    with target.exclusive():
        if not any(process.alive for process in processes.recorded(target.directory)):
            keyserver.begin(target, cache, listen)


def _settle(target: Deployment) -> None:
    """Wait for the end of the boot. One that ends in a refusal is answered like any other, and raised."""
    try:
        target.driver().settle(target.machine)
    except PolicyRefused as error:
        refusal.answer(target, error)
        raise
