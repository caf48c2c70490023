"""One driver for every cloud: its folder answers a few calls (`CloudPlatform`), all the rest is here.

In the machine's directory:

    resources.jsonl   what was asked for in the cloud, written first (`evident.platforms.resources`)
    where.json        the settings it was asked for with, and the machine's id once it runs

Which account, region and type are the cloud's own words: `Order.where`. Credentials are the SDK's to find, and are never kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from evident import codec
from evident.appraisal.policy import Policy, RequiredLevels
from evident.errors import Indeterminate, Unsupported, UsageError
from evident.files import read_private, write_private
from evident.platforms import agent
from evident.platforms.cloud import Patience
from evident.platforms.driver import Believed, Collected, Expectation, Surroundings, whose
from evident.platforms.opening import Opening
from evident.platforms.order import AGENT_PORT, Order
from evident.platforms.resources import Cloud, ResourceJournal, Stock, Survey
from evident.reference_values.model import ReferenceSet, level
from evident.verification.credential import NamedKey

JOURNAL: Final = "resources.jsonl"
WHERE: Final = "where.json"
BOOT_SECONDS: Final = 900.0


class CloudPlatform(Cloud, Protocol):
    """What `CloudDriver` needs of a cloud. Calls raise the errors of `evident.platforms.cloud`."""

    def launch(self, stock: Stock, order: Order) -> str:
        """Make everything that is ordered; the id of the machine, running confidentially. Repeated after a crash, it carries on."""
        ...

    def address(self, machine: str) -> str:
        """IP address at which the machine is reached."""
        ...

    def stop(self, machine: str) -> None:
        """Halt it, and return when it is; its disk stays. Silent where it has stopped already."""
        ...

    def start(self, machine: str) -> None:
        """Start what was stopped, and return when it runs. Silent where it does."""
        ...


Connect = Callable[[Mapping[str, str], Patience], CloudPlatform]
"""From `Order.where` to the cloud, with the credentials that its SDK finds."""
Named = Callable[[Mapping[str, str], Patience, str], NamedKey]
"""From `Order.where` and a machine's id to the endorsement key of its TPM, where the cloud says which that is."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """``where.json``."""

    version: Literal[1]
    where: Mapping[str, str]
    technology: Literal["snp", "tdx"]
    openings: tuple[Opening, ...]
    order: bytes
    """SHA-256 of all that was ordered."""
    machine: str | None = None
    """The cloud's id of it, once it runs."""


class CloudDriver:
    """The driver of the cloud called `platform`; see `evident.platforms.driver.Driver`."""

    def __init__(self, surroundings: Surroundings, platform: str, connect: Connect, named: Named | None = None) -> None:
        self._surroundings = surroundings
        self._platform = platform
        self._connect = connect
        self._named = named
        self._patience = Patience.real(surroundings.progress)

    def profile(self, machine: Path) -> str:
        return f"{self._platform}-{_read(machine).technology}"

    def parameters(self, machine: Path) -> Mapping[str, str]:  # noqa: ARG002  # the same for all
        return {"evident.tee": "hardware", "evident.network": "dhcp"}

    def room(self, machine: Path, order: Order) -> bool:  # noqa: ARG002  # the cloud has room, or says so when it is asked for a machine
        return True

    def launch(self, machine: Path, order: Order) -> Expectation:
        _check(order)
        wanted = _kept(order)
        if (machine / WHERE).exists() and _read(machine).order != wanted.order:
            self._surroundings.progress("another order than before: removing what was made for that")
            self.destroy(machine)
        write_private(machine / WHERE, codec.encode(wanted))  # without it nobody would know where to look for what the journal names
        cloud, stock = self._opened(machine, wanted)
        write_private(machine / WHERE, codec.encode(replace(wanted, machine=cloud.launch(stock, order))))
        references = order.references or ReferenceSet(1, (), "none given")
        return Expectation(references, _policy(self._platform, references))

    def settle(self, machine: Path) -> None:
        host = self._address(machine)
        self._surroundings.progress(f"the machine runs at {host}; waiting for its agent")
        self._patience.until("waiting for the agent", lambda: agent.listens(host, AGENT_PORT) or None, within=BOOT_SECONDS)

    def start(self, machine: Path) -> None:
        kept = _read(machine)
        self._opened(machine, kept)[0].start(_running(kept))

    def halt(self, machine: Path) -> None:
        if not (machine / WHERE).exists():
            return  # nothing was asked for yet
        kept = _read(machine)
        cloud, stock = self._opened(machine, kept)
        if kept.machine is None:
            stock.destroy()  # whatever a launch that never ended has left there
        else:
            cloud.stop(kept.machine)

    def collect(self, machine: Path, nonce: bytes) -> Collected:
        return agent.ask(self._address(machine), AGENT_PORT, nonce)

    def believed(self, machine: Path) -> Believed:  # noqa: ARG002  # nobody beyond the production roots, whatever the machine
        return Believed()

    def endorsement_key(self, machine: Path) -> NamedKey | None:
        kept = _read(machine)
        return self._named(kept.where, self._patience, _running(kept)) if self._named else None

    def parts(self, machine: Path) -> Mapping[str, bool]:  # noqa: ARG002  # nothing runs on this host
        return {}

    def addresses(self, machine: Path) -> Mapping[int, str]:
        host = self._address(machine)
        return {each.port: f"{host}:{each.port}" for each in _read(machine).openings if (each.direction, each.protocol) == ("in", "tcp")}

    def survey(self, machine: Path) -> Survey:
        """What the cloud shows of the deployment, held against the journal; nothing is changed."""
        return self._opened(machine, _read(machine))[1].survey()

    def destroy(self, machine: Path) -> None:
        if (machine / WHERE).exists():
            self._opened(machine, _read(machine))[1].destroy()
        if machine.exists():
            shutil.rmtree(machine)

    def _opened(self, machine: Path, kept: _Kept) -> tuple[CloudPlatform, Stock]:
        around = self._surroundings
        cloud = self._connect(kept.where, self._patience)
        journal = ResourceJournal(machine / JOURNAL, around.clock)
        return cloud, Stock(whose(machine), journal, cloud, self._patience, around.randomness)

    def _address(self, machine: Path) -> str:
        kept = _read(machine)
        return self._connect(kept.where, self._patience).address(_running(kept))


