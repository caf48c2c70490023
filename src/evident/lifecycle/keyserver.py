"""The key server of one deployment: a process of its own that releases its disk key and secrets to the attested machine alone.

    python -m evident.lifecycle.keyserver --state DIRECTORY --cache DIRECTORY NAME

It listens on 127.0.0.1, at a port that it writes where the platform looks for it (`evident.platforms.driver.PORT_FILE`), and decides
by the deployment's own policy and reference values. Every decision is in the release log before it takes effect; what an accepted machine
proved goes into the deployment's journal. Where its machines ask by their SVIDs (`evident.lifecycle.enrolment`), it has one itself, and
writes for the platform where spire-server is (`SPIRE_FILE`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from evident.appraisal.statement import TrustStatement
from evident.endorsements import anchors
from evident.endorsements.cache import Cache
from evident.endorsements.http import real_world, standard_fetcher
from evident.endorsements.prefetch import remember_crls
from evident.errors import UsageError
from evident.files import write_private_bytes
from evident.keys.release import ReleaseService, Surety
from evident.keys.server import KeyServer
from evident.keys.store import Held, RootVolume, VolumeStore, unknown_disk
from evident.lifecycle import enrolment, key_place, keystore, quarantine
from evident.lifecycle.answers import levels, state_after
from evident.lifecycle.challenges import Challenges
from evident.lifecycle.deployment import AT_BOOT, Deployment, deployment
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.lifecycle.own_svid import OwnSvid
from evident.platforms import registry
from evident.platforms.driver import PORT_FILE, SPIRE_FILE, Surroundings
from evident.processes import Process, output, recorded, start
from evident.reference_values import programs
from evident.reference_values.model import ReferenceSet, by_tpm

ROLE: Final = "keyserver"
START_SECONDS: Final = 60.0
UNSTARTED: Final = "keys.server"
"""Code of the error of one that does not come up."""


def register(target: Deployment, disk: DiskKey) -> None:
    """Store what its machine gets under the deployment's terms: reference values, levels and identities of its policy, and a TPM's quote
    where there are reference values for PCRs or for what is loaded; and enrol a machine that asks by its SVID. Keys of its earlier disks
    go: those disks are no more. A revoked one stays on record as such, and the deployment's other machines keep theirs.
    """
    key_place.remember(target)
    store, policy = keystore.open_store(target.surroundings), target.policy
    asks = disk.by_svid
    kept = {each.number for each in target.machines()} - {target.number}
    for earlier in store.volumes.disks_under(target.name):
        if earlier != disk.disk and store.volumes.get(earlier).machine not in kept:
            forget(target, earlier)
    references, levels = target.references, policy.levels
    beside: tuple[Literal["tpm"], ...] = ("tpm",) if by_tpm(references.values) or programs.among(references.values) else ()
    volume = RootVolume(
        1,
        disk.disk,
        target.name,
        nominal=levels.nominal,
        trustworthy=levels.trustworthy,
        identities=policy.allowed_identities,
        beside=beside,
        root_hash=disk.root_hash,
        secrets=tuple(sorted(disk.secrets)),
        machine=target.number,
        spiffe_id=str(enrolment.asking(target, asks.trust_domain)) if asks else None,
    )
    store.volumes.put_references(target.name, references)
    store.volumes.put(volume)
    store.secrets.put(volume, Held(disk.key, disk.secrets))
    if asks:
        enrolment.enrol(target, disk.disk, asks)


def forget(target: Deployment, disk: str) -> None:
    """Have the name of its machine given to nobody any more, delete the key of `disk`, then its terms unless it was revoked: as long as
    there is a key, it is known whose.
    """
    key_place.check(target)
    enrolment.remove(target, disk)
    keystore.deletion(target.surroundings)(disk)
    volumes = VolumeStore(keystore.directory(target.surroundings))
    if ("disk", disk) not in {(each.name, each.value) for each in volumes.revocations()}:
        volumes.delete(disk)


def forget_machine(machine: Deployment) -> None:
    """`forget` all that was registered for this one machine of its deployment."""
    volumes = VolumeStore(keystore.directory(machine.surroundings))
    for disk in volumes.disks_under(machine.name):
        if volumes.get(disk).machine == machine.number:
            forget(machine, disk)


def registered(target: Deployment) -> bool:
    """Whether a disk of `target` is under its terms: then a machine of it asks for a key."""
    return bool(VolumeStore(keystore.directory(target.surroundings)).disks_under(target.name))


def begin(target: Deployment, cache: Path, listen: int | None = None) -> Process:
    """Start the process, at TCP port `listen` of all addresses of this host, or at a free one of 127.0.0.1.

    Raises `UsageError` ``keys.server`` when it does not come up, and what `enrolment.served_by` does.
    """
    enrolment.served_by(target)
    words = ["--state", str(target.surroundings.state.resolve()), "--cache", str(cache.resolve()), target.name]
    if listen is not None:
        words += ["--listen", str(listen)]
    if target.surroundings.wrapping_key is not None:
        words += ["--wrapping-key", str(target.surroundings.wrapping_key.resolve())]
    if target.surroundings.vault is not None:
        words += ["--vault", str(target.surroundings.vault.resolve())]
    if target.surroundings.spire is not None:
        words += ["--spire", str(target.surroundings.spire.resolve())]
    port = target.machine / PORT_FILE
    port.unlink(missing_ok=True)
    process = start(target.directory, ROLE, (sys.executable, "-P", "-m", "evident.lifecycle.keyserver", *words))
    waited = 0.0
    while not port.exists():
        if process.wait(0.05) or waited > START_SECONDS:
            raise UsageError.of(
                UNSTARTED,
                expected="the key server to start",
                found=output(target.directory, ROLE) or "that it ended, or said nothing",
                remedy=f"See {target.directory / ROLE}.log, then `evident up` again. A port in use: end what uses it, or choose another.",
            )
        waited += 0.05
    return process


def end(target: Deployment) -> None:
    """Stop it, where it runs."""
    for process in recorded(target.directory):
        process.stop()


class _Terms(VolumeStore):
    """What this server releases: the disks of its own deployment, under the reference values in force now; none in quarantine, and none
    of a machine whose window is over. Another deployment's disk is unknown here, for it would be judged by the wrong policy.
    """

    def __init__(self, target: Deployment) -> None:
        super().__init__(keystore.directory(target.surroundings))
        self._target = target

    def get(self, disk: str) -> RootVolume:
        volume = super().get(disk)
        known = self._target.generations
        over = volume.machine in known.replaced and self._target.surroundings.clock() >= known.replaced[volume.machine]
        if volume.reference_set != self._target.name or over:
            raise unknown_disk(disk)
        if volume.machine == known.charge:
            quarantine.check(self._target)
        return volume

    def references(self, name: str) -> ReferenceSet:
        return self._target.references if name == self._target.name else super().references(name)


def service(target: Deployment, cache: Path) -> ReleaseService:
    """What decides on releases for `target`, by the policy of the machine that it is seen through."""
    key_place.check(target)
    around = target.surroundings
    store, believed, stored = keystore.open_store(around), target.driver().believed(target.machine), Cache(cache)
    trusted = anchors.production().plus(*believed.anchors)
    surety = Surety(
        anchors=trusted,
        fetcher=believed.fetcher or standard_fetcher(stored, real_world()),
        policy=target.policy,
        profile=registry.profile(target.driver().profile(target.machine), around.clock().date()),
        unsafe=believed.unsafe,
        crl_floors=stored.crl_floors,
        remember=lambda fetched, pieces: remember_crls(stored, fetched, trusted, pieces),
    )
    challenges = Challenges(around.state / "challenges", clock=around.clock, randomness=around.randomness)

    def proved(disk: str, statement: TrustStatement) -> None:
        """What is not accepted may be a stranger's: it counts for no more than the first word after the launch."""
        if store.volumes.get(disk).machine != target.generations.charge:
            return  # an update judges its machine by itself
        if statement.decision != "accepted" and target.journal.state is not State.LAUNCHED:
            return
        quarantine.check(target)  # it may have begun while this was judged
        target.record(state_after(statement.decision), decision=statement.decision, code=statement.code, at=AT_BOOT, **levels(statement))

    return ReleaseService(
        _Terms(target),
        store.secrets,
        surety=surety,
        challenges=challenges,
        log=store.log,
        signer=store.releaser.private,
        clock=around.clock,
        on_statement=proved,
    )


