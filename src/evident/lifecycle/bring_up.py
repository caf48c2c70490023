"""From nothing to a machine that runs its workload: launch, key server, boot; and another image in its place.

    up(target, "qemu", order, disk=DiskKey(...), cache=...)

1. the deployment is created (`deployment.up`)
2. the disk's key is registered under the deployment's terms, and its key server started, where there is a disk to open
3. the guest boots; each step is told of, and what ends it early is raised
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from evident import codec
from evident.appraisal.policy import Policy
from evident.files import write_private, write_private_bytes
from evident.lifecycle import deployment, keyserver
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import DiskKey
from evident.platforms.driver import Order
from evident.reference_values import documents


@dataclass(frozen=True, slots=True)
class Release:
    """A disk that opens after attestation."""

    disk: DiskKey
    cache: Path
    """Of endorsements, for the key server."""


def up(target: Deployment, platform: str, order: Order, *, policy: Policy | None = None, release: Release | None = None) -> None:
    """Create `target` and wait until it has booted. Raises what the platform refuses, and what ended the boot."""
    deployment.up(target, platform, order, policy=policy)
    _boot(target, release)


def update(target: Deployment, order: Order, *, window: timedelta, policy: Policy | None = None, release: Release | None = None) -> None:
    """Put a machine of another image in the place of the one that runs.

    For `window` the old reference values are accepted beside the new ones, by `attest` and by the key server, so that nothing that still
    runs the old image is cut off; after it, the new ones alone are.
    """
    driver = target.driver()
    with target.exclusive():
        until = target.surroundings.clock() + window
        retired = deployment.Retired(1, until, target.references)
        target.record(State.UPDATING, until=codec.format_time(until))
        keyserver.end(target)
        write_private(target.directory / deployment.RETIRED, codec.encode(retired))
        expectation = driver.launch(target.machine, order)
        write_private_bytes(target.directory / "references.json", documents.dump(expectation.references))
        write_private(target.directory / "policy.json", codec.encode(policy or expectation.policy))
        target.record(State.LAUNCHED)
    _boot(target, release)


def _boot(target: Deployment, release: Release | None) -> None:
    if release is not None:
        keyserver.register(target, release.disk)
        keyserver.begin(target, release.cache)
    target.driver().settle(target.machine)
