"""What one machine has in a cloud: written down before it is asked for, found again by its tags, removed to the last piece.

The rule that makes a crash harmless at any point:

1. A resource's kind, idempotency key and tags are on disk (``asked``) before the call that creates it leaves this machine.
2. The call carries key and tags. Repeated, it makes nothing new; and what it made can be found although its answer was lost.
3. Its id is written down (``made``), then that it can be used and is listed (``ready``).
4. Removal is written down (``leaving``) before it is asked for. It goes by written ids *and* by tags, again and again until the cloud
   shows neither; then that is written down (``gone``).

Clouds are eventually consistent: for a while after its creation a resource may not be listed, even where it can be read by its id.
So "not found" is believed at once only of what had been listed when it was ``ready``; for all else it takes `SETTLE` seconds of looking.

Two machines of one deployment share nothing: each has a journal and a `TAG_ID` of its own, so that what is done for one touches nothing of
the other. Names and `TAG_GENERATION` tell people which is which.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from evident import codec
from evident.errors import EvidentError, Malformed
from evident.files import Lines
from evident.platforms.cloud import CONFLICT, TRANSIENT, Patience, conflict

SETTLE = 90.0
REMOVAL = 1800.0
"""Seconds within which everything of one kind has to be gone."""
NAME_PART = 40
"""Of a deployment's name in those of its resources: with all around it, within the 63 characters of a GCP name."""
TAG_DEPLOYMENT, TAG_GENERATION, TAG_ID, TAG_KEY = "evident-deployment", "evident-generation", "evident-id", "evident-key"
"""Lower-case letters, digits and hyphens only, names and values: what every cloud's tags and labels can hold."""


class Stage(StrEnum):
    ASKED = "asked"
    """About to be created; whether it was is not known."""
    MADE = "made"
    READY = "ready"
    LEAVING = "leaving"
    """About to be removed."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Resource:
    kind: str
    """The cloud's word: ``instance``, ``snapshot``..."""
    name: str
    key: str
    """Idempotency key, a UUID; also in the tags."""
    tags: Mapping[str, str]
    place: str
    """Account and region that it is in."""
    terms: str
    """SHA-256 of what was ordered, to notice a changed specification."""
    stage: Stage
    id: str | None = None
    """The cloud's own; None while only asked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a cloud lists."""

    id: str
    key: str | None
    """Value of its tag `TAG_KEY`."""


class Cloud(Protocol):
    """What `Stock` needs of a cloud. Calls raise the errors of `evident.platforms.cloud`."""

    removal: tuple[str, ...]
    """Every kind that a deployment can leave there, also what the cloud makes by itself, in the order in which they can be removed."""

    def place(self) -> str:
        """Account and region that the credentials act in."""
        ...

    def find(self, kind: str, tags: Mapping[str, str]) -> tuple[Found, ...]:
        """Everything of `kind` with all of `tags` that still exists."""
        ...

    def remove(self, kind: str, identifier: str) -> None:
        """Have it removed. Silent when it is gone already, or cannot go yet because something uses it."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    at: datetime
    resource: Resource


class ResourceJournal:
    """The journal at `path`: a line for every step of every resource."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self._lines = Lines(path)
        self._clock = clock

    def resources(self) -> tuple[Resource, ...]:
        """The last that is known of each, oldest first. Raises `Malformed` ``journal.damaged``."""
        known: dict[str, Resource] = {}
        for number, line in enumerate(self._lines.read(), start=1):
            try:
                resource = codec.decode(_Entry, codec.loads(line, "journal"), "journal").resource
            except Malformed as error:
                raise self._lines.damaged(number, error.findings[0].found) from None
            if (resource.stage is Stage.ASKED) == (resource.key in known):
                raise self._lines.damaged(
                    number, f"{resource.stage} of a resource {'before it was' if resource.key not in known else 'already'} asked for"
                )
            known[resource.key] = resource
        return tuple(known.values())

    def write(self, resource: Resource) -> Resource:
        """Append; on disk when it returns."""
        with self._lines.appending() as add:
            add(codec.encode(_Entry(self._clock(), resource)))
        return resource


@dataclass(frozen=True, slots=True)
class Survey:
    """The journal held against the cloud."""

    present: tuple[Resource, ...]
    """Written down and there."""
    missing: tuple[Resource, ...]
    """Written down and not listed: removed by somebody else, never made, or too new to be listed."""
    unwritten: tuple[tuple[str, str], ...]
    """Kind and id of what carries the deployment's tags without being in the journal: made by the cloud along with something else."""


