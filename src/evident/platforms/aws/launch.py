"""Confidential VMs on AWS EC2. `evident.platforms.cloud_driver` does the driving, `executor` the talking."""

from __future__ import annotations

from collections.abc import Mapping

from evident.platforms.aws.clients import connect
from evident.platforms.aws.executor import Aws
from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Surroundings
from evident.verification.credential import NamedKey


def driver(surroundings: Surroundings) -> CloudDriver:
    return CloudDriver(surroundings, "aws", cloud, named)


def cloud(where: Mapping[str, str], patience: Patience) -> Aws:
    """AWS in the region of `where`, with the credentials that the SDK finds."""
    return Aws(connect(where.get("region")), patience)


def named(where: Mapping[str, str], patience: Patience, machine: str) -> NamedKey:
    """The endorsement key that AWS names for the machine's NitroTPM, which runs in its hypervisor."""
    return NamedKey(cloud(where, patience).ek_pub(machine), "AWS", "hypervisor")
