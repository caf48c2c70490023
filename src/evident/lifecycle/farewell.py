"""Destroy a deployment, with evidence: what it consisted of is gone, what it had is denied, and one signed record says so.

(1) the journal says DESTROYING, and of what it consists
(2) its key server ends, its disks and identities are banned, its names and disk keys withdrawn, as `revoke` does it
(3) the platform removes everything; a cloud is asked until it lists nothing of it any more (`Stock.destroy`); the disks made for it go
(4) the final record (`evident.audit.farewell`) is written, as ``farewell-N.json`` for the N-th life of this name
(5) the journal says DESTROYED, and by which record

Killed anywhere in between, the same call carries on; so it does where spire-server or the store of the keys did not answer: all but (4) and
(5) was done then, and raised is what is left. A record that was written is kept as it is: there is never a second one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from evident.audit import bundle, farewell, keys
from evident.audit.build import THIS_TOOL
from evident.audit.farewell import Farewell, Head, LastAnswer
from evident.audit.keys import SigningKey
from evident.errors import EvidentError
from evident.files import read_private
from evident.lifecycle import disks, keyserver, keystore, retire, specification
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import Event, State
from evident.lifecycle.revoke import deny, withdraw
from evident.platforms import cloud_driver
from evident.platforms.resources import ResourceJournal, Stage

REASON: Final = "the deployment was destroyed"


def down(target: Deployment) -> Path | None:
    """Destroy `target`; where its final record is. None when that was done before. Its journal and bundles stay.

    Raises what the platform does where something does not go, what `withdraw` gives, and `UsageError` ``deployment.unknown``.
    """
    target.driver()  # raises where there is no such deployment
    with target.exclusive():
        if target.journal.state is State.DESTROYED:
            return None
        machines = target.machines()
        listed = any((each.machine / cloud_driver.JOURNAL).exists() for each in machines)
        target.record(State.DESTROYING, consists="; ".join(_parts(target)), listed="yes" if listed else "no")
        keyserver.end(target)
        denied = deny(target, REASON)
        left = withdraw(target)
        for each in machines:
            each.driver().destroy(each.machine)
            retire.clear(each)
        disks.sweep(target.directory)
        specification.drop(target.at(1))
        if left is not None:
            raise left
        path = _recorded(target, denied)
        target.record(State.DESTROYED, record=path.name)
        return path


def _parts(target: Deployment) -> tuple[str, ...]:
    """What it consists of, in words: processes of this host, and what a cloud was asked for and is not known to be gone."""
    machines = tuple(each for each in target.machines() if each.machine.exists())
    return ("the machine's files",) * bool(machines) + tuple(part for each in machines for part in _parts_of(each))


def _parts_of(machine: Deployment) -> tuple[str, ...]:
    resources = ResourceJournal(machine.machine / cloud_driver.JOURNAL, machine.surroundings.clock).resources()
    return (
        *(f"process {role}" for role in machine.driver().parts(machine.machine)),
        *(f"{each.kind} {each.id or each.name}" for each in resources if each.stage is not Stage.GONE),
    )


def life(target: Deployment) -> tuple[int, tuple[Event, ...]]:
    """Which of its lives a deployment is in, from 1, and what happened in it so far."""
    number = 1
    events: list[Event] = []
    for event in target.journal.events():
        if event.state is State.PLANNED and events and events[-1].state is State.DESTROYED:
            number, events = number + 1, []
        events.append(event)
    return number, tuple(events)


def _recorded(target: Deployment, denied: tuple[str, ...]) -> Path:
    """The final record of this life, signed and on disk; the one that is there already, where it is ours."""
    around = target.surroundings
    number, events = life(target)
    path, key = target.directory / f"farewell-{number}.json", keys.load_or_create(around.state, around.randomness)
    if not _stands(path, key, (target.name, number)):
        bundle.write(path, farewell.seal(_farewell(target, number, events, denied), key))
    return path


def _stands(path: Path, key: SigningKey, of: tuple[str, int]) -> bool:
    try:
        said = farewell.open_farewell(path.read_bytes(), [key.public]).farewell
    except (OSError, EvidentError):
        return False
    return (said.deployment, said.life) == of


def _farewell(target: Deployment, number: int, events: tuple[Event, ...], denied: tuple[str, ...]) -> Farewell:
    destroying = next(event for event in events if event.state is State.DESTROYING)
    last, log, notes = None, None, []
    try:
        last = _last(target, events)
    except EvidentError as error:
        notes.append(f"last answer: {error.findings[0]}")
    try:
        log = Head(*keystore.release_log(target.surroundings).head())
    except EvidentError as error:
        notes.append(f"release log: {error.findings[0]}")
    return Farewell(
        tool=THIS_TOOL,
        deployment=target.name,
        life=number,
        platform=target.platform,
        planned=events[0].at,
        began=destroying.at,
        at=target.surroundings.clock(),
        destroyed=tuple(filter(None, destroying.detail.get("consists", "").split("; "))),
        surveyed=destroying.detail.get("listed") == "yes",
        denied=denied,
        last=last,
        release_log=log,
        journal=Head(len(target.journal.events()), hashlib.sha256(read_private(target.journal.path)).digest()),
        notes=tuple(notes),
    )


def _last(target: Deployment, events: tuple[Event, ...]) -> LastAnswer | None:
    answer = next((event for event in reversed(events) if "bundle" in event.detail), None)
    if answer is None:
        return None
    said = answer.detail
    return LastAnswer(
        at=answer.at,
        decision=said["decision"],
        code=said["code"],
        nominal=int(said.get("nominal", 0)),
        trustworthy=int(said.get("trustworthy", 0)),
        simulated=said.get("simulated") == "yes",
        bundle=said["bundle"],
        sha256=hashlib.sha256(read_private(target.bundles / said["bundle"])).digest(),
    )
