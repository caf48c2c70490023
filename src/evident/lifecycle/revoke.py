"""Revoke a deployment: no key and no identity for it from then on, and the machine that runs is told, and stopped.

In this order, so that a crash in between leaves it denied: the journal, the denial of its disks and of all that its evidence
identified it by, its key server, its names at spire-server and the agents that bore them, its keys, its machines. What spire-server or
the store of its keys does not remove now keeps nothing else from being done. What was released before cannot be taken back; the record says
when that was. Nor can what a disk opens by without the key server (`specification.Disks`): its owner is told.
"""

from __future__ import annotations

from evident.errors import EvidentError
from evident.keys.store import Revocation, VolumeStore
from evident.lifecycle import enrolment, key_place, keyserver, keystore, specification
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State


def revoke(target: Deployment, reason: str) -> tuple[str, ...]:
    """Revoke `target`; what was denied, as ``name=value``. May be repeated after a crash.

    Raises what stopping the machine does, and when all else is done what `withdraw` gives.
    """
    with target.exclusive():
        target.record(State.REVOKED, reason=reason)
        denied = deny(target, reason)
        keyserver.end(target)
        left = withdraw(target)
        for each in target.machines():
            target.driver().halt(each.machine)
    _warn(target)
    if left is not None:
        raise left
    return denied


def withdraw(target: Deployment) -> EvidentError | None:
    """Have its machines' names given to nobody any more, and its keys deleted, which may be repeated; or what kept either from that, for
    whoever has more to do before it is raised.
    """
    left = [each for each in (enrolment.remove_all(target), key_place.delete_all(target)) if each is not None]
    return left[0].followed_by(*(finding for other in left[1:] for finding in other.findings)) if left else None


def _warn(target: Deployment) -> None:
    """A machine that reopens its disk by itself is stopped, and not out of its host's reach: nobody asks this host when it starts again."""
    wanted = specification.kept(target)
    if wanted is not None and wanted.disks.reopened_by != "key-server":
        target.surroundings.progress(
            f"its disk opens by its {wanted.disks.reopened_by} wherever its host starts it again, without being asked for: "
            f"`evident down {target.name}` removes it; a copy that its host keeps is out of reach"
        )


def deny(target: Deployment, reason: str) -> tuple[str, ...]:
    """Ban the deployment's disks, and whatever its evidence identified it by; all of it, as ``name=value``. What was banned before stays
    as it was, and is not logged again. Needs nothing but the state directory: where the keys are may be out of reach.
    """
    around = target.surroundings
    log, volumes = keystore.release_log(around), VolumeStore(keystore.directory(around))
    banned = {(each.name, each.value) for each in volumes.revocations()}
    identities = dict.fromkeys(known for each in (target, *target.machines()) for known in each.identities.items())
    denied = [*(("disk", disk) for disk in volumes.disks_under(target.name)), *identities]
    for name, value in denied:
        if (name, value) not in banned:
            log.append("revoked", value if name == "disk" else "", codes=(f"{name}={value}",))
            volumes.revoke(Revocation(name, value, around.clock(), reason))
    return tuple(f"{name}={value}" for name, value in denied)