def serve(target: Deployment, cache: Path, listen: int | None = None) -> None:
    """Serve until this process is ended; `listen` as for `begin`. While a machine is being made, its policy is in force."""
    known = target.generations
    target = target.at(known.coming.number if known.coming else known.charge)
    at = ("127.0.0.1", 0) if listen is None else ("0.0.0.0", listen)  # noqa: S104  # a machine in a cloud reaches it from outside
    say: Callable[[str], None] = lambda text: print(text, flush=True)  # noqa: E731, T201  # its log
    spire = enrolment.served_by(target)
    with KeyServer(at, service(target, cache), on_event=say, tls=OwnSvid(spire, say=say) if spire else None) as server:
        for each in target.machines():
            if each.machine.exists():
                if spire:
                    write_private_bytes(each.machine / SPIRE_FILE, spire.server.encode())
                write_private_bytes(each.machine / PORT_FILE, str(server.server_address[1]).encode())
        server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--listen", type=int)
    parser.add_argument("--wrapping-key", type=Path)
    parser.add_argument("--vault", type=Path)
    parser.add_argument("--spire", type=Path)
    parser.add_argument("name")
    given = parser.parse_args()
    say: Callable[[str], None] = lambda text: print(text, flush=True)  # noqa: E731, T201  # its log
    own = Surroundings(given.state, lambda: datetime.now(UTC), os.urandom, say, given.wrapping_key, given.vault, given.spire)
    serve(deployment(given.name, own), given.cache, given.listen)
