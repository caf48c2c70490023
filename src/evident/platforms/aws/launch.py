"""Confidential VMs on AWS EC2. `evident.platforms.cloud_driver` does the driving, `executor` the talking."""

from __future__ import annotations

from collections.abc import Mapping

from evident.platforms.aws.clients import connect
from evident.platforms.aws.executor import Aws
from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Surroundings


def driver(surroundings: Surroundings) -> CloudDriver:
    return CloudDriver(surroundings, "aws", cloud)


def cloud(where: Mapping[str, str], patience: Patience) -> Aws:
    """AWS in the region of `where`, with the credentials that the SDK finds."""
    return Aws(connect(where.get("region")), patience)
