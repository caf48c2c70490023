"""A deployment: its directory, its journal, and what its owner knows of it.

deployments/<name>/journal.jsonl      what happened
                   references.json    what should have been measured
                   retired.json       reference values of the image before, and until when they are accepted too
                   policy.json        the policy it is held to
                   bundles/           one signed audit bundle per answer
                   machine/           the platform's own
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from evident import codec, platforms
from evident.appraisal.policy import Policy
from evident.errors import UsageError
from evident.files import locked, read_private, write_private, write_private_bytes
from evident.lifecycle.journal import Event, Journal, State
from evident.platforms.driver import Driver, Order, Surroundings
from evident.reference_values import documents
from evident.reference_values.model import ReferenceSet

RETIRED: Final = "retired.json"
AT_BOOT: Final = "boot"
"""Detail ``at`` of what the key server writes of a machine that asked it for its key."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Retired:
    """The reference values of an image that was replaced."""

    version: Literal[1]
    until: datetime
    references: ReferenceSet


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment `name` below the state directory; it need not exist yet."""

    name: str
    directory: Path
    surroundings: Surroundings

    @property
    def journal(self) -> Journal:
        return Journal(self.directory / "journal.jsonl")

    @property
    def machine(self) -> Path:
        return self.directory / "machine"

    @property
    def bundles(self) -> Path:
        return self.directory / "bundles"

    @property
    def references(self) -> ReferenceSet:
        """What should have been measured: of the image that was ordered last, and within an update's window of the one before."""
        current, path = documents.load(read_private(self.directory / "references.json")), self.directory / RETIRED
        if not path.exists():
            return current
        retired = codec.decode(Retired, codec.loads(read_private(path), "references"), "references")
        if self.surroundings.clock() >= retired.until:
            return current
        return replace(current, values=(*current.values, *(value for value in retired.references.values if value not in current.values)))

    @property
    def identities(self) -> Mapping[str, str]:
        """What the last accepted evidence of this launch identified the machine by, by name, hex; where none was accepted, what the last
        that its owner asked for did, though somebody else may have answered. Empty before there was any.
        """
        refused: Mapping[str, str] = {}
        for event in reversed(self.journal.events()):
            if event.state in (State.PLANNED, State.UPDATING):
                break
            if "report_id" in event.detail:
                known = {"report_id": event.detail["report_id"]}
                if event.state is State.ATTESTED:
                    return known
                refused = refused or ({} if event.detail.get("at") == AT_BOOT else known)
        return refused

    @property
    def policy(self) -> Policy:
        return codec.decode(Policy, codec.loads(read_private(self.directory / "policy.json"), "policy"), "policy")

    @property
    def platform(self) -> str:
        """Name of the platform that it was last planned on."""
        for event in reversed(self.journal.events()):
            if "platform" in event.detail:
                return event.detail["platform"]
        raise UsageError.of(
            "deployment.unknown",
            expected=f"a deployment called {self.name!r}",
            found="none",
            remedy="`evident status` lists those that exist; `evident up` creates one.",
        )

    def driver(self) -> Driver:
        return driver(self.platform, self.surroundings)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other processes from creating or destroying it; `UsageError` ``state.busy`` when one is at it."""
        return locked(self.directory / "lock", wait=False)

    def record(self, state: State, **detail: str) -> None:
        """Write down, before or after the fact as the state says, what happens."""
        self.journal.append(Event(self.surroundings.clock(), state, detail))


def deployment(name: str, surroundings: Surroundings) -> Deployment:
    """The handle of `name`; `UsageError` when no deployment could be called so."""
    if not _NAME.fullmatch(name):
        raise UsageError.of(
            "deployment.name",
            expected="1 to 63 lower-case letters, digits and inner hyphens",
            found=repr(name),
            remedy="Choose another name.",
        )
    return Deployment(name, surroundings.state / "deployments" / name, surroundings)


def deployments(surroundings: Surroundings) -> tuple[Deployment, ...]:
    """Every deployment with a journal, by name. One whose first line was never finished, by a crash, never began."""
    root = surroundings.state / "deployments"
    names = sorted(path.parent.name for path in root.glob("*/journal.jsonl") if _began(path))
    return tuple(deployment(name, surroundings) for name in names if _NAME.fullmatch(name))


def _began(journal: Path) -> bool:
    """One that cannot be read is listed too: whoever opens it hears why."""
    try:
        return b"\n" in journal.read_bytes()
    except OSError:
        return True


def driver(platform: str, surroundings: Surroundings) -> Driver:
    """The driver of `platform`. Raises `UsageError` ``platform.unknown``."""
    known = platforms.names("launch")
    if platform not in known:
        raise UsageError.of("platform.unknown", expected="a platform among " + ", ".join(known), found=repr(platform), remedy="Choose one.")
    make: Callable[[Surroundings], Driver] = importlib.import_module(f"evident.platforms.{platform}.launch").driver
    return make(surroundings)


def up(
    target: Deployment, platform: str, order: Order, *, policy: Policy | None = None, settled: Callable[[], None] = lambda: None
) -> None:
    """Create the deployment. After a crash in between, the same call carries on; on another platform it begins with removing what there is
    on the one before. `settled` is called once policy and reference values are on record, before the deployment counts as launched.

    Raises what the platform refuses, and `UsageError` ``deployment.state`` when there is one of this name already.
    """
    chosen = driver(platform, target.surroundings)
    with target.exclusive():
        if target.journal.state is State.PLANNED and target.platform != platform:
            target.driver().destroy(target.machine)
        target.record(State.PLANNED, platform=platform)
        (target.directory / RETIRED).unlink(missing_ok=True)
        expectation = chosen.launch(target.machine, order)
        write_private_bytes(target.directory / "references.json", documents.dump(expectation.references))
        write_private(target.directory / "policy.json", codec.encode(policy or expectation.policy))
        settled()
        target.record(State.LAUNCHED)
