"""Revoke a deployment: no key and no identity for it from then on, and the machine that runs is told, and stopped.

In this order, so that a crash in between leaves it denied: the journal, the denial of its disks and of all that its evidence
identified it by, its key server, the machine. What was released before cannot be taken back; the record says when that was.
"""

from __future__ import annotations

from evident.keys.store import Revocation
from evident.lifecycle import keyserver, keystore
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State


def revoke(target: Deployment, reason: str) -> tuple[str, ...]:
    """Revoke `target`; what was denied, as ``name=value``. May be repeated after a crash, and raises what stopping the machine does."""
    around = target.surroundings
    with target.exclusive():
        target.record(State.REVOKED, reason=reason)
        store = keystore.open_store(around)
        denied: list[str] = []
        for disk in store.volumes.disks():
            if store.volumes.get(disk).reference_set == target.name:
                store.volumes.revoke(Revocation("disk", disk, around.clock(), reason))
                store.secrets.delete(disk)
                store.log.append("revoked", disk, codes=(f"disk={disk}",))
                denied.append(f"disk={disk}")
        for name, value in target.identities.items():
            store.volumes.revoke(Revocation(name, value, around.clock(), reason))
            store.log.append("revoked", "", codes=(f"{name}={value}",))
            denied.append(f"{name}={value}")
        keyserver.end(target)
        target.driver().halt(target.machine)
    return tuple(denied)