class Stock:
    """What the machine `of` (deployment and number, `evident.platforms.driver.whose`) has in `cloud`."""

    def __init__(
        self, of: tuple[str, int], journal: ResourceJournal, cloud: Cloud, patience: Patience, randomness: Callable[[int], bytes]
    ) -> None:
        self._journal = journal
        self._cloud = cloud
        self._patience = patience
        self._randomness = randomness
        written = journal.resources()
        identity = written[0].tags[TAG_ID] if written else randomness(8).hex()
        self._deployment, self._generation = of
        self.tags: Mapping[str, str] = {TAG_DEPLOYMENT: self._deployment, TAG_ID: identity}
        """On everything; the second tells apart machines of one deployment, and deployments that different people gave one name."""

    def ensure(self, kind: str, terms: Any, make: Callable[[Resource], str], finish: Callable[[str], EvidentError | None]) -> str:
        """The id of the machine's one resource of `kind`, created and ready when this returns.

        `terms`: what is ordered, JSON-able. `make` creates with the resource's key and tags and returns the id. `finish` waits until
        the resource of that id can be used, and repairs what can be; it returns an error where the resource has failed for good: then it
        is removed, the error raised, and the next call makes another.
        """
        known = self._journal.resources()
        self._same_place(known)
        digest = hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()
        live = [resource for resource in known if resource.kind == kind and resource.stage is not Stage.GONE]
        if live and live[-1].terms != digest:
            raise conflict(
                f"a {kind} of this deployment that was ordered by another specification",
                "Remove the deployment and create it anew, or restore the specification.",
            )
        resource = self._still_there(live[-1]) if live else None
        if resource is None:
            resource, live = self._journal.write(self._planned(kind, digest)), []
        if resource.stage is Stage.ASKED:
            resource = self._made(resource, make, certain=not live)
        if resource.id is None:
            raise ValueError(f"{resource.stage} without an id")
        failure = finish(resource.id)
        if failure is not None:
            self._remove_all(kind, [resource])
            raise failure
        if resource.stage is Stage.MADE:
            made = resource
            self._patience.until(f"seeing {kind} listed", lambda: self._found(made), within=SETTLE)
            self._journal.write(replace(resource, stage=Stage.READY))
        return resource.id

    def _still_there(self, resource: Resource) -> Resource | None:
        """None when what had been ready was removed by somebody else, or removing it was begun; both are written down."""
        if resource.stage is Stage.LEAVING:
            self._remove_all(resource.kind, [resource])
            return None
        if resource.stage is not Stage.READY or self._found(resource) is not None:
            return resource
        self._journal.write(replace(resource, stage=Stage.GONE))
        return None

    def _planned(self, kind: str, terms: str) -> Resource:
        key = str(uuid.UUID(bytes=self._randomness(16), version=4))
        name = f"evident-{self._deployment[:NAME_PART].rstrip('-')}-{self._generation}-{key[:8]}"
        tags = {**self.tags, TAG_GENERATION: str(self._generation), TAG_KEY: key}
        return Resource(kind, name, key, tags, self._cloud.place(), terms, Stage.ASKED)

    def _made(self, resource: Resource, make: Callable[[Resource], str], *, certain: bool) -> Resource:
        """`certain`: no earlier call for it can have been made. Then a plain refusal means that there is nothing."""
        lost: list[None] = []
        identifier = None if certain else self._found(resource)
        if identifier is None:
            self._patience.progress(f"creating {resource.kind} {resource.name}")
            try:
                identifier = self._patience.insist(f"creating {resource.kind}", lambda: make(resource), failed=lambda: lost.append(None))
            except EvidentError as error:
                if error.code == CONFLICT and (not certain or lost):  # perhaps with what our own lost call has made
                    identifier = self._patience.until(f"finding {resource.kind}", lambda: self._found(resource), within=SETTLE)
                else:
                    if certain and not lost and error.code != TRANSIENT:
                        self._journal.write(replace(resource, stage=Stage.GONE))
                    raise
        return self._journal.write(replace(resource, stage=Stage.MADE, id=identifier))

    def _found(self, resource: Resource) -> str | None:
        found = self._patience.insist(f"finding {resource.kind}", lambda: self._cloud.find(resource.kind, resource.tags))
        return found[0].id if found else None

    def release(self, kind: str) -> None:
        """Remove what only the making of something else needed; silent where there is nothing of `kind`."""
        written = [resource for resource in self._journal.resources() if resource.kind == kind and resource.stage is not Stage.GONE]
        if written:
            self._remove_all(kind, written)

    def destroy(self) -> None:
        """Remove everything. May be repeated; raises ``cloud.timeout`` where something does not go."""
        known = self._journal.resources()
        if known:
            self._same_place(known)
        for kind in self._cloud.removal if known else ():
            self._remove_all(kind, [resource for resource in known if resource.kind == kind and resource.stage is not Stage.GONE])

    def _remove_all(self, kind: str, written: list[Resource]) -> None:
        for resource in written:
            self._journal.write(replace(resource, stage=Stage.LEAVING))
        start = self._patience.clock()
        unseen = {resource.key for resource in written if resource.stage is not Stage.READY}

        def swept() -> bool | None:
            found = self._cloud.find(kind, self.tags)
            unseen.difference_update(each.key for each in found if each.key)
            for identifier in sorted({each.id for each in found} | {resource.id for resource in written if resource.id}):
                self._cloud.remove(kind, identifier)
            settled = not unseen or self._patience.clock() - start >= SETTLE
            return True if not found and settled else None

        self._patience.until(f"removing {kind}", swept, within=REMOVAL)
        for resource in written:
            self._journal.write(replace(resource, stage=Stage.GONE))

    def survey(self) -> Survey:
        """What is there now, without changing anything."""
        known = self._journal.resources()
        self._same_place(known)
        live = [resource for resource in known if resource.stage is not Stage.GONE]
        found = {(kind, each.id): each.key for kind in self._cloud.removal for each in self._cloud.find(kind, self.tags)}
        keys = {(kind, key) for (kind, _), key in found.items()}
        present = tuple(resource for resource in live if (resource.kind, resource.key) in keys)
        missing = tuple(resource for resource in live if resource not in present)
        written = {(resource.kind, resource.key) for resource in live}
        unwritten = tuple(sorted(each for each, key in found.items() if (each[0], key) not in written))
        return Survey(present, missing, unwritten)

    def _same_place(self, known: tuple[Resource, ...]) -> None:
        """Elsewhere nothing would be found, and all of it be taken for gone."""
        places = {resource.place for resource in known}
        here = self._cloud.place()
        if places - {here}:
            raise conflict(
                f"a deployment in {', '.join(sorted(places))} and credentials for {here}",
                "Use the credentials and the region that it was created with.",
            )