def _read(machine: Path) -> _Kept:
    return codec.decode(_Kept, codec.loads(read_private(machine / WHERE), "machine"), "machine")


def _running(kept: _Kept) -> str:
    if kept.machine is None:
        raise Indeterminate.of(
            "cloud.not-launched", expected="a machine that runs", found="a launch that never ended", remedy="Repeat `evident up`."
        )
    return kept.machine


def _kept(order: Order) -> _Kept:
    with Path(order.disks[0].path).open("rb") as stream:
        image = hashlib.file_digest(stream, "sha256").hexdigest()
    bought = {
        "image": image,
        "where": dict(order.where),
        "technology": order.technology,
        "openings": codec.encode(order.openings),
        "vcpus": order.vcpus,
        "memory": order.memory_mib,
    }
    digest = hashlib.sha256(json.dumps(bought, sort_keys=True).encode()).digest()
    return _Kept(1, order.where, order.technology, order.openings, digest)


def _check(order: Order) -> None:
    """What no cloud boots, in our words instead of theirs."""
    if order.attack is not None:
        raise UsageError.of("cloud.attack", expected="no attack", found=repr(order.attack), remedy="Attacks are for --platform simulated.")
    if order.firmware or order.kernel or order.initrd or order.command_line:
        raise Unsupported.of(
            "cloud.direct-boot",
            expected="a disk that boots by itself: an image of `evident image build`",
            found="firmware, kernel, initrd or a command line",
            remedy="A cloud brings its own firmware and boots from a disk only: give the image instead.",
        )
    if not order.disks or not Path(order.disks[0].path).is_file():
        raise UsageError.of(
            "cloud.disk",
            expected="a raw disk image to boot from",
            found=order.disks[0].path if order.disks else "none",
            remedy="Build one with `evident image build`.",
        )
    if len(order.disks) > 1:
        raise Unsupported.of(
            "cloud.data-disk",
            expected="one disk",
            found=f"{len(order.disks)}",
            remedy="Data disks exist on qemu only, so far: leave them out.",
        )
    if not any((each.direction, each.protocol, each.port) == ("in", "tcp", AGENT_PORT) for each in order.openings):
        raise UsageError.of(
            "cloud.agent-port",
            expected=f"an opening for TCP port {AGENT_PORT}, where the agent answers challenges",
            found="none: it could never be attested",
            remedy="Open it to the network that you attest from.",
        )


def _policy(platform: str, references: ReferenceSet) -> Policy:
    """Strict, and demanding what the reference values settle; whom that takes to be believed is the owner's to accept."""
    settled = max(level(references.values), RequiredLevels().nominal)
    return Policy(version=1, name=f"{platform}, strict", levels=RequiredLevels(nominal=settled))
