"""A deployment: its directory, its journal, and what its owner knows of it.

deployments/<name>/journal.jsonl      what happened
                   bundles/           one signed audit bundle per answer
                   references.json    what should have been measured of the first machine
                   policy.json        the policy it is held to
                   machine/           the platform's own
                   generation_2/      the same three of the machine that an update made; and so on

Which of the machines is in charge, the journal says (`evident.lifecycle.generations`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from evident import codec, platforms
from evident.appraisal.identities import NAMES
from evident.appraisal.policy import Policy
from evident.errors import UsageError
from evident.files import locked, read_private, write_private, write_private_bytes
from evident.lifecycle import disks, generations
from evident.lifecycle.generations import Generations
from evident.lifecycle.journal import Event, Journal, State
from evident.lifecycle.names import NAME, NAME_WORDS
from evident.platforms.driver import GENERATION, Driver, Expectation, Surroundings
from evident.platforms.order import Order
from evident.reference_values import documents
from evident.reference_values.model import ReferenceSet

OPTIONS: Final = "options.json"
"""In a machine's home: what the options of a command line said of it, where no document did."""
AT_BOOT: Final = "boot"
"""Detail ``at`` of what the key server writes of a machine that asked it for its key."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment `name` below the state directory, seen through one of its machines; neither need exist yet."""

    name: str
    directory: Path
    surroundings: Surroundings
    generation: int | None = None
    """Number of that machine; None: whichever is in charge."""

    @property
    def journal(self) -> Journal:
        return Journal(self.directory / "journal.jsonl")

    @property
    def generations(self) -> Generations:
        return generations.read(self.journal.events())

    @property
    def number(self) -> int:
        return self.generations.charge if self.generation is None else self.generation

    def at(self, number: int) -> Deployment:
        """Seen through its machine `number`."""
        return replace(self, generation=number)

    def machines(self) -> tuple[Deployment, ...]:
        """Seen through each machine of which anything is on this host, by number; perhaps more than the journal knows of."""
        later = sorted(int(path.name.removeprefix(GENERATION)) for path in self.directory.glob(f"{GENERATION}[0-9]*"))
        first = self.at(1).machine.exists() or bool(disks.made(self.directory))
        return tuple(self.at(number) for number in ((1,) * first + tuple(later)))

    @property
    def home(self) -> Path:
        """Of what is kept of the one machine."""
        number = self.number
        return self.directory if number == 1 else self.directory / f"{GENERATION}{number}"

    @property
    def machine(self) -> Path:
        return self.home / "machine"

    @property
    def bundles(self) -> Path:
        return self.directory / "bundles"

    @property
    def references(self) -> ReferenceSet:
        """What should have been measured: of this machine, and of each before it that is accepted still."""
        known, now = self.generations, self.surroundings.clock()
        accepted = {known.charge, *(number for number, until in known.replaced.items() if now < until)}
        own = self.own_references
        values = list(own.values)
        for number in sorted(number for number in accepted if number < self.number):
            values += [value for value in self.at(number).own_references.values if value not in values]
        return replace(own, values=tuple(values))

    @property
    def own_references(self) -> ReferenceSet:
        """What should have been measured of this machine alone."""
        return documents.load(read_private(self.home / "references.json"))

    @property
    def identities(self) -> Mapping[str, str]:
        """What the last accepted evidence of this machine identified it by, by name, hex; where none was accepted, what the last
        that its owner asked for did, though somebody else may have answered. Empty before there was any.
        """
        refused: Mapping[str, str] = {}
        for event in reversed(self.generations.events.get(self.number, ())):
            known = {name: value for name, value in event.detail.items() if name in NAMES}
            if known:
                if event.state is State.ATTESTED:
                    return known
                refused = refused or ({} if event.detail.get("at") == AT_BOOT else known)
        return refused

    @property
    def policy(self) -> Policy:
        return codec.decode(Policy, codec.loads(read_private(self.home / "policy.json"), "policy"), "policy")

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
    if not NAME.fullmatch(name):
        raise UsageError.of(
            "deployment.name",
            expected=NAME_WORDS,
            found=repr(name),
            remedy="Choose another name.",
        )
    return Deployment(name, surroundings.state / "deployments" / name, surroundings)


def deployments(surroundings: Surroundings) -> tuple[Deployment, ...]:
    """Every deployment with a journal, by name. One whose first line was never finished, by a crash, never began."""
    root = surroundings.state / "deployments"
    names = sorted(path.parent.name for path in root.glob("*/journal.jsonl") if _began(path))
    return tuple(deployment(name, surroundings) for name in names if NAME.fullmatch(name))


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
        expectation = chosen.launch(target.machine, order)
        write_expectation(target, expectation, policy)
        settled()
        target.record(State.LAUNCHED)


def write_expectation(target: Deployment, expectation: Expectation, policy: Policy | None) -> None:
    """What its machine is to be judged by."""
    write_private_bytes(target.home / "references.json", documents.dump(expectation.references))
    write_private(target.home / "policy.json", codec.encode(policy or expectation.policy))
