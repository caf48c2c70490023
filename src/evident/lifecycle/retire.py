"""Remove a machine of a deployment and all that was made for it, while the others go on: one that was replaced, or one that was given up.

(1) the platform removes it, and everything that it has there
(2) its keys and secrets are deleted, then its disks
(3) what is on record of it besides the journal goes, its directory among it

Killed in between, the same call carries on: a machine counts as gone only when (3) is done.
"""

from __future__ import annotations

import shutil

from evident import codec
from evident.errors import EvidentError
from evident.lifecycle import disks, keyserver, specification
from evident.lifecycle.deployment import Deployment


def remove(machine: Deployment) -> None:
    """Remove this one machine of its deployment, whose lock is held. Raises what the platform does where something does not go."""
    machine.driver().destroy(machine.machine)
    keyserver.forget_machine(machine)
    clear(machine)


def clear(machine: Deployment) -> None:
    """Its disks, and what is on record of it besides the journal; the platform has removed the machine."""
    disks.sweep(machine.home)
    specification.drop(machine)
    if machine.home != machine.directory:
        shutil.rmtree(machine.home)


def due(target: Deployment) -> tuple[Deployment, ...]:
    """The machines that were replaced, and are accepted no longer."""
    replaced, now = target.generations.replaced, target.surroundings.clock()
    return tuple(each for each in target.machines() if each.number in replaced and now >= replaced[each.number])


def finish(target: Deployment) -> None:
    """Remove what is due, and end the key server where no machine that is left needs one."""
    if not due(target):
        return
    with target.exclusive():
        for each in due(target):
            until = codec.format_time(target.generations.replaced[each.number])
            target.surroundings.progress(f"{target.name}: machine {each.number} was accepted until {until}; removing it")
            remove(each)
        if not keyserver.registered(target):
            keyserver.end(target)


def tidy(target: Deployment) -> None:
    """`finish`, for whoever came for something else: what stands in its way is told, and left for the next command."""
    try:
        finish(target)
    except EvidentError as error:
        target.surroundings.progress(f"{target.name}: what an update replaced is not removed yet: {error.findings[0]}")
