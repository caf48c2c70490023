"""Confidential VMs on Google Cloud. `evident.platforms.cloud_driver` does the driving, `executor` the talking."""

from __future__ import annotations

from collections.abc import Mapping

from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Surroundings
from evident.platforms.gcp.clients import connect
from evident.platforms.gcp.executor import Gcp


def driver(surroundings: Surroundings) -> CloudDriver:
    return CloudDriver(surroundings, "gcp", cloud)


def cloud(where: Mapping[str, str], patience: Patience) -> Gcp:
    """The project and zone of `where`, with the credentials that the SDK finds."""
    return Gcp(connect(where.get("project"), where["zone"]), patience)
